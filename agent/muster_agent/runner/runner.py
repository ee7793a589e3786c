"""The models of this device: preflight, activation beside the running version, prediction, stop.

One ``Runner`` serves every model. A prediction takes no lock of its own; a version is replaced by one
assignment, after the new one is warm, and the old one is let go when its last call has returned.
"""

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muster_agent.runner.engines import Engines
from muster_agent.runner.inline import InlineModel
from muster_agent.runner.job import Verdict, job_of
from muster_agent.runner.processor import process_clock
from muster_agent.runner.shadow import OnCall, Shadowed, Shadowing, Terms, Told
from muster_agent.runner.stopped import StoppedModel
from muster_agent.runner.watch import Watch
from muster_agent.runner.worker import GoneError, WorkerModel
from muster_agent.runner.zygote import Zygote
from muster_models.engine import CPU, CPU_ALONE, EngineOptions
from muster_models.errors import MusterError, PredictionError, Reason
from muster_models.manifest import Manifest, RuntimeKind
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import ShadowCounts

Array = NDArray[np.generic]
Outputs = dict[str, Array]
Model = WorkerModel | InlineModel | StoppedModel
# (model, digest, reason, detail); called in a thread of the runner, which may be called back.
OnFailure = Callable[[str, str, Reason, str], None]
# (model, digest of the version that answers, counts of the candidate beside it); in a thread of the shadow.
OnCompared = Callable[[str, str, ShadowCounts], None]

_log = logging.getLogger(__name__)
_DRAIN_SECONDS = 1.0  # to wait for the last call of a candidate in shadow
_clock = time.perf_counter


class Isolation(StrEnum):
    """Where models run: in a confined process of their own, or in the process of the caller."""

    PROCESS = "process"
    INLINE = "inline"


@dataclass(frozen=True)
class Patience:
    """How long the runner waits and how often it tries again.

    Attributes:
        call: Seconds that one call of a worker may take.
        replacement: Seconds after a worker's end during which calls wait for another one.
        restarts: Times that a committed version's worker is started again within ``restart_period`` seconds.
    """

    call: float = 10.0
    replacement: float = 3.0
    restarts: int = 3
    restart_period: float = 60.0


class Serving(Struct, frozen=True):
    """A model as it answers now.

    Attributes:
        stopped: It answers with the declared fallback, by order.
        alive: It can answer.
        shadow: What is asked beside it, unseen; None where nothing is.
        engine, lacking: What it runs on, and why on nothing better that the device asks for.
    """

    manifest: Manifest
    digest: str
    stopped: bool
    alive: bool
    shadow: Shadowed | None = None
    engine: str = CPU
    lacking: str = ""


@dataclass(eq=False)
class _Slot:
    """What answers for one model; ``predict`` is kept apart because it is asked for on every call."""

    verified: VerifiedManifest
    folder: Path | None
    answering: Model
    tell: OnCall
    committed: bool = False
    failed_at: float | None = None
    is_gone: bool = False
    absent: float | None = None  # seconds for which calls wait, because it was stopped to make room
    name: str = field(init=False)
    digest: str = field(init=False)
    predict: Callable[[Mapping[str, Array]], Outputs] = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.verified.manifest.model
        self.digest = self.verified.digest
        self.predict = self.answering.predict


class Runner:
    """Runs one version of each model. Every method may be called from any thread.

    Args:
        zygote: Where children come from; it stays the caller's to close.
        isolation: Where models answer; preflight always has a child of its own.
        on_failure: Told when a version can no longer answer: on probation at once, afterwards when starting
            its worker again did not help.
        on_restart: Told when a committed version's worker ended and was started again.
        on_call: Told about every call of a model that is not stopped, in the caller's thread; must be quick
            and must not raise.
        on_compared: Told what a candidate in shadow answered, some times a second.
        on_shadow_failure: Told once when a candidate failed in shadow.
        engine: What the device asks for beside the CPU.
    """

    def __init__(
        self,
        zygote: Zygote,
        *,
        on_failure: OnFailure,
        on_restart: OnFailure | None = None,
        on_call: OnCall | None = None,
        on_compared: OnCompared | None = None,
        on_shadow_failure: OnFailure | None = None,
        isolation: Isolation = Isolation.PROCESS,
        patience: Patience = Patience(),
        engine: EngineOptions = CPU_ALONE,
    ) -> None:
        self._zygote = zygote
        self._engines = Engines(zygote, engine)
        self._isolation = isolation
        self._on_failure = on_failure
        self._on_restart = on_restart or _nothing
        self._on_call = on_call or _nothing
        self._on_compared = on_compared or _nothing
        self._on_shadow_failure = on_shadow_failure or _nothing
        self._patience = patience
        self._shadows: dict[str, Shadowing] = {}
        self._slots: dict[str, _Slot] = {}
        self._changing: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._changed = threading.Condition()
        self._restarts: defaultdict[str, deque[float]] = defaultdict(deque)
        self._watch: Watch[_Slot] = Watch(self._ended)

    def preflight(self, verified: VerifiedManifest, folder: Path) -> Verdict:
        """Return whether a version may be activated.

        Nothing that runs is touched, unless the version declares that it needs the room: then what runs is
        stopped meanwhile, and calls wait.

        Args:
            verified: The version.
            folder: A private folder with the version's files under their plain names.
        """
        job = job_of(verified, folder, call_seconds=self._patience.call)
        if not _needs_room(verified):
            return self._engines.preflight(verified.digest, job)
        model = verified.manifest.model
        with self._changing[model]:
            stopped = self._make_room(model, verified.manifest)
            try:
                return self._engines.preflight(verified.digest, job)
            finally:
                self._bring_back(stopped)

    def activate(self, verified: VerifiedManifest, folder: Path) -> None:
        """Load a version beside the one that runs, then let it answer instead; no call fails meanwhile.

        One that declares ``stop-then-load`` is loaded after the other was stopped; calls wait meanwhile. The
        version is on probation until ``commit``: when its worker ends, it is reported and not restarted.

        Raises:
            FitError: Its engine cannot be used here.
            PredictionError: It does not load; the version that ran goes on answering.
        """
        model = verified.manifest.model
        with self._changing[model]:
            stopped = self._make_room(model, verified.manifest) if _needs_room(verified) else None
            try:
                answering = self._load(verified, folder)
            except MusterError:
                self._bring_back(stopped)
                raise
            self._swap(model, _Slot(verified, folder, answering, self._on_call))

    def commit(self, model: str) -> None:
        """End the probation of what runs now: from here on its worker is started again when it ends."""
        slot = self._slots.get(model)
        if slot is not None:
            slot.committed = True

    def begin_shadow(
        self, verified: VerifiedManifest, folder: Path, terms: Terms, *, ended: Callable[[], None]
    ) -> None:
        """Load a version, and ask it what ``terms.beside`` is asked; nobody is given its answers.

        One that is in shadow already is let go. The candidate runs as it would if it answered.

        Args:
            verified: The version.
            folder: A private folder with the version's files, used until ``ended`` is called.
            terms: What is compared, how often, and how much of a processor that may take.
            ended: Called when it was let go; not where this raises.

        Raises:
            FitError: Its engine cannot be used here.
            PredictionError: It does not load.
        """
        model = verified.manifest.model
        self.end_shadow(model)
        candidate = self._load(verified, folder)
        told = Told(
            compared=lambda counts: self._on_compared(model, terms.beside, counts),
            failed=lambda error: self._on_shadow_failure(model, terms.digest, error.reason, str(error)),
            ended=ended,
        )
        processor = process_clock(candidate.process) if isinstance(candidate, WorkerModel) else None
        shadow = Shadowing(candidate, terms, told, processor=processor)
        shadow.start()
        with self._changing[model]:
            self._shadows[model] = shadow
            self._tell_shadow(model)

    def end_shadow(self, model: str) -> None:
        """Let the version go that is in shadow; nothing happens where there is none."""
        with self._changing[model]:
            shadow = self._shadows.pop(model, None)
            self._tell_shadow(model)
        if shadow is not None:
            shadow.end(_DRAIN_SECONDS)

    def stop(self, verified: VerifiedManifest) -> None:
        """Let the declared fallback answer until the next ``activate``; nothing is loaded for it."""
        model = verified.manifest.model
        with self._changing[model]:
            # Nobody is told about its calls: a fallback is no prediction, and must not look like drift.
            self._swap(model, _Slot(verified, None, StoppedModel(verified.manifest), _nothing))

    def remove(self, model: str) -> None:
        """Stop answering for a model."""
        self.end_shadow(model)
        with self._changing[model]:
            self._swap(model, None)

    def predict(self, model: str, inputs: Mapping[str, Array]) -> Outputs:
        """Return every output of a model by name.

        Raises:
            PredictionError: No version runs, the inputs do not fit, or the answer failed.
        """
        while True:
            slot = self._slots.get(model)
            if slot is None:
                raise PredictionError(Reason.LOAD_FAILED, f"no version of {model!r} runs here")
            began = _clock()
            try:
                outputs = slot.predict(inputs)
            except GoneError as error:
                if not self._await_replacement(slot):
                    slot.tell(model, slot.digest, inputs, None, _clock() - began, error)
                    raise
            except PredictionError as error:
                slot.tell(model, slot.digest, inputs, None, _clock() - began, error)
                raise
            else:
                slot.tell(model, slot.digest, inputs, outputs, _clock() - began, None)
                return outputs

    def serving(self) -> dict[str, Serving]:
        """Return what answers now, by model."""
        return {model: self._serving(slot) for model, slot in tuple(self._slots.items())}

    def served(self, model: str) -> Serving | None:
        """Return what answers for a model now; None where nothing does."""
        slot = self._slots.get(model)
        return None if slot is None else self._serving(slot)

    def lacking(self) -> Mapping[RuntimeKind, str]:
        """Return why the CPU answers where the device asks for something else, by kind of engine."""
        return self._engines.lacking()

    def close(self) -> None:
        """Let every version go, each after the call that is under way."""
        self._watch.close()
        for model in tuple(self._slots):
            self.remove(model)

    def _serving(self, slot: _Slot) -> Serving:
        engine = self._engines.of(slot.digest)
        return Serving(
            manifest=slot.verified.manifest,
            digest=slot.digest,
            stopped=isinstance(slot.answering, StoppedModel),
            alive=slot.answering.failure is None and not slot.is_gone,
            engine=engine.name,
            lacking=engine.lacking,
            shadow=self._shadowed(slot.name),
        )

    def _load(self, verified: VerifiedManifest, folder: Path) -> WorkerModel | InlineModel:
        job = self._engines.proven(
            verified.digest, job_of(verified, folder, call_seconds=self._patience.call)
        )
        match self._isolation:
            case Isolation.PROCESS:
                return WorkerModel(self._zygote.bear("worker", job))
            case Isolation.INLINE:
                return InlineModel(job)

    def _swap(self, model: str, slot: _Slot | None) -> None:
        old = self._slots.get(model)
        if slot is None:
            self._slots.pop(model, None)
        else:
            self._slots[model] = slot
            self._tell_shadow(model)
            if isinstance(slot.answering, WorkerModel):
                self._watch.add(slot.answering.process, slot)
        with self._changed:
            self._changed.notify_all()
        if old is not None:
            self._let_go(old)

    def _tell_shadow(self, model: str) -> None:
        """Have the calls of what answers told to the shadow beside it as well, where there is one."""
        slot, shadow = self._slots.get(model), self._shadows.get(model)
        if slot is None or isinstance(slot.answering, StoppedModel):
            return
        is_beside = shadow is not None and shadow.terms.beside == slot.digest
        slot.tell = shadow.beside(self._on_call) if shadow and is_beside else self._on_call

    def _shadowed(self, model: str) -> Shadowed | None:
        shadow = self._shadows.get(model)
        return None if shadow is None else Shadowed(shadow.terms.version, shadow.total)

    def _make_room(self, model: str, coming: Manifest) -> _Slot | None:
        """Stop what answers for a model, and have its calls wait; return it, or None where nothing did."""
        old = self._slots.get(model)
        if old is None or isinstance(old.answering, StoppedModel) or old.answering.failure is not None:
            return None
        old.absent = coming.budget.load_seconds + self._patience.replacement
        self._let_go(old)
        return old

    def _bring_back(self, old: _Slot | None) -> None:
        """Load again what was stopped to make room."""
        if old is None or old.folder is None:
            return
        try:
            answering = self._load(old.verified, old.folder)
        except MusterError as error:
            old.absent = None
            self._on_failure(old.name, old.digest, error.reason, f"it did not come back: {error}")
            return
        self._swap(
            old.name, _Slot(old.verified, old.folder, answering, self._on_call, committed=old.committed)
        )

    def _let_go(self, old: _Slot) -> None:
        if old.is_gone:
            return
        old.is_gone = True
        match old.answering:
            case WorkerModel() as worker:
                self._watch.forget(worker.process)
                worker.close()
            case InlineModel() as inline:
                inline.close()
            case StoppedModel():
                return

    def _await_replacement(self, slot: _Slot) -> bool:
        """Wait a while for something else to answer for the model of ``slot``, and tell whether it does."""
        slot.failed_at = slot.failed_at or time.monotonic()
        patience = self._patience.replacement if slot.absent is None else slot.absent
        left = slot.failed_at + patience - time.monotonic()
        with self._changed:
            return self._changed.wait_for(lambda: self._slots.get(slot.name) is not slot, max(left, 0))

    def _ended(self, slot: _Slot) -> None:
        """Start the worker of a slot again where that is due, and report it where it is not."""
        assert isinstance(slot.answering, WorkerModel)
        error = slot.answering.give_up()
        with self._changing[slot.name]:
            if self._slots.get(slot.name) is not slot or slot.is_gone:
                return
            restarted = self._restart(slot, error)
        tell = self._on_restart if restarted else self._on_failure
        tell(slot.name, slot.digest, error.reason, str(error))

    def _restart(self, slot: _Slot, error: PredictionError) -> bool:
        assert slot.folder is not None
        while self._may_restart(slot, error):
            try:
                answering = self._load(slot.verified, slot.folder)
            except MusterError as refused:
                _log.warning("starting %s again failed: %s", slot.verified.manifest.name, refused)
                continue
            again = _Slot(slot.verified, slot.folder, answering, self._on_call, committed=slot.committed)
            self._swap(slot.name, again)
            return True
        return False

    def _may_restart(self, slot: _Slot, error: PredictionError) -> bool:
        """Tell whether a worker is started again; its first time on the CPU alone does not count.

        On probation that is the only time: an accelerator is no fault of the version, anything else may be.
        """
        if slot.committed and self._counts(slot.digest):
            return True
        if not self._engines.leave(slot.digest, f"{error.reason}: {error}"):
            return False
        _log.warning("%s goes on on the CPU: %s", slot.verified.manifest.name, error)
        self._restarts.pop(slot.digest, None)
        return True

    def _counts(self, digest: str) -> bool:
        times, now = self._restarts[digest], time.monotonic()
        while times and times[0] <= now - self._patience.restart_period:
            times.popleft()
        if len(times) >= self._patience.restarts:
            return False
        times.append(now)
        return True


def _needs_room(verified: VerifiedManifest) -> bool:
    return verified.manifest.budget.swap == "stop-then-load"


def _nothing(*_: object) -> None:
    """Tell nobody."""

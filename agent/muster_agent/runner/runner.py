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
from numpy.typing import NDArray

from muster_agent.runner.inline import InlineModel
from muster_agent.runner.job import Verdict, job_of
from muster_agent.runner.stopped import StoppedModel
from muster_agent.runner.watch import Watch
from muster_agent.runner.worker import GoneError, WorkerModel
from muster_agent.runner.zygote import Zygote
from muster_models.errors import MusterError, PredictionError, Reason
from muster_models.manifest import Manifest
from muster_models.trust.verified import VerifiedManifest

Array = NDArray[np.generic]
Outputs = dict[str, Array]
Model = WorkerModel | InlineModel | StoppedModel
# (model, digest, inputs, outputs or None, seconds, error or None); called in the caller's thread.
OnCall = Callable[[str, str, Mapping[str, Array], Outputs | None, float, PredictionError | None], None]
# (model, digest, reason, detail); called in a thread of the runner, which may be called back.
OnFailure = Callable[[str, str, Reason, str], None]

_log = logging.getLogger(__name__)
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


@dataclass(frozen=True)
class Serving:
    """A model as it answers now.

    Attributes:
        stopped: It answers with the declared fallback, by order.
        alive: It can answer.
    """

    manifest: Manifest
    digest: str
    stopped: bool
    alive: bool


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
    """

    def __init__(
        self,
        zygote: Zygote,
        *,
        on_failure: OnFailure,
        on_restart: OnFailure | None = None,
        on_call: OnCall | None = None,
        isolation: Isolation = Isolation.PROCESS,
        patience: Patience = Patience(),
    ) -> None:
        self._zygote = zygote
        self._isolation = isolation
        self._on_failure = on_failure
        self._on_restart = on_restart or _nothing
        self._on_call = on_call or _nothing
        self._patience = patience
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
            return self._zygote.preflight(job)
        model = verified.manifest.model
        with self._changing[model]:
            stopped = self._make_room(model, verified.manifest)
            try:
                return self._zygote.preflight(job)
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

    def stop(self, verified: VerifiedManifest) -> None:
        """Let the declared fallback answer until the next ``activate``; nothing is loaded for it."""
        model = verified.manifest.model
        with self._changing[model]:
            # Nobody is told about its calls: a fallback is no prediction, and must not look like drift.
            self._swap(model, _Slot(verified, None, StoppedModel(verified.manifest), _nothing))

    def remove(self, model: str) -> None:
        """Stop answering for a model."""
        with self._changing[model]:
            self._swap(model, None)

    def predict(self, model: str, inputs: Mapping[str, Array]) -> Outputs:
        """Return every output of a model by name.

        Raises:
            PredictionError: No version runs, the inputs do not fit, or the answer failed.
        """
        slot = self._slots.get(model)
        if slot is None:
            raise PredictionError(Reason.LOAD_FAILED, f"no version of {model!r} runs here")
        began = _clock()
        try:
            outputs = slot.predict(inputs)
        except GoneError as error:
            if self._await_replacement(slot):
                return self.predict(model, inputs)
            slot.tell(model, slot.digest, inputs, None, _clock() - began, error)
            raise
        except PredictionError as error:
            slot.tell(model, slot.digest, inputs, None, _clock() - began, error)
            raise
        slot.tell(model, slot.digest, inputs, outputs, _clock() - began, None)
        return outputs

    def serving(self) -> dict[str, Serving]:
        """Return what answers now, by model."""
        return {
            model: Serving(
                manifest=slot.verified.manifest,
                digest=slot.digest,
                stopped=isinstance(slot.answering, StoppedModel),
                alive=slot.answering.failure is None and not slot.is_gone,
            )
            for model, slot in tuple(self._slots.items())
        }

    def close(self) -> None:
        """Let every version go, each after the call that is under way."""
        self._watch.close()
        for model in tuple(self._slots):
            self.remove(model)

    def _load(self, verified: VerifiedManifest, folder: Path) -> Model:
        job = job_of(verified, folder, call_seconds=self._patience.call)
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
            if isinstance(slot.answering, WorkerModel):
                self._watch.add(slot.answering.process, slot)
        with self._changed:
            self._changed.notify_all()
        if old is not None:
            self._let_go(old)

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
            restarted = slot.committed and self._restart(slot)
        tell = self._on_restart if restarted else self._on_failure
        tell(slot.name, slot.digest, error.reason, str(error))

    def _restart(self, slot: _Slot) -> bool:
        assert slot.folder is not None
        while self._may_restart(slot.digest):
            try:
                answering = self._load(slot.verified, slot.folder)
            except MusterError as error:
                _log.warning("starting %s again failed: %s", slot.verified.manifest.name, error)
                continue
            self._swap(slot.name, _Slot(slot.verified, slot.folder, answering, self._on_call, committed=True))
            return True
        return False

    def _may_restart(self, digest: str) -> bool:
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

"""A candidate in shadow: it is asked what the current version was asked, compared, and let go.

Nothing here is in the path of an answer. A call of the current version, once it has its answer, offers a copy
of what went in and came out, which takes about a microsecond; a thread of its own looks for such offers,
because waking it would cost the caller more than the copy. What it cannot take, being busy or over its share
of the processor, is counted and dropped.
"""

import logging
import random
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from muster_agent.runner.processor import Clock, CpuBudget, own_clock
from muster_models.agreement import Comparison, add, nothing
from muster_models.errors import PredictionError, Reason
from muster_models.wire import LATENCY_EDGES_MS, Shadow, ShadowCounts

Array = NDArray[np.generic]
Outputs = dict[str, Array]
# (model, digest, inputs, outputs or None, seconds, error or None); called in the caller's thread.
OnCall = Callable[[str, str, Mapping[str, Array], Outputs | None, float, PredictionError | None], None]

MAX_WAITING = 64  # calls
MAX_BYTES = 4 * 1024 * 1024  # of all that wait, however large one is
LOOK_SECONDS = 0.02  # between two looks for offers
# A version that answers so is not what was signed for; on a call that the current version answered well.
FATAL = frozenset({Reason.NOT_FINITE, Reason.WRONG_SHAPE, Reason.TOO_LARGE, Reason.OUT_OF_MEMORY})

# Name, type, shape and content; a copy as bytes takes 0.1 us, one as an array 0.5 us.
_Copied = tuple[str, "np.dtype[np.generic]", tuple[int, ...], bytes | Array]
_EDGES = tuple(edge / 1000.0 for edge in LATENCY_EDGES_MS)  # seconds
_log = logging.getLogger(__name__)


class Candidate(Protocol):
    """What is asked: a version that was loaded."""

    @property
    def failure(self) -> PredictionError | None:
        """Why it can answer no more."""
        ...

    def predict(self, inputs: Mapping[str, Array]) -> Outputs:
        """Return every output by name."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass(frozen=True)
class Terms:
    """What is compared with what, and how often.

    Attributes:
        beside: Digest of the current version; calls of another one are not looked at.
        digest: Of the candidate; ``version`` is its name for people.
    """

    order: Shadow
    comparison: Comparison
    beside: str
    digest: str
    version: str


@dataclass(frozen=True)
class Shadowed:
    """A candidate in shadow, as a status shows it.

    Attributes:
        version: Of the candidate.
        counts: Since it was begun with, which is since the agent started at the most.
    """

    version: str
    counts: ShadowCounts


@dataclass(frozen=True)
class Told:
    """Who is told what; both in the thread of the shadow, and both may call back.

    Attributes:
        compared: What was counted since the last time.
        failed: The candidate failed, once; it is asked no more.
        ended: It was let go, and nobody uses its files any more.
    """

    compared: Callable[[ShadowCounts], None]
    failed: Callable[[PredictionError], None]
    ended: Callable[[], None]


class Shadowing:
    """Asks one candidate beside one current version. ``offer`` may be called from any thread.

    Args:
        candidate: Loaded; closed with this.
        processor: Tells the processor seconds of the candidate's own process; None where it runs in ours.
        chance: Draws 0..1, for sampling.
        clock: Seconds, monotonic, for the budget.
    """

    def __init__(
        self,
        candidate: Candidate,
        terms: Terms,
        told: Told,
        *,
        processor: Clock | None = None,
        chance: Callable[[], float] = random.random,
        clock: Clock = time.monotonic,
    ) -> None:
        self.terms = terms
        self._candidate = candidate
        self._told = told
        self._processor = processor
        self._chance = chance
        self._share = terms.order.share
        self._output = terms.comparison.output
        self.budget = CpuBudget(terms.order.cpu_percent, clock)
        self._lock = threading.Lock()  # for what offer touches: held for a microsecond
        self._waiting: deque[tuple[int, list[_Copied]]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: PredictionError | None = None
        self.total = nothing(terms.digest)

    # The caller's thread

    def beside(self, on_call: OnCall) -> OnCall:
        """Return what tells ``on_call`` about every call, and offers those that were answered."""

        def tell(  # noqa: PLR0917 - as it is called
            model: str,
            digest: str,
            inputs: Mapping[str, Array],
            outputs: Outputs | None,
            seconds: float,
            error: PredictionError | None,
        ) -> None:
            on_call(model, digest, inputs, outputs, seconds, error)
            if outputs is not None:
                self.offer(digest, inputs, outputs)

        return tell

    def offer(self, digest: str, inputs: Mapping[str, Array], outputs: Outputs) -> None:
        """Let the candidate be asked what ``digest`` was asked, unless it has enough to do already."""
        if digest != self.terms.beside or self._chance() >= self._share:
            return
        if len(self._waiting) >= MAX_WAITING or self._bytes >= MAX_BYTES:
            with self._lock:
                self._dropped += 1
            return
        output = outputs[self._output]
        size = output.nbytes
        copied = [(self._output, output.dtype, output.shape, _copy(output))]
        for name, array in inputs.items():
            size += array.nbytes
            copied.append((name, array.dtype, array.shape, _copy(array)))
        with self._lock:
            self._waiting.append((size, copied))
            self._bytes += size

    # Its own thread

    def work(self) -> None:
        """Ask the candidate what waits, as far as its share of the processor goes, and tell what was seen."""
        counts = nothing(self.terms.digest)
        while not self._ending.is_set() and self.failure is None and self.budget.is_affordable():
            offered = self._take()
            if offered is None:
                break
            counts = self._ask(counts, *offered)
        self._tell(counts)

    def _take(self) -> tuple[dict[str, Array], Array] | None:
        with self._lock:
            if not self._waiting:
                return None
            size, copied = self._waiting.popleft()
            self._bytes -= size
        output, *inputs = copied
        return {copy[0]: _array(copy) for copy in inputs}, _array(output)

    def _ask(self, counts: ShadowCounts, inputs: dict[str, Array], ours: Array) -> ShadowCounts:
        own, theirs, began = own_clock(), self._their_clock(), time.perf_counter()
        seconds, compared, error = 0.0, None, None
        try:
            outputs = self._candidate.predict(inputs)
            seconds = time.perf_counter() - began
            compared = self.terms.comparison(ours, outputs)
        except PredictionError as caught:
            seconds, error = seconds or time.perf_counter() - began, caught
        self.budget.spend(own_clock() - own + self._spent_there(theirs, seconds))
        latency = list(counts.latency)
        latency[bisect_right(_EDGES, seconds)] += 1
        counts = replace(counts, calls=counts.calls + 1, latency=tuple(latency))
        if compared is None:
            assert error is not None
            self._note(error)
            return replace(counts, errors=counts.errors + 1)
        return replace(
            counts,
            rows=counts.rows + compared.rows,
            agreed=counts.agreed + compared.agreed,
            difference=counts.difference + compared.difference,
        )

    def _their_clock(self) -> float | None:
        try:
            return self._processor() if self._processor is not None else None
        except OSError:
            return None

    def _spent_there(self, before: float | None, seconds: float) -> float:
        """Return what a call took in the candidate's own process; its wall time where that is not known."""
        if self._processor is None:
            return 0.0  # it ran in this thread
        after = self._their_clock()
        return seconds if before is None or after is None else after - before

    def _note(self, error: PredictionError) -> None:
        gone = self._candidate.failure
        if gone is not None or error.reason in FATAL:
            self.failure = gone or error
            self._share = -1.0  # nothing is offered any more

    def _tell(self, counts: ShadowCounts) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            if self.failure is not None or self._ending.is_set():
                dropped += len(self._waiting)
                self._waiting.clear()
                self._bytes = 0
        counts = replace(counts, dropped=counts.dropped + dropped)
        if counts.calls or counts.dropped:
            self.total = add(self.total, counts)
            self._told.compared(counts)

    # Life

    def start(self) -> None:
        """Call ``work`` from a thread of its own until ``end``, or until the candidate fails."""
        self._thread = threading.Thread(target=self._run, name=f"shadow-{self.terms.version}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self.failure is None and not self._ending.wait(LOOK_SECONDS):
            self.work()
        if self.failure is not None and not self._ending.is_set():
            self._told.failed(self.failure)
        self._ending.wait()
        self._tell(nothing(self.terms.digest))
        self._candidate.close()
        self._told.ended()

    def end(self, seconds: float) -> None:
        """Ask no more, and let go of the candidate; after ``seconds`` without waiting for its last call."""
        self._ending.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)


def _copy(array: Array) -> bytes | Array:
    return array.copy() if array.dtype.hasobject else array.tobytes()


def _array(copied: _Copied) -> Array:
    _, dtype, shape, content = copied
    return np.ndarray(shape, dtype, content) if isinstance(content, bytes) else content

"""From calls to windows: what a version saw and answered, sketched off the caller's thread.

``record`` copies the rows of a call into a buffer, about a microsecond; ``work`` turns full buffers into
sketches and ends windows. A thread of its own (``start``) or the owner's loop calls ``work``.
"""

import dataclasses
import logging
import math
import random
import secrets
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from muster_agent.measure.gaps import Gaps
from muster_agent.measure.outbox import WindowPart
from muster_agent.measure.row_buffer import ROWS, RowBuffer, as_objects, drain
from muster_models.agreement import add
from muster_models.counters import add_counts, check_counts
from muster_models.errors import MusterError, PredictionError, SketchError
from muster_models.manifest import Manifest
from muster_models.quantised import measured
from muster_models.sketch import codec
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.features import extract
from muster_models.sketch.privacy import privatise
from muster_models.sketch.rows import Rows, concatenate
from muster_models.sketch.window import Sketch, merge, sketch_rows
from muster_models.wire import LATENCY_EDGES_MS, Reporting, ShadowCounts

Array = NDArray[np.generic]

MAX_WAITING = 4  # full buffers; behind these, calls are counted and their rows are not sketched
SHORTEST_SECONDS = 0.5  # of a window that its rows end: no burst of calls becomes a burst of messages
LATEST_SHARE = 0.1  # of a window, by which its end is delayed at random: a fleet must not report in step

_LATENCY_EDGES = tuple(edge / 1000.0 for edge in LATENCY_EDGES_MS)  # seconds

_log = logging.getLogger(__name__)


@dataclass
class _Running:
    """A window that is being measured. The lower half belongs to ``work`` alone."""

    start: float
    end: float
    earliest: float  # before which the clock was set back too far for this window
    last: float
    epsilon: float  # as it was ordered when the window began
    kept: int = 0  # rows that are to be sketched
    calls: int = 0
    errors: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_EDGES_MS) + 1))
    shadow: ShadowCounts | None = None
    counters: dict[str, int] = field(default_factory=dict)
    full: list[RowBuffer] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    sketch: Sketch | None = None


class Journal(Protocol):
    """Where copies of open windows are kept: the outbox."""

    def save_open(self, part: WindowPart) -> None:
        """Keep the newest copy; a part without calls says that measuring has begun."""

    def close_open(self, part: WindowPart) -> None:
        """Forget the copy: measuring is over."""


class Recorder:
    """Measures the calls of one version. Thread safe.

    Windows are aligned to the wall clock. A clock that is set back by less than a window stays in the window
    that is open; one that is set back further ends it, and the hours repeat as they did on the clock.
    A window of ``window_rows`` rows ends early, but not within half a second.

    Args:
        digest: Of the manifest.
        clock: Unix seconds.
        emit: Takes every ended window that saw a call; called from ``work`` and ``close``.
        chance: Draws 0..1, for sampling.
        journal: Returns what keeps copies of the open window, every ``save_seconds``; None keeps none.
        counters: Names that the application has counted by before: reported from the first window on.

    Attributes:
        skipped: Rows that were counted and not sketched: too many were waiting, or they did not fit.
    """

    def __init__(
        self,
        manifest: Manifest,
        baseline: Baseline,
        reporting: Reporting,
        *,
        digest: str,
        clock: Callable[[], float],
        emit: Callable[[WindowPart], None],
        chance: Callable[[], float] = random.random,
        journal: Callable[[], Journal] | None = None,
        counters: Iterable[str] = (),
    ) -> None:
        self._manifest = manifest
        self._digest = digest
        self._baseline = baseline
        self._take(reporting)
        self._clock = clock
        self._journal = journal
        self._emit = emit
        self._chance = chance
        self._inputs = sorted({feature.input for feature in manifest.features})
        self._output = manifest.prediction.output
        self._gaps = Gaps(manifest.features)
        self._lock = threading.Lock()  # for what record touches: held for microseconds
        self._working = threading.Lock()  # for work: held while sketching
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._ended: list[_Running] = []
        self._buffer: RowBuffer | None = None
        self._unanswered: RowBuffer | None = None  # kept apart: what answers is of another shape
        self._waiting = 0
        self.skipped = 0
        self._counters = tuple(sorted(counters))
        now = clock()
        self._window = self._open(now, now)
        self._saved_at = now

    def _take(self, reporting: Reporting) -> None:
        self._reporting = reporting
        self._samples_all = reporting.sample >= 1
        self._most = reporting.window_rows or math.inf

    # The caller's thread

    def record(
        self,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array] | None,
        *,
        seconds: float,
        error: BaseException | None = None,
    ) -> None:
        """Count one call, and keep its rows for sketching; never raises for what a model takes or answers.

        Rows of a call that failed are kept where its inputs lack something, each without an answer.

        Args:
            outputs: None when the call failed.
            seconds: How long it took.
        """
        now = self._clock()
        with self._lock:
            window = self._window
            if not window.earliest <= now < window.end:
                window = self._turn(now)
            window.last = now
            window.calls += 1
            window.latency[bisect_right(_LATENCY_EDGES, seconds)] += 1
            if outputs is None or error is not None:
                window.errors += 1
                window.kept += self._keep_unanswered(inputs)
            elif self._samples_all or self._chance() < self._reporting.sample:
                window.kept += self._keep(inputs, outputs)
                if window.kept >= self._most and now - window.start >= SHORTEST_SECONDS:
                    self._turn(now)

    def compare(self, counts: ShadowCounts) -> None:
        """Add what a candidate answered in shadow to the open window; a window knows one candidate."""
        now = self._clock()
        with self._lock:
            window = self._window
            is_another = window.shadow is not None and window.shadow.candidate != counts.candidate
            if is_another or not window.earliest <= now < window.end:
                window = self._turn(now)
            window.last = now
            window.shadow = counts if window.shadow is None else add(window.shadow, counts)

    def count(self, counts: Mapping[str, int]) -> None:
        """Add what the application counted to the open window.

        A name that was counted once is in every later window too, with 0 where nothing was counted: what is
        absent was never told, which is not the same as none.

        Raises:
            MessageError: A name or a number has the wrong form, or there are too many names.
        """
        counted = check_counts(counts)
        now = self._clock()
        with self._lock:
            window = self._window
            if not window.earliest <= now < window.end:
                window = self._turn(now)
            window.counters = add_counts(window.counters, counted)
            window.last = now
            self._counters = tuple(window.counters)

    def _keep_unanswered(self, inputs: Mapping[str, Array]) -> int:
        """Copy the rows of a call that failed and whose inputs lack something; return how many."""
        rows = self._gaps.rows(inputs)
        if not rows or not (self._samples_all or self._chance() < self._reporting.sample):
            return 0
        self._buffer, self._unanswered = self._unanswered, self._buffer
        try:
            return self._keep(inputs, {self._output: np.full((rows, 1), np.nan, np.float32)})
        finally:
            self._buffer, self._unanswered = self._unanswered, self._buffer

    def _keep(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> int:
        """Copy the rows of a call, and return how many."""
        try:
            if self._buffer is not None and self._buffer.take_usual(inputs, outputs[self._output]):
                return self._buffer.batch
            tensors = [as_objects(inputs[name]) for name in self._inputs]
            tensors.append(outputs[self._output])
            rows = len(tensors[-1])
            if any(len(tensor) != rows for tensor in tensors):
                self.skipped += rows
                return 0
        except (AttributeError, KeyError, TypeError):  # no such tensor, or one without a batch axis
            self.skipped += 1
            return 0
        at = 0
        while at < rows:
            buffer = self._buffer_for(tensors)
            if buffer is None:
                self.skipped += rows - at
                return at
            at += buffer.take(tensors, at, rows)
            if buffer.rows == buffer.capacity:
                self._put_away()
                self._wake.set()
        return at

    def _buffer_for(self, tensors: list[Array]) -> RowBuffer | None:
        kinds = [(tensor.shape[1:], tensor.dtype) for tensor in tensors]
        if self._buffer is not None and self._buffer.kinds == kinds:
            return self._buffer
        self._put_away()  # full, or the shapes of this model vary from call to call
        if self._waiting < MAX_WAITING:
            self._buffer = RowBuffer(self._inputs, tensors)
        return self._buffer

    def _put_away(self) -> None:
        if self._buffer is not None and self._buffer.rows:
            self._window.full.append(self._buffer)
            self._waiting += 1
        self._buffer = None

    def _put_all_away(self) -> None:
        self._put_away()
        self._buffer, self._unanswered = self._unanswered, None
        self._put_away()

    def _turn(self, now: float) -> _Running:
        """End the window at its end, or where the clock was set back, and open the next."""
        self._put_all_away()
        ended = self._window
        if now < ended.end:
            ended.end = max(ended.start, ended.last)
        if ended.calls or ended.shadow is not None or any(ended.counters.values()):
            self._ended.append(ended)
            self._wake.set()
        self._window = self._open(now, ended.end)
        return self._window

    def _open(self, now: float, earliest: float) -> _Running:
        length = self._reporting.window_seconds
        aligned = now // length * length
        start = aligned if earliest <= aligned else now
        counters = dict.fromkeys(self._counters, 0)
        epsilon = self._reporting.epsilon
        return _Running(start, aligned + length, start - length, now, epsilon, counters=counters)

    # Off the caller's thread

    def work(self) -> None:
        """Sketch full buffers and hand out windows that have ended; may be called from any thread."""
        with self._working:
            with self._lock:
                now = self._clock()
                if now >= self._window.end:
                    self._turn(now)
                ended, self._ended = self._ended, []
                copy = self._copy(now)
                jobs = [(window, drain(window.full)) for window in (*ended, self._window)]
            for window, buffers in jobs:
                for buffer in buffers:
                    self._absorb(window, buffer)
            for window in ended:
                self._finish(window)
            if copy is not None:
                self._sketch(self._window)
                copy.sketch = self._window.sketch
                self._save(copy)

    def _copy(self, now: float) -> _Running | None:
        """Return the open window as it is now, with its rows put away, when a copy of it is due."""
        every = self._reporting.save_seconds
        window = self._window
        since = max(self._saved_at, window.start)  # a window that is shorter than that needs none
        is_due = not since <= now < since + every  # or the clock was set back
        if self._journal is None or not every or not window.calls or not is_due:
            return None
        self._saved_at = now
        self._put_all_away()
        return dataclasses.replace(
            window, end=max(window.start, min(now, window.end)), latency=list(window.latency)
        )

    def _save(self, window: _Running) -> None:
        if self._journal is None or not self._reporting.save_seconds:
            return
        try:
            self._journal().save_open(self._part(window))
        except MusterError as error:
            _log.debug("no copy of the open window of %s: %s", self._manifest.name, error)

    def _absorb(self, window: _Running, buffer: RowBuffer) -> None:
        held = buffer.arrays()
        try:
            rows = extract(
                self._manifest.features,
                self._manifest.prediction,
                inputs=measured(self._manifest.inputs, dict(zip(self._inputs, held[:-1], strict=True))),
                outputs=measured(self._manifest.outputs, {self._output: held[-1]}),
                axes=self._baseline.axes,
            )
        except (
            SketchError,
            PredictionError,
            ValueError,
        ) as error:  # text where the manifest promises numbers
            self._skip(buffer.rows, error)
        else:
            window.rows.append(rows)
        with self._lock:
            self._waiting -= 1
        if sum(map(len, window.rows)) >= ROWS:
            self._sketch(window)

    def _sketch(self, window: _Running) -> None:
        parts, window.rows = window.rows, []
        if not parts:
            return
        rows = concatenate(parts)
        try:
            sketch = sketch_rows(rows, self._baseline)
            window.sketch = sketch if window.sketch is None else merge(window.sketch, sketch)
        except SketchError as error:
            self._skip(len(rows), error)

    def _skip(self, rows: int, error: Exception) -> None:
        if not self.skipped:
            _log.warning("rows of %s cannot be sketched: %s", self._manifest.name, error)
        self.skipped += rows

    def _finish(self, window: _Running) -> None:
        self._sketch(window)
        try:
            self._emit(self._part(window))
        except MusterError as error:
            _log.warning("a window of %s is lost: %s", self._manifest.name, error)

    def _part(self, window: _Running) -> WindowPart:
        return WindowPart(
            model=self._manifest.model,
            manifest=self._digest,
            baseline=self._baseline.digest,
            start=window.start,
            end=window.end,
            calls=window.calls,
            errors=window.errors,
            latency=tuple(window.latency),
            sketch=self._told(window),
            shadow=window.shadow,
            counters=window.counters,
        )

    def _told(self, window: _Running) -> bytes:
        """Return the bytes of a window's sketch, with noise where that was ordered, drawn anew each time."""
        sketch = window.sketch
        if sketch is None:
            return b""
        if window.epsilon:
            try:
                sketch = privatise(sketch, self._baseline, window.epsilon, _secure_words)
            except (SketchError, ValueError) as error:
                self._skip(sketch.rows, error)  # rather nothing than without noise
                return b""
        return codec.encode(sketch, self._baseline)

    # Life

    def configure(self, reporting: Reporting) -> None:
        """Report differently; the window that is open ends now."""
        with self._lock:
            if reporting != self._reporting:
                self._take(reporting)
                self._window.last = self._clock()
                self._turn(self._window.last)
                self._wake.set()

    def start(self) -> None:
        """Call ``work`` from a thread of its own until ``close``."""
        # Without calls: that measuring had begun is known after a kill.
        self._save(dataclasses.replace(self._window, end=self._window.start))
        self._thread = threading.Thread(
            target=self._run, name=f"recorder-{self._manifest.model}", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        while not self._is_closed:
            length = self._reporting.window_seconds
            remaining = min(max(self._window.end - self._clock(), 0.0), length)
            # At no set moment after its end: a fleet must not report in step.
            until = remaining + self._chance() * LATEST_SHARE * length
            self._wake.wait(min(until, self._reporting.save_seconds or until))
            self._wake.clear()
            self.work()

    def close(self) -> None:
        """End the open window, hand it out, and stop the thread."""
        self._is_closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._window.last = max(self._window.last, min(self._clock(), self._window.end))
            self._turn(self._window.last)
        self.work()
        if self._journal is not None:
            try:
                self._journal().close_open(self._part(self._window))
            except MusterError as error:
                _log.debug("the copy of the open window of %s stays: %s", self._manifest.name, error)


def _secure_words(count: int) -> NDArray[np.uint64]:
    return np.frombuffer(secrets.token_bytes(8 * count), dtype=np.uint64)

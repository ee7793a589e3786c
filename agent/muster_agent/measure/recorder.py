"""From calls to windows: what a version saw and answered, sketched off the caller's thread.

``record`` copies the rows of a call into a buffer, about a microsecond; ``work`` turns full buffers into
sketches and ends windows. A thread of its own (``start``) or the owner's loop calls ``work``.
"""

import logging
import random
import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from muster_agent.measure.outbox import WindowPart
from muster_models.errors import MusterError, SketchError
from muster_models.manifest import Manifest
from muster_models.sketch import codec
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.features import extract
from muster_models.sketch.window import Sketch, merge, sketch_rows
from muster_models.wire import LATENCY_EDGES_MS, Reporting, Window

Array = NDArray[np.generic]

ROWS = 1024  # per sketch: in smaller pieces its fixed cost would count
BUFFER_BYTES = 4 * 1024 * 1024  # of one buffer, however large a row is
MAX_WAITING = 4  # full buffers; behind these, calls are counted and their rows are not sketched
LATEST_SHARE = 0.1  # of a window, by which its end is delayed at random: a fleet must not report in step

_LATENCY_EDGES = tuple(edge / 1000.0 for edge in LATENCY_EDGES_MS)  # seconds

_log = logging.getLogger(__name__)


class _Buffer:
    """Raw rows of the tensors that are sketched, as they came; made arrays again off the caller's thread.

    Args:
        names: Of the input tensors, in order; the last of ``tensors`` is the output.
        tensors: Of a first call, which the later ones have to look like but for the number of rows.
    """

    def __init__(self, names: Sequence[str], tensors: Sequence[Array]) -> None:
        row_bytes = sum(tensor[:1].nbytes for tensor in tensors)
        self.capacity = max(1, min(ROWS, BUFFER_BYTES // max(row_bytes, 1)))
        self.rows = 0
        self.kinds = [(tensor.shape[1:], tensor.dtype) for tensor in tensors]
        self._pieces: list[list[bytes | Array]] = [[] for _ in tensors]
        self._batch = len(tensors[0])
        # A call that repeats the first one is copied without a closer look, and without making arrays: a
        # copy as bytes takes 0.1 us, one into a slice of an array 0.4 us.
        *inputs, self._usual_output = (
            (tensor.shape, tensor.dtype, pieces.append)
            for tensor, pieces in zip(tensors, self._pieces, strict=True)
        )
        self._usual_inputs = [(name, *usual) for name, usual in zip(names, inputs, strict=True)]
        has_objects = any(tensor.dtype.hasobject for tensor in tensors)
        self._usual_rows = -1 if has_objects else self.capacity - self._batch - 1

    def take_usual(self, inputs: Mapping[str, Array], output: Array) -> bool:
        """Copy a call that looks like the first one; False when it does not, or would fill the buffer."""
        if self.rows > self._usual_rows:
            return False
        shape, dtype, add = self._usual_output
        if output.dtype is not dtype or output.shape != shape:
            return False
        for name, shape, dtype, add_input in self._usual_inputs:
            tensor = inputs[name]
            if tensor.dtype is not dtype or tensor.shape != shape:
                self._forget_half_a_call()
                return False
            add_input(tensor.tobytes())
        add(output.tobytes())
        self.rows += self._batch
        return True

    def _forget_half_a_call(self) -> None:
        calls = len(self._pieces[-1])  # the output is added last
        for pieces in self._pieces:
            del pieces[calls:]

    def take(self, tensors: Sequence[Array], start: int, stop: int) -> int:
        """Copy rows from ``start`` on, as many as there is room for; return how many."""
        count = min(stop - start, self.capacity - self.rows)
        for pieces, tensor in zip(self._pieces, tensors, strict=True):
            rows = tensor[start : start + count]
            pieces.append(rows.copy() if tensor.dtype.hasobject else rows.tobytes())
        self.rows += count
        return count

    def arrays(self) -> list[Array]:
        """Return the rows of each tensor."""
        return [
            _joined(pieces, shape, dtype)
            for pieces, (shape, dtype) in zip(self._pieces, self.kinds, strict=True)
        ]


def _joined(pieces: Sequence[bytes | Array], shape: tuple[int, ...], dtype: "np.dtype[np.generic]") -> Array:
    if dtype.hasobject:
        return np.concatenate(cast("Sequence[Array]", pieces))
    return np.frombuffer(b"".join(cast("Sequence[bytes]", pieces)), dtype).reshape(-1, *shape)


@dataclass
class _Running:
    """A window that is being measured. The lower half belongs to ``work`` alone."""

    start: float
    end: float
    earliest: float  # before which the clock was set back too far for this window
    last: float
    calls: int = 0
    errors: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_EDGES_MS) + 1))
    full: list[_Buffer] = field(default_factory=list)
    matrices: list[NDArray[np.floating]] = field(default_factory=list)
    sketch: Sketch | None = None


class Recorder:
    """Measures the calls of one version. Thread safe.

    Windows are aligned to the wall clock. A clock that is set back by less than a window stays in the window
    that is open; one that is set back further ends it, and the hours repeat as they did on the clock.

    Args:
        digest: Of the manifest.
        clock: Unix seconds.
        emit: Takes every ended window that saw a call; called from ``work`` and ``close``.
        chance: Draws 0..1, for sampling.

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
    ) -> None:
        self._manifest = manifest
        self._digest = digest
        self._baseline = baseline
        self._reporting = reporting
        self._samples_all = reporting.sample >= 1
        self._clock = clock
        self._emit = emit
        self._chance = chance
        self._inputs = sorted({feature.input for feature in manifest.features})
        self._output = manifest.prediction.output
        self._lock = threading.Lock()  # for what record touches: held for microseconds
        self._working = threading.Lock()  # for work: held while sketching
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._ended: list[_Running] = []
        self._buffer: _Buffer | None = None
        self._waiting = 0
        self.skipped = 0
        now = clock()
        self._window = self._open(now, now)

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
            elif self._samples_all or self._chance() < self._reporting.sample:
                self._keep(inputs, outputs)

    def _keep(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        try:
            if self._buffer is not None and self._buffer.take_usual(inputs, outputs[self._output]):
                return
            tensors = [inputs[name] for name in self._inputs]
            tensors.append(outputs[self._output])
            rows = len(tensors[-1])
            if any(len(tensor) != rows for tensor in tensors):
                self.skipped += rows
                return
        except (AttributeError, KeyError, TypeError):  # no such tensor, or one without a batch axis
            self.skipped += 1
            return
        at = 0
        while at < rows:
            buffer = self._buffer_for(tensors)
            if buffer is None:
                self.skipped += rows - at
                return
            at += buffer.take(tensors, at, rows)
            if buffer.rows == buffer.capacity:
                self._put_away()
                self._wake.set()

    def _buffer_for(self, tensors: list[Array]) -> _Buffer | None:
        kinds = [(tensor.shape[1:], tensor.dtype) for tensor in tensors]
        if self._buffer is not None and self._buffer.kinds == kinds:
            return self._buffer
        self._put_away()  # full, or the shapes of this model vary from call to call
        if self._waiting < MAX_WAITING:
            self._buffer = _Buffer(self._inputs, tensors)
        return self._buffer

    def _put_away(self) -> None:
        if self._buffer is not None and self._buffer.rows:
            self._window.full.append(self._buffer)
            self._waiting += 1
        self._buffer = None

    def _turn(self, now: float) -> _Running:
        """End the window at its end, or where the clock was set back, and open the next."""
        self._put_away()
        ended = self._window
        if now < ended.end:
            ended.end = max(ended.start, ended.last)
        if ended.calls:
            self._ended.append(ended)
            self._wake.set()
        self._window = self._open(now, ended.end)
        return self._window

    def _open(self, now: float, earliest: float) -> _Running:
        length = self._reporting.window_seconds
        aligned = now // length * length
        start = aligned if earliest <= aligned else now
        return _Running(start, aligned + length, start - length, now)

    # Off the caller's thread

    def work(self) -> None:
        """Sketch full buffers and hand out windows that have ended; may be called from any thread."""
        with self._working:
            with self._lock:
                now = self._clock()
                if now >= self._window.end:
                    self._turn(now)
                ended, self._ended = self._ended, []
                jobs = [(window, _drain(window.full)) for window in (*ended, self._window)]
            for window, buffers in jobs:
                for buffer in buffers:
                    self._absorb(window, buffer)
            for window in ended:
                self._finish(window)

    def _absorb(self, window: _Running, buffer: _Buffer) -> None:
        held = buffer.arrays()
        try:
            matrix = extract(
                self._manifest.features,
                self._manifest.prediction,
                inputs=dict(zip(self._inputs, held[:-1], strict=True)),
                outputs={self._output: held[-1]},
            )
        except (SketchError, ValueError) as error:  # text where the manifest promises numbers
            self._skip(buffer.rows, error)
        else:
            window.matrices.append(matrix)
        with self._lock:
            self._waiting -= 1
        if sum(map(len, window.matrices)) >= ROWS:
            self._sketch(window)

    def _sketch(self, window: _Running) -> None:
        rows, window.matrices = window.matrices, []
        if not rows:
            return
        matrix = np.concatenate(rows)
        try:
            sketch = sketch_rows(matrix, self._baseline)
            window.sketch = sketch if window.sketch is None else merge(window.sketch, sketch)
        except SketchError as error:
            self._skip(len(matrix), error)

    def _skip(self, rows: int, error: Exception) -> None:
        if not self.skipped:
            _log.warning("rows of %s cannot be sketched: %s", self._manifest.name, error)
        self.skipped += rows

    def _finish(self, window: _Running) -> None:
        self._sketch(window)
        part = WindowPart(
            model=self._manifest.model,
            manifest=self._digest,
            baseline=self._baseline.digest,
            start=window.start,
            end=window.end,
            calls=window.calls,
            errors=window.errors,
            latency=tuple(window.latency),
            sketch=codec.encode(window.sketch, self._baseline) if window.sketch is not None else b"",
        )
        try:
            self._emit(part)
        except MusterError as error:
            _log.warning("a window of %s is lost: %s", self._manifest.name, error)

    # Life

    def configure(self, reporting: Reporting) -> None:
        """Report differently; the window that is open ends now."""
        with self._lock:
            if reporting != self._reporting:
                self._reporting = reporting
                self._samples_all = reporting.sample >= 1
                self._window.last = self._clock()
                self._turn(self._window.last)
                self._wake.set()

    def start(self) -> None:
        """Call ``work`` from a thread of its own until ``close``."""
        self._thread = threading.Thread(
            target=self._run, name=f"recorder-{self._manifest.model}", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        while not self._is_closed:
            length = self._reporting.window_seconds
            remaining = min(max(self._window.end - self._clock(), 0.0), length)
            self._wake.wait(remaining + self._chance() * LATEST_SHARE * length)
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


def _drain(buffers: list[_Buffer]) -> list[_Buffer]:
    drained = list(buffers)
    buffers.clear()
    return drained


def merge_windows(first: Window, second: Window, baseline: Baseline | None) -> Window | None:
    """Return two windows of one version as one, which keeps the later one's place; None when that cannot be.

    Args:
        baseline: What both were sketched over; None when it is not on the device any more.
    """
    if baseline is None or len(first.latency) != len(second.latency):
        return None
    try:
        sketches = [codec.decode(window.sketch, baseline) for window in (first, second) if window.sketch]
        sketch = (
            codec.encode(merge(*sketches), baseline) if len(sketches) > 1 else first.sketch or second.sketch
        )
    except SketchError:
        return None
    return replace(
        second,
        start=min(first.start, second.start),
        end=max(first.end, second.end),
        calls=first.calls + second.calls,
        errors=first.errors + second.errors,
        latency=tuple(a + b for a, b in zip(first.latency, second.latency, strict=True)),
        sketch=sketch,
        parts=first.parts + second.parts,
    )

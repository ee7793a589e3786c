"""Decoded sketches and what they measure, kept for a while: a page looked at again reads what is new."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from muster_controller.domain.drift.measures import Measure, Scorer
from muster_controller.store.baselines import Baselines
from muster_controller.store.views.windows import WindowBytes
from muster_models.errors import SketchError
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.codec import decode_all
from muster_models.sketch.window import Sketch, empty, merge

K = TypeVar("K")
V = TypeVar("V")
# Of all sketches together: about 0.6 kB each, so some 150 MB at most, however many features a model has.
MAX_COLUMNS = 2**18
MERGED = 4  # a quarter of that for buckets of time: there are fewer of them


@dataclass(frozen=True)
class Decoded:
    """What one window holds, and what drift is judged by in it."""

    sketch: Sketch
    measure: Measure


class _Kept(Generic[K, V]):
    """What was used last, up to some columns of sketches in all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._columns = 0
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, keys: Iterable[K]) -> dict[K, V]:
        """Return what is kept of some."""
        with self._lock:
            found = {key: self._held[key][0] for key in keys if key in self._held}
            for key in found:
                self._held.move_to_end(key)
            return found

    def put(self, fresh: Mapping[K, V], columns: int) -> None:
        """Keep some more, of so many columns each; the one that was used last is always kept."""
        with self._lock:
            for key, value in fresh.items():
                _, before = self._held.pop(key, (None, 0))  # another thread may have come first
                self._held[key] = value, columns
                self._columns += columns - before
            while self._columns > self._most and len(self._held) > 1:
                _, (_, gone) = self._held.popitem(last=False)
                self._columns -= gone


class Sketches:
    """A bounded memory of sketches by the number of their window. Threads may share it.

    Args:
        baselines: Where baselines are read.
        most: Columns of sketches that are kept, of all windows together.
    """

    def __init__(self, baselines: Baselines, *, most: int = MAX_COLUMNS) -> None:
        self._baselines = baselines
        self._most = most
        self._windows = _Kept[int, Decoded](most)
        self._merged = _Kept[tuple[str, tuple[int, ...]], Sketch](most // MERGED)

    @property
    def baselines(self) -> Baselines:
        """Where baselines are read."""
        return self._baselines

    def baseline(self, sha256: str) -> Baseline:
        """Return a baseline by the SHA-256 of its file.

        Raises:
            NotFoundError: The file is not here.
            SketchError: The file is not a baseline.
        """
        return self._baselines.get(sha256)

    def room(self, baseline: Baseline) -> int:
        """Return how many windows on a baseline are kept at the same time, at least one."""
        return max(1, self._most // max(1, len(baseline.columns)))

    def decoded(self, windows: Sequence[WindowBytes], baseline: Baseline) -> list[Decoded]:
        """Return what windows with a sketch hold, in their order; only those that are new cost something.

        Raises:
            SketchError: The bytes of one are not a sketch on ``baseline``.
        """
        held = self._windows.get(window.id for window in windows)
        fresh = _decode([window for window in windows if window.id not in held], baseline)
        self._windows.put(fresh, len(baseline.columns))
        held |= fresh
        return [held[window.id] for window in windows]

    def merged(self, windows: Mapping[int, Sketch], baseline: Baseline) -> Sketch:
        """Return the sketch of some windows together, by their numbers: once for the same windows."""
        key = baseline.digest, tuple(windows)
        if key in (held := self._merged.get([key])):
            return held[key]
        whole = empty(baseline)
        for sketch in windows.values():
            whole = merge(whole, sketch)
        self._merged.put({key: whole}, len(baseline.columns))
        return whole


def _decode(windows: Sequence[WindowBytes], baseline: Baseline) -> dict[int, Decoded]:
    if not windows:
        return {}
    sketches = []
    for found in decode_all([window.sketch for window in windows], baseline):
        if isinstance(found, SketchError):
            raise found
        sketches.append(found)
    measures = Scorer(baseline).measure(sketches)
    return {
        window.id: Decoded(sketch, measure)
        for window, sketch, measure in zip(windows, sketches, measures, strict=True)
    }

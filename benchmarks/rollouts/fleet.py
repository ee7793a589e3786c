"""A fleet whose devices answer under both versions: which answer is seen depends on the version that runs.

The world of one window, in the order in which chance is asked:

1. Every device's rows, whether it is heard of, and how far its level wandered.
2. The level of a device is its own offset, how it wandered, the day's course and the shift that is common to
   all. Where rows hang together it moves so much more from window to window as their mean is less certain.
3. Under the old version predictions are normal around that level with deviation 1; under the new one they are
   moved by what the version does. Both are drawn, as counts per bin of the baseline, multinomial.
4. Failed calls of both versions are binomial.

So every method looks at the very same fleet, whatever it decides. All chance is from the seed. A prediction
is a number around ``LEVEL``; what is said in sd is in its standard deviations.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.features import VALUE
from muster_models.wire import LATENCY_EDGES_MS

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

WINDOW = 3600.0  # seconds
DAY = 24  # windows
LEVEL = 5.0  # of the predictions; not zero, so that the ratio of two means says something
REFERENCE_ROWS = 10_000
MOMENTS = 12  # in a window, for those who look at a course of points
LOST = 0.002  # share of predictions that are missing, whatever the version
SLOWNESS = (20.0, 0.5)  # milliseconds of a call in the middle, and the spread of its logarithm
OLD, NEW = 0, 1
_GRID = np.linspace(-12.0, 12.0, 24_001)
_NORMAL = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in _GRID])


@dataclass(frozen=True)
class Setting:
    """What a fleet is like.

    Attributes:
        rows: Calls of a device in a window.
        uneven: By what share the rows of a window differ from that, evenly in both directions.
        offsets: Standard deviation of what is peculiar to a device, in sd; of the logarithm for its failed
            calls and its slowness.
        correlation: Of a row with the row before it, 0 to below 1.
        wander: Standard deviation of a device's level from window to window, in sd.
        memory: Correlation of that wandering with the window before, 0 to below 1.
        bursts: Standard deviation of the logarithm of a device's failed calls from window to window.
        season: Amplitude of a day's course that all devices share, in sd.
        unlike: Standard deviation, over devices, of the factor by which each answers to what is common to
            all: the day's course and ``Plant.common``.
        silent: Share of windows in which a device is not heard of.
        failing: Share of calls that fail under the old version.
    """

    devices: int = 90
    rows: int = 300
    uneven: float = 0.0
    offsets: float = 0.0
    correlation: float = 0.0
    wander: float = 0.0
    memory: float = 0.0
    bursts: float = 0.0
    season: float = 0.0
    unlike: float = 0.0
    silent: float = 0.0
    failing: float = 0.005

    def names(self) -> tuple[str, ...]:
        """Return the device ids."""
        return tuple(f"device-{index:05d}" for index in range(self.devices))


@dataclass(frozen=True)
class Plant:
    """What is planted into a fleet.

    Attributes:
        shift: Of the new version's predictions, in sd.
        failing: Share of calls that fail under the new version in addition.
        crash: Share of devices on which the new version does not load.
        common: Shift of every device's predictions, old version and new, in sd, from window ``since`` on.
        common_failing: Share of calls that fail in addition, old version and new, from then on.
    """

    shift: float = 0.0
    failing: float = 0.0
    crash: float = 0.0
    common: float = 0.0
    common_failing: float = 0.0
    since: int = 0

    @property
    def harms(self) -> bool:
        """Tell whether the new version is worse at all."""
        return bool(self.shift or self.failing or self.crash)


@dataclass(frozen=True)
class Span:
    """One window of the whole fleet; the first axis of pairs is the version, ``OLD`` or ``NEW``.

    Attributes:
        rows, heard: By device.
        errors: Failed calls, by version and device.
        values: Counts of predictions, by version, tracked device and bin.
        latency: Calls by tracked device and bin of ``LATENCY_EDGES_MS``.
    """

    rows: Counts
    heard: NDArray[np.bool_]
    errors: Counts
    values: Counts
    latency: Counts


@functools.cache
def baseline() -> Baseline:
    """Return the baseline of both versions: predictions of a device without peculiarities."""
    rows = LEVEL + np.random.default_rng(0).standard_normal((REFERENCE_ROWS, 1))
    return make_baseline(rows, {VALUE: "numeric"})


class Fleet:
    """The windows of one fleet; asked for again, they are the same."""

    def __init__(self, setting: Setting, plant: Plant, *, tracked: Sequence[int], seed: int) -> None:
        self.setting, self.plant = setting, plant
        self.tracked = np.array(tracked, dtype=np.intp)
        self._seed = seed
        chance = np.random.default_rng([seed, 0])
        size = setting.devices
        self._offsets = setting.offsets * chance.standard_normal(size)
        self._trouble = np.exp(setting.offsets * chance.standard_normal(size))
        slow, spread = SLOWNESS
        self._slow = np.log(slow) + setting.offsets * chance.standard_normal(size) / 2
        self.crashes = chance.random(size) < plant.crash
        self._answers = 1 + setting.unlike * chance.standard_normal(size)
        edges = np.log(np.asarray(LATENCY_EDGES_MS, dtype=np.float64))
        self._latency = _shares(edges, self._slow[self.tracked], spread)
        self._wandered = setting.wander * chance.standard_normal(size)
        self._spans: list[Span] = []

    def window(self, index: int) -> Span:
        """Return one window, by its index from 0."""
        while len(self._spans) <= index:
            self._spans.append(self._draw(len(self._spans)))
        return self._spans[index]

    def chance(self, index: int, purpose: int) -> np.random.Generator:
        """Return chance for something that is looked at in one window, apart from what was drawn for it."""
        return np.random.default_rng([self._seed, 1 + index, purpose])

    def _draw(self, index: int) -> Span:
        setting, size = self.setting, self.setting.devices
        chance = np.random.default_rng([self._seed, 1 + index])
        uneven = 1 + setting.uneven * chance.uniform(-1, 1, size)
        rows = np.maximum(np.rint(setting.rows * uneven), 1).astype(np.int64)
        heard = chance.random(size) >= setting.silent
        fresh = setting.wander * chance.standard_normal(size)
        self._wandered = setting.memory * self._wandered + math.sqrt(1 - setting.memory**2) * fresh
        level = self._level(index, rows, chance)
        errors = self._errors(index, rows, chance)
        values = self._values(level, rows, chance)
        latency = chance.multinomial(rows[self.tracked], self._latency)
        return Span(rows, heard, errors, values, latency)

    def _is_common(self, index: int) -> bool:
        return index >= self.plant.since

    def _level(self, index: int, rows: Counts, chance: np.random.Generator) -> Array:
        memory = self.setting.correlation
        worth = (1 + memory) / (1 - memory)  # so many rows say as much as one that hangs on no other
        hanging = np.sqrt((worth - 1) / rows) * chance.standard_normal(len(rows))
        course = self.setting.season * math.sin(2 * math.pi * index / DAY)
        common = self.plant.common if self._is_common(index) else 0.0
        shared = self._answers * (course + common)
        return np.asarray(LEVEL + self._offsets + self._wandered + hanging + shared)

    def _errors(self, index: int, rows: Counts, chance: np.random.Generator) -> Counts:
        burst = self.setting.bursts
        ups = np.exp(burst * chance.standard_normal(len(rows)) - burst**2 / 2)
        own = self.setting.failing * self._trouble * ups
        own = own + (self.plant.common_failing if self._is_common(index) else 0.0)
        both = np.minimum(np.stack([own, own + self.plant.failing]), 1.0)
        return np.asarray(chance.binomial(rows, both), dtype=np.int64)

    def _values(self, level: Array, rows: Counts, chance: np.random.Generator) -> Counts:
        tracked = self.tracked
        column = baseline().columns[0]
        drawn = []
        for moved in (0.0, self.plant.shift):
            shares = (1 - LOST) * _shares(column.edge_array(), level[tracked] + moved, 1.0)
            # Behind the ordinary bins: none is infinite, a few are missing.
            behind = np.broadcast_to([0.0, LOST], (len(tracked), 2))
            drawn.append(chance.multinomial(rows[tracked], np.hstack([shares, behind])))
        return np.asarray(drawn, dtype=np.int64)


def _shares(edges: NDArray[np.floating], level: Array, spread: float) -> Array:
    """Return how a normal distribution falls into bins, by level."""
    below = np.interp((edges[None, :] - level[:, None]) / spread, _GRID, _NORMAL)
    ends = np.zeros((len(level), 1)), np.ones((len(level), 1))
    return np.diff(np.hstack([ends[0], below, ends[1]]), axis=1)

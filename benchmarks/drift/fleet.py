"""A fleet that measures the values of a public data set: devices that differ, days, rows that hang together.

How a value comes about (NORTA: Cario and Nelson, 1997):

1. Each device has a series of standard normal numbers per column, correlated between columns as the set's
   normal scores are, and from row to row as an AR(1) series: z ← r z + √(1 - r²) e.
2. The device's own offset, the season of the day and planted shifts and scales are added to z: so an offset
   of 0.1 sd is one of the normal score, whatever the distribution of the values.
3. The value is the quantile of the data set at the probability of z. With nothing added to z the values have
   exactly the set's own marginal distribution, with its repeated values, zeros and tails.
4. Values are missing at random as often as in the set.

The reference is drawn in the same way with nothing added and r = 0. So when offsets and season are 0, *no
drift* means that the reference and every window come from one distribution. All chance is from the seed.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift.planting import Plant
from drift.sources import Source

Block = NDArray[np.float32]

DAY = 24  # windows: a window is an hour
GRID = 8192  # steps of the quantile function over ±SPAN
SPAN = 5.0
SITE_SIZE = 5
ATOM = 0.25  # share of the rows: a value that is repeated more often is an atom


@dataclass(frozen=True)
class Setting:
    """What a fleet is like; all but the last two can be asked for at the command line.

    Attributes:
        rows: Of every window.
        columns: Of the set, at most; the drifted one is among them, the others are drawn from the seed.
        offsets: Standard deviation, over devices and columns, of what is peculiar to a device; in sd.
        autocorrelation: Of a row's normal score with that of the row before, 0 to below 1.
        season: Amplitude of a day's course, common to all devices, in sd.
        windows: That are judged, after the calibration.
        calibration: Windows in which devices set their level.
        reference_rows: Rows of the evaluation set, from which the baseline is made.
    """

    devices: int = 50
    rows: int = 1000
    columns: int = 6
    offsets: float = 0.1
    autocorrelation: float = 0.0
    season: float = 0.0
    windows: int = 60
    calibration: int = 24
    reference_rows: int = 10_000

    def names(self) -> tuple[str, ...]:
        """Return the device ids."""
        return tuple(f"device-{index:03d}" for index in range(self.devices))

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Return the groups of each device: five neighbours share a site."""
        return {name: (f"site={index // SITE_SIZE:02d}",) for index, name in enumerate(self.names())}


class Fleet:
    """The windows of one fleet, one after the other, and the reference."""

    def __init__(
        self, source: Source, setting: Setting, plant: Plant, *, columns: tuple[int, ...], seed: int
    ) -> None:
        shape = describe(source)
        self.setting = setting
        self.plant = plant
        self.columns = tuple(source.columns[column] for column in columns)
        self._quantiles = shape.quantiles[list(columns)]
        self._missing = shape.missing[list(columns)]
        self._mix = _mix(shape.correlation[np.ix_(columns, columns)])
        # Streams of their own, so that the reference does not change with the fleet.
        reference, self._chance = np.random.default_rng(seed).spawn(2)
        self._reference = reference
        each = (setting.devices, 1, len(columns))
        self._offsets = setting.offsets * self._chance.standard_normal(each, dtype=np.float32)
        self._last = self._chance.standard_normal(each, dtype=np.float32) @ self._mix

    def reference(self) -> Block:
        """Return the evaluation set: independent rows of no device in particular."""
        shape = (1, self.setting.reference_rows, len(self.columns))
        scores = self._reference.standard_normal(shape, dtype=np.float32) @ self._mix
        block = self._values(scores)
        self._lose(block, self._reference)
        return np.asarray(block[0])

    def windows(self) -> Iterator[Block]:
        """Yield blocks of shape (devices, rows, columns): the calibration's, then those that are judged."""
        for index in range(self.setting.calibration + self.setting.windows):
            since = index - self.setting.calibration - self.plant.onset
            scores = self._scores() + self._offsets + self._season(index)
            self.plant.move(scores, since)
            block = self._values(scores)
            self._lose(block, self._chance)
            self.plant.spoil(block, since, self._chance)
            yield block

    def _scores(self) -> NDArray[np.float32]:
        setting, memory = self.setting, np.float32(self.setting.autocorrelation)
        shape = (setting.devices, setting.rows, len(self.columns))
        fresh = self._chance.standard_normal(shape, dtype=np.float32) @ self._mix
        if memory:
            fresh *= np.sqrt(1 - memory**2)
            last = self._last[:, 0]
            for row in range(setting.rows):
                last = fresh[:, row] + memory * last
                fresh[:, row] = last
            self._last = last[:, None]
        return fresh

    def _season(self, index: int) -> NDArray[np.float32]:
        hours = index + np.arange(self.setting.rows, dtype=np.float32) / self.setting.rows
        course = self.setting.season * np.sin(2 * np.pi * hours / DAY)
        return course.astype(np.float32)[None, :, None]

    def _values(self, scores: NDArray[np.float32]) -> Block:
        at = ((scores + SPAN) * (GRID / (2 * SPAN))).astype(np.int32).clip(0, GRID - 1)
        values = np.empty_like(scores)
        for column, quantiles in enumerate(self._quantiles):
            values[:, :, column] = quantiles[at[:, :, column]]
        return values

    def _lose(self, block: Block, chance: np.random.Generator) -> None:
        for column in np.flatnonzero(self._missing):
            lost = chance.random(block.shape[:2], dtype=np.float32) < self._missing[column]
            block[:, :, column][lost] = np.nan


@dataclass(frozen=True)
class Shape:
    """What is drawn from of a data set; the first axis is the column.

    Attributes:
        quantiles: Values over an even grid of normal scores.
        missing: Shares of the rows.
        correlation: Of the normal scores.
        steady: Columns on which a shift of the normal score is one of the values: those without big atoms.
    """

    quantiles: NDArray[np.float32]
    missing: NDArray[np.float32]
    correlation: NDArray[np.float64]
    steady: NDArray[np.intp]


@functools.lru_cache(maxsize=16)
def describe(source: Source) -> Shape:
    """Return what is drawn from of a data set; computed once."""
    middles = (np.arange(GRID) + 0.5) * (2 * SPAN / GRID) - SPAN
    probabilities = _normal(middles)
    quantiles, ranks, steady = [], [], []
    for column, values in enumerate(source.table.T):
        held = np.sort(values[np.isfinite(values)])
        quantiles.append(held[np.minimum((probabilities * len(held)).astype(int), len(held) - 1)])
        ranks.append(_ranks(values))
        if np.unique(held, return_counts=True)[1].max() <= ATOM * len(held):
            steady.append(column)
    return Shape(
        np.array(quantiles, dtype=np.float32),
        np.isnan(source.table).mean(axis=0).astype(np.float32),
        np.atleast_2d(np.corrcoef(np.array(ranks))),
        np.array(steady, dtype=np.intp),
    )


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return normal scores: repeated values share a rank, missing ones are in the middle."""
    grid = np.linspace(-SPAN, SPAN, 4001)
    filled = np.where(np.isfinite(values), values, np.nanmedian(values))
    _, inverse, counts = np.unique(filled, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(filled)
    return np.asarray(np.interp(middle[inverse], _normal(grid), grid))


def _normal(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the standard normal distribution function, summed up on a fine grid."""
    fine = np.linspace(-2 * SPAN, 2 * SPAN, 200_001)
    summed = np.cumsum(np.exp(-(fine**2) / 2))
    return np.asarray(np.interp(scores, fine, summed / summed[-1]))


def _mix(correlation: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the matrix that gives independent numbers these correlations."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0))
    # Rounding must not make a variance other than 1.
    root /= np.sqrt((root**2).sum(axis=1, keepdims=True))
    return np.ascontiguousarray(root.T, dtype=np.float32)

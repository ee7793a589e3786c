"""What drift is judged by, read from one window: score means, and shares of odd values.

Every column gives the means of four orthonormal scores (location, scale, skew, tails; Neyman, 1937), which
have mean 0 and variance 1 on the baseline whatever its distribution, and two shares: of missing values, and
of values outside everything that the baseline held.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from muster_models.sketch.baseline import COMPONENTS, Baseline
from muster_models.sketch.correlation import pair_scores
from muster_models.sketch.features import CLASS, CONFIDENCE, VALUE
from muster_models.sketch.window import Sketch

Array = NDArray[np.float64]

LOCATION = 0
MISSING, OUTSIDE = 0, 1
SHARES = 2
SUMS = 2 * COMPONENTS + SHARES
ANSWERS = frozenset({CLASS, CONFIDENCE, VALUE})  # columns of what a model answers, by name


def answer_columns(baseline: Baseline) -> frozenset[int]:
    """Return which columns of a baseline are of what the model answers."""
    return frozenset(at for at, column in enumerate(baseline.columns) if column.name in ANSWERS)


@dataclass(frozen=True)
class Measure:
    """Sums over the rows of one or more windows of a device.

    Attributes:
        sums: Shape (columns, 10): sums of the four scores, of their squares, and rows that were missing and
            that lay outside.
    """

    rows: float
    sums: Array

    def __add__(self, other: "Measure") -> "Measure":
        """Return the measure of all rows together."""
        return Measure(self.rows + other.rows, self.sums + other.sums)


class Entry(NamedTuple):
    """What a device measured, and by which version."""

    manifest: str
    measure: Measure

    def plus(self, later: "Entry") -> "Entry":
        """Return both together; what another version measured is not mixed in."""
        if later.manifest != self.manifest:
            return later
        return Entry(self.manifest, self.measure + later.measure)


@dataclass(frozen=True)
class Measures:
    """What the devices of one round measured; the first axis of arrays is the device.

    Attributes:
        hits: Rows that were missing and that lay outside, shape (devices, columns, 2).
    """

    names: tuple[str, ...]
    manifests: tuple[str, ...]
    rows: Array
    means: Array
    variances: Array
    hits: Array

    @classmethod
    def of(cls, held: Mapping[str, Entry]) -> "Measures":
        """Return what devices measured; there is at least one."""
        rows = np.array([entry.measure.rows for entry in held.values()])
        sums = np.stack([entry.measure.sums for entry in held.values()])
        means = sums[..., :COMPONENTS] / rows[:, None, None]
        squares = sums[..., COMPONENTS : 2 * COMPONENTS] / rows[:, None, None]
        return cls(
            tuple(held),
            tuple(entry.manifest for entry in held.values()),
            rows,
            means,
            np.maximum(squares - means**2, 0.0),
            sums[..., 2 * COMPONENTS :],
        )


@functools.lru_cache(maxsize=64)
def scorer_of(baseline: Baseline) -> "Scorer":
    """Return the scorer of a baseline, made once."""
    return Scorer(baseline)


class Scorer:
    """What each bin of a baseline's columns adds to the sums, so that a batch is one product a column."""

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline
        self._pairs = len(baseline.pairs.pairs) if baseline.pairs else 0
        self._weights = []
        for column in baseline.columns:
            weights = np.zeros((column.bins, SUMS))
            weights[:, :COMPONENTS] = column.scores()
            weights[:, COMPONENTS : 2 * COMPONENTS] = column.scores() ** 2
            weights[-1, 2 * COMPONENTS + MISSING] = 1
            weights[:, 2 * COMPONENTS + OUTSIDE] = column.tail_bins()
            self._weights.append(weights)

    def measure(self, sketches: Sequence[Sketch]) -> list[Measure]:
        """Return the measure of each sketch."""
        sums = np.zeros((len(sketches), len(self._weights) + self._pairs, SUMS))
        for index, weights in enumerate(self._weights):
            counts = [sketch.counts[index] for sketch in sketches]
            if counts:
                sums[:, index] = np.concatenate(counts).reshape(len(counts), -1) @ weights
        for at, sketch in enumerate(sketches if self._pairs else ()):
            # A correlation is like the location of one more column, of which a row has variance 1.
            scores = pair_scores(sketch, self._baseline)
            sums[at, len(self._weights) :, LOCATION] = sketch.rows * scores
            sums[at, len(self._weights) :, COMPONENTS + LOCATION] = sketch.rows * (1 + scores**2)
        return [Measure(float(sketch.rows), held) for sketch, held in zip(sketches, sums, strict=True)]

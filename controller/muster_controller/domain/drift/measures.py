"""What drift is judged by, read from one window: score means, and shares of odd values.

Every column gives the means of four orthonormal scores (location, scale, skew, tails; Neyman, 1937), which
have mean 0 and variance 1 on the baseline whatever its distribution, and two shares: of missing values, and
of values outside everything that the baseline held.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_models.sketch.baseline import COMPONENTS, Baseline
from muster_models.sketch.window import Sketch

Array = NDArray[np.float64]

MISSING, OUTSIDE = 0, 1
SHARES = 2


@dataclass(frozen=True)
class Measure:
    """Sums over the rows of one or more windows of a device.

    Attributes:
        scores, squares: Sums of the scores and of their squares, shape (columns, 4).
        hits: Rows that were missing, and that lay outside; shape (columns, 2).
    """

    rows: float
    scores: Array
    squares: Array
    hits: Array

    def __add__(self, other: "Measure") -> "Measure":
        """Return the measure of all rows together."""
        return Measure(
            self.rows + other.rows,
            self.scores + other.scores,
            self.squares + other.squares,
            self.hits + other.hits,
        )

    @property
    def mean(self) -> Array:
        """Means of the scores."""
        return self.scores / self.rows

    @property
    def variance(self) -> Array:
        """Variances of the scores of one row."""
        return np.maximum(self.squares / self.rows - self.mean**2, 0.0)


class Scorer:
    """The score matrices of all columns of one baseline, side by side, so that a batch is one product."""

    def __init__(self, baseline: Baseline) -> None:
        columns = baseline.columns
        self._columns = len(columns)
        total = sum(column.bins for column in columns)
        self._scores = np.zeros((total, self._columns * COMPONENTS))
        self._hits = np.zeros((total, self._columns * SHARES))
        at = 0
        for index, column in enumerate(columns):
            rows = slice(at, at + column.bins)
            self._scores[rows, index * COMPONENTS : (index + 1) * COMPONENTS] = column.scores()
            self._hits[at + column.bins - 1, index * SHARES + MISSING] = 1
            self._hits[rows, index * SHARES + OUTSIDE] = column.tail_bins()
            at += column.bins

    def measure(self, sketches: Sequence[Sketch]) -> list[Measure]:
        """Return the measure of each sketch."""
        if not sketches:
            return []
        counts = np.array([np.concatenate(sketch.counts) for sketch in sketches], dtype=np.float64)
        shape = (len(sketches), self._columns, -1)
        scores = (counts @ self._scores).reshape(shape)
        squares = (counts @ self._scores**2).reshape(shape)
        hits = (counts @ self._hits).reshape(shape)
        return [
            Measure(float(sketch.rows), scores[i], squares[i], hits[i]) for i, sketch in enumerate(sketches)
        ]

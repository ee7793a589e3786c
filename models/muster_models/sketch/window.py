"""A sketch: what one version saw in one window. Integers, so that merging is exact addition in any order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muster_models.errors import SketchError
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.histogram import count_sorted


@dataclass(frozen=True)
class Moments:
    """Moments of the finite values of one column, for people; decisions use counts.

    Attributes:
        squares: Sum of squared differences from the mean.
        low, high: Extremes; NaN when there was no finite value.
    """

    rows: int
    mean: float
    squares: float
    low: float
    high: float

    @property
    def sd(self) -> float:
        """Standard deviation; 0 when there was no value."""
        return float(np.sqrt(self.squares / self.rows)) if self.rows else 0.0


Rows = NDArray[np.floating]  # (columns, rows), each column sorted
NO_MOMENTS = Moments(0, 0.0, 0.0, float("nan"), float("nan"))


@dataclass(frozen=True, eq=False)
class Sketch:
    """Counts per bin and moments of every column over one window.

    Attributes:
        baseline: SHA-256 of the baseline whose bins these are.
        counts: One int64 array per column, the missing bin last.
    """

    baseline: str
    rows: int
    counts: tuple[NDArray[np.int64], ...]
    moments: tuple[Moments, ...]

    def __eq__(self, other: object) -> bool:
        """Compare what decisions use: baseline, rows and counts."""
        return (
            isinstance(other, Sketch)
            and self.baseline == other.baseline
            and self.rows == other.rows
            and all(np.array_equal(a, b) for a, b in zip(self.counts, other.counts, strict=True))
        )

    def __hash__(self) -> int:
        return hash((self.baseline, self.rows))


def empty(baseline: Baseline) -> Sketch:
    """Return the sketch of no rows: the identity of ``merge``."""
    counts = tuple(np.zeros(column.bins, dtype=np.int64) for column in baseline.columns)
    return Sketch(baseline.digest, 0, counts, (NO_MOMENTS,) * len(baseline.columns))


def sketch_rows(matrix: ArrayLike, baseline: Baseline) -> Sketch:
    """Return the sketch of rows; ``matrix`` has shape (rows, columns) in the baseline's order.

    Rows of 32-bit floats are counted as they are, at half the cost; everything else as 64-bit floats.

    Raises:
        SketchError: The number of columns is not the baseline's.
    """
    rows = np.asarray(matrix)
    if rows.dtype != np.float32:
        rows = rows.astype(np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(baseline.columns):  # noqa: PLR2004 - rows by columns
        raise SketchError(f"expected rows of {len(baseline.columns)} columns, got shape {rows.shape}")
    ordered = np.ascontiguousarray(rows.T)
    ordered = np.sort(ordered, axis=1)
    counts = tuple(
        count_sorted(values, column.edge_array(rows.dtype))
        for values, column in zip(ordered, baseline.columns, strict=True)
    )
    return Sketch(baseline.digest, len(rows), counts, _all_moments(ordered))


def _all_moments(ordered: Rows) -> tuple[Moments, ...]:
    """Return the moments of sorted columns; all at once where every value is finite."""
    if ordered.shape[1] == 0:
        return (NO_MOMENTS,) * len(ordered)
    # Sorted, so that the ends tell: -inf first, then values, +inf, NaN.
    if not np.isfinite(ordered[:, [0, -1]]).all():
        return tuple(_moments(values[np.isfinite(values)]) for values in ordered)
    means, squares = _mean_and_squares(ordered)
    columns = zip(
        means.tolist(), squares.tolist(), ordered[:, 0].tolist(), ordered[:, -1].tolist(), strict=True
    )
    return tuple(Moments(ordered.shape[1], *column) for column in columns)


def _moments(finite: NDArray[np.floating]) -> Moments:
    return _all_moments(finite[None, :])[0]


def _mean_and_squares(ordered: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Values near the largest float overflow here; the counts still hold them.
    with np.errstate(over="ignore", invalid="ignore"):
        means = ordered.mean(axis=1, dtype=np.float64)
        centred = ordered - means[:, None]
        return means, np.einsum("ij,ij->i", centred, centred)


def merge(first: Sketch, second: Sketch) -> Sketch:
    """Return the sketch of both windows; neither is changed.

    Raises:
        SketchError: They belong to different baselines.
    """
    if first.baseline != second.baseline:
        raise SketchError(f"cannot merge baseline {first.baseline[:12]} with {second.baseline[:12]}")
    return Sketch(
        first.baseline,
        first.rows + second.rows,
        tuple(a + b for a, b in zip(first.counts, second.counts, strict=True)),
        tuple(_merge_moments(a, b) for a, b in zip(first.moments, second.moments, strict=True)),
    )


def _merge_moments(first: Moments, second: Moments) -> Moments:
    """Combine moments by the pairwise update of Chan, Golub and LeVeque (1979)."""
    if not first.rows or not second.rows:
        return second if not first.rows else first
    rows = first.rows + second.rows
    difference = second.mean - first.mean
    mean = first.mean + difference * second.rows / rows
    squares = first.squares + second.squares + difference * difference * first.rows * second.rows / rows
    return Moments(rows, mean, squares, min(first.low, second.low), max(first.high, second.high))

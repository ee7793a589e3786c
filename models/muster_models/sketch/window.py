"""A sketch: what one version saw in one window. Integers, so that merging is exact addition in any order."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muster_models.errors import SketchError
from muster_models.sketch import categories, pairs
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.categories import Others
from muster_models.sketch.histogram import cumulate
from muster_models.sketch.rows import Rows, as_rows


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


Sorted = NDArray[np.floating]  # (columns, rows), each column sorted
NO_MOMENTS = Moments(0, 0.0, 0.0, float("nan"), float("nan"))
_NO_PAIRS = np.zeros(0, dtype=np.int64)
_NO_PAIRS.flags.writeable = False


@dataclass(frozen=True, eq=False)
class Sketch:
    """Counts per bin and moments of every column over one window.

    Attributes:
        baseline: SHA-256 of the baseline whose bins these are.
        counts: One int64 array per column: the ordinary bins, then infinite, then missing.
        moments: One per column; none for classes and categories.
        others: Of each category in turn, what is known about values without a bin; for people.
        pairs: Of each pair of the baseline, the sum of products of normal scores.
    """

    baseline: str
    rows: int
    counts: tuple[NDArray[np.int64], ...]
    moments: tuple[Moments, ...]
    others: tuple[Others, ...] = ()
    pairs: NDArray[np.int64] = field(default_factory=lambda: _NO_PAIRS)

    def __eq__(self, other: object) -> bool:
        """Compare what decisions use: baseline, rows, counts and pairs."""
        return (
            isinstance(other, Sketch)
            and self.baseline == other.baseline
            and self.rows == other.rows
            and all(np.array_equal(a, b) for a, b in zip(self.counts, other.counts, strict=True))
            and np.array_equal(self.pairs, other.pairs)
        )

    def __hash__(self) -> int:
        return hash((self.baseline, self.rows))


def empty(baseline: Baseline) -> Sketch:
    """Return the sketch of no rows: the identity of ``merge``."""
    return Sketch(
        baseline.digest,
        0,
        tuple(np.zeros(column.bins, dtype=np.int64) for column in baseline.columns),
        (NO_MOMENTS,) * len(baseline.columns),
        (categories.NONE,) * len(baseline.categories),
        np.zeros(len(baseline.pairs.pairs), dtype=np.int64) if baseline.pairs else _NO_PAIRS,
    )


def sketch_rows(rows: Rows | ArrayLike, baseline: Baseline) -> Sketch:
    """Return the sketch of rows in the baseline's order of columns; a matrix where none is a category.

    Rows of 16- and 32-bit floats are counted as they are, at half the cost; all other numbers as the nearest
    64-bit float.

    Raises:
        SketchError: The columns are not the baseline's.
    """
    named = baseline.categories
    held = as_rows(rows, numbers=len(baseline.columns) - len(named), categories=len(named))
    numbers = np.ascontiguousarray(held.numbers.T)
    if baseline.pairs is None:
        ordered = np.sort(numbers, axis=1)
        counts = _count_all(ordered, baseline)
        products = _NO_PAIRS
    else:
        order = np.argsort(numbers, axis=1)
        ordered = np.take_along_axis(numbers, order, axis=1)
        counts = _count_all(ordered, baseline)
        products = _products(ordered, order, counts, baseline=baseline)
    moments = _all_moments(ordered)
    if not named:
        return Sketch(baseline.digest, len(held), counts, moments, (), products)
    found = [
        categories.count(categories.tally(values), column.values, reveal=column.reveal)
        for values, column in zip(held.categories, named, strict=True)
    ]
    of_numbers, of_names = iter(zip(counts, moments, strict=True)), iter(found)
    both = [
        (next(of_names)[0], NO_MOMENTS) if column.kind == "category" else next(of_numbers)
        for column in baseline.columns
    ]
    all_counts, all_moments = zip(*both, strict=True)
    others = tuple(other for _, other in found)
    return Sketch(baseline.digest, len(held), all_counts, all_moments, others, products)


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where columns that are numbers stand in one array: of each, rows below every bin, and below the end.

    Attributes:
        edges: Of each column, its edges and where what lies below them stands.
        columns: Of each column, the slice of its counts among the differences.
        all_rows: What stands for all rows where every value is finite.
        apart: Infinite values have a bin.
    """

    edges: tuple[tuple[NDArray[np.floating], slice], ...]
    columns: tuple[slice, ...]
    all_rows: NDArray[np.int64]
    apart: bool


@functools.lru_cache(maxsize=64)
def _plan(baseline: Baseline, dtype: "np.dtype[np.floating]") -> _Plan:
    edges, columns, shares = [], [], []
    at = 0
    for column in baseline.columns:
        if column.kind != "category":
            edges.append((column.edge_array(dtype), slice(at + 1, at + column.ordinary)))
            columns.append(slice(at, at + column.bins))
            shares.append(np.arange(column.bins + 1) >= column.ordinary)
            at += column.bins + 1
    apart = baseline.format > 1
    all_rows = np.concatenate([np.zeros(0, dtype=bool), *shares]).astype(np.int64)
    return _Plan(tuple(edges), tuple(columns), all_rows, apart)


def _count_all(ordered: Sorted, baseline: Baseline) -> tuple[NDArray[np.int64], ...]:
    """Return the counts of every column that is a number."""
    plan = _plan(baseline, ordered.dtype)
    below = plan.all_rows * ordered.shape[1]
    for values, (edges, place), column in zip(ordered, plan.edges, plan.columns, strict=True):
        # Sorted, so that the ends tell: -inf first, then values, +inf, NaN.
        if len(values) == 0 or (isfinite(values[0]) and isfinite(values[-1])):
            below[place] = values.searchsorted(edges)
        else:
            below[column.start : column.stop + 1] = cumulate(values, edges, apart=plan.apart)
    counts = np.diff(below)
    return tuple([counts[column] for column in plan.columns])


def _products(
    ordered: Sorted, order: NDArray[np.intp], counts: Sequence[NDArray[np.int64]], *, baseline: Baseline
) -> NDArray[np.int64]:
    """Return the sums of products of all pairs.

    Args:
        order: By which the rows of each column were sorted.
        counts: Of each column: in sorted order the rows of one bin follow those of the other.
    """
    assert baseline.pairs is not None
    place = np.cumsum([column.kind != "category" for column in baseline.columns]) - 1
    scored = np.zeros((len(baseline.pairs.columns), ordered.shape[1]))
    for row, paired in zip(scored, baseline.pairs.columns, strict=True):
        at = place[paired.column]
        held = counts[at][: len(paired.scores)]
        first = int(np.searchsorted(ordered[at], -np.inf, side="right"))
        row[order[at, first : first + int(held.sum())]] = np.repeat(paired.scores, held)
    return pairs.add_products(baseline.pairs, scored)


def _all_moments(ordered: Sorted) -> tuple[Moments, ...]:
    """Return the moments of sorted columns; all at once where every value is finite."""
    if ordered.shape[1] == 0:
        return (NO_MOMENTS,) * len(ordered)
    if not np.isfinite(ordered[:, [0, -1]]).all():
        return tuple(_moments(values[np.isfinite(values)]) for values in ordered)
    means, squares = _mean_and_squares(ordered)
    columns = zip(
        means.tolist(), squares.tolist(), ordered[:, 0].tolist(), ordered[:, -1].tolist(), strict=True
    )
    return tuple(Moments(ordered.shape[1], *column) for column in columns)


def _moments(finite: NDArray[np.floating]) -> Moments:
    return _all_moments(finite[None, :])[0]


def _mean_and_squares(ordered: Sorted) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
        tuple(categories.merge(a, b) for a, b in zip(first.others, second.others, strict=True)),
        first.pairs + second.pairs,
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

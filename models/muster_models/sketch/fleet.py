"""A baseline from what a fleet has sketched: merged counts of its first windows. Pure.

Nothing is guessed. New edges are some of the old ones, those next to the quantiles, so that the new counts
are sums of old ones: the new baseline is as fine as the old bins were where the rows lie, and no finer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.sketch.baseline import Baseline, ColumnBaseline
from muster_models.sketch.edges import BINS, TAIL_FACTOR, TAILS
from muster_models.sketch.window import Moments, Sketch

MIN_ROWS = 500  # below which a quantile of forty is held by a dozen rows
COARSE_BINS = 10  # with fewer, a column's deciles do not exist
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class FleetBaseline:
    """A baseline of merged windows.

    Attributes:
        limits: What it cannot say, in sentences for people.
    """

    baseline: Baseline
    limits: tuple[str, ...]


def of_fleet(sketch: Sketch, baseline: Baseline) -> FleetBaseline:
    """Return the baseline that merged windows make.

    Args:
        sketch: Of all rows together.
        baseline: Over which they were sketched.

    Raises:
        SketchError: It is a sketch of another baseline, or of too few rows.
    """
    if sketch.baseline != baseline.digest:
        raise SketchError(f"expected a sketch of baseline {baseline.digest[:12]}, got {sketch.baseline[:12]}")
    if sketch.rows < MIN_ROWS:
        raise SketchError(f"a baseline of the fleet needs at least {MIN_ROWS} rows, got {sketch.rows}")
    columns = tuple(
        _column(column, counts, moments)
        for column, counts, moments in zip(baseline.columns, sketch.counts, sketch.moments, strict=True)
    )
    made = Baseline(columns, axes=baseline.axes, origin="fleet")
    return FleetBaseline(made, tuple(_limits(made, baseline)))


def _limits(made: Baseline, before: Baseline) -> Iterator[str]:
    yield "drift is relative to these windows: what was wrong in them counts as usual"
    coarse = [one.name for one in made.columns if one.kind == "numeric" and _filled(one) < COARSE_BINS]
    if coarse:
        yield f"coarse, because the rows fill few of the bins that were declared: {', '.join(coarse)}"
    if any(column.kind == "numeric" for column in made.columns):
        yield (
            "edges are some of those before: repeated values do not stand alone, and the order of rows, "
            "which tells how much they depend on each other, is not known"
        )
    if before.pairs is not None:
        yield "correlations are left out, they need rows"


def _filled(column: ColumnBaseline) -> int:
    return int(np.count_nonzero(column.counts[: column.ordinary]))


def _column(column: ColumnBaseline, counts: Integers, moments: Moments) -> ColumnBaseline:
    if column.kind == "category":
        return _category(column, counts)
    edges, summed = (np.array(column.edges), counts) if column.kind != "numeric" else _coarser(column, counts)
    known = moments.rows > 0 and np.isfinite([moments.mean, moments.sd]).all()
    return ColumnBaseline(
        name=column.name,
        kind=column.kind,
        edges=tuple(edges.tolist()),
        counts=tuple(summed.tolist()),
        mean=moments.mean if known else column.mean,
        sd=moments.sd if known else column.sd,
        unit=column.unit,
    )


def _category(column: ColumnBaseline, counts: Integers) -> ColumnBaseline:
    named = len(column.values)
    order = np.argsort(-counts[:named], kind="stable")
    return ColumnBaseline(
        name=column.name,
        kind="category",
        edges=(),
        counts=(*counts[:named][order].tolist(), *counts[named:].tolist()),
        mean=0.0,
        sd=0.0,
        unit=column.unit,
        values=tuple(column.values[at] for at in order),
        reveal=column.reveal,
    )


def _coarser(column: ColumnBaseline, counts: Integers) -> tuple[Floats, Integers]:
    """Return those edges that lie next to the quantiles, with tails, and the counts between them."""
    old, ordinary = np.array(column.edges), counts[: column.ordinary]
    held = np.flatnonzero(ordinary)
    if not len(held):
        return old, counts
    first, last = int(held[0]), int(held[-1])
    cumulated = np.cumsum(ordinary)  # at edge i lie cumulated[i] values below
    wanted = cumulated[-1] * np.arange(1, BINS) / BINS
    near = np.clip(np.searchsorted(cumulated, wanted), max(first - 1, 0), len(old) - 1)
    below = np.maximum(near - 1, 0)
    nearer = np.abs(cumulated[below] - wanted) < np.abs(cumulated[near] - wanted)
    ends = [max(first - 1, 0), min(last, len(old) - 1)]
    chosen = np.unique([*np.where(nearer, below, near), *ends])
    chosen = chosen[(chosen >= ends[0]) & (chosen <= ends[1])]
    sums = np.diff(np.concatenate([[0], cumulated[chosen], [cumulated[-1]]]))
    inner = old[chosen]
    # Beyond an end that nothing lies outside of, new edges split nothing: there the tails are anew.
    low_tails = _tails(inner, -1) if first > 0 else np.zeros(0)
    high_tails = _tails(inner, 1) if last < len(old) else np.zeros(0)
    edges = np.concatenate([low_tails, inner, high_tails])
    zeros_low, zeros_high = np.zeros(len(low_tails), int), np.zeros(len(high_tails), int)
    return edges, np.concatenate([zeros_low, sums, zeros_high, counts[column.ordinary :]])


def _tails(inner: Floats, side: int) -> Floats:
    end = inner[-1] if side > 0 else inner[0]
    scale = float(inner[-1] - inner[0]) / 4 or abs(float(end)) or 1.0  # the held range is about four sd
    steps = scale * TAIL_FACTOR ** np.arange(TAILS) / TAIL_FACTOR
    tails = np.unique(end + side * steps)
    return np.asarray(tails[np.isfinite(tails) & ((tails > end) if side > 0 else (tails < end))])

"""Distances between a window and its baseline, for people to look at; nothing here is thresholded."""

import numpy as np
from numpy.typing import NDArray

from muster_models.sketch.baseline import ColumnBaseline

GROUPS = 10


def psi(counts: NDArray[np.int64], column: ColumnBaseline) -> float:
    """Return the population stability index over about ten groups of bins, half a row added to each.

    Infinite and missing values are groups of their own. The bins of a category are not grouped.
    """
    reference = np.asarray(column.counts, dtype=np.float64)
    ordinary = reference[: column.ordinary]
    special = column.bins - column.ordinary
    if column.kind == "category":
        groups, total = np.arange(column.bins), column.bins
    else:
        # Deciles of the reference nest in 40 quantile bins.
        ranks = np.cumsum(ordinary) - ordinary / 2
        deciles = np.minimum(ranks / max(ordinary.sum(), 1) * GROUPS, GROUPS - 1).astype(int)
        groups, total = np.append(deciles, GROUPS + np.arange(special)), GROUPS + special
    expected = np.bincount(groups, reference, total) + 0.5
    actual = np.bincount(groups, counts, total) + 0.5
    p, q = actual / actual.sum(), expected / expected.sum()
    return float(((p - q) * np.log(p / q)).sum())


def ks(counts: NDArray[np.int64], column: ColumnBaseline) -> float:
    """Return the largest difference of the two distribution functions at the bin edges, 0..1.

    A category has no distribution function: its distance is 0, and ``linf`` says more.
    """
    if column.kind == "category":
        return 0.0
    p, q = _ordinary(counts, column)
    return float(np.abs(np.cumsum(p - q)).max(initial=0.0))


def js(counts: NDArray[np.int64], column: ColumnBaseline) -> float:
    """Return the Jensen-Shannon divergence over all bins, in bits, 0..1."""
    p, q = _shares(counts), _shares(np.asarray(column.counts))
    middle = (p + q) / 2
    return float((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2)


def wasserstein(counts: NDArray[np.int64], column: ColumnBaseline) -> float:
    """Return the earth mover's distance in standard deviations of the reference, from bin edges.

    The open outer bins move no mass: the distance is that of the values clipped to the outer edges.
    """
    if column.kind in {"class", "category"} or column.sd == 0:
        return 0.0
    p, q = _ordinary(counts, column)
    gaps = np.abs(np.cumsum(p - q))[:-1]
    middles = (gaps[:-1] + gaps[1:]) / 2
    return float((middles * np.diff(column.edge_array())).sum() / column.sd)


def chi2(counts: NDArray[np.int64], column: ColumnBaseline) -> float:
    """Return Pearson's statistic of two samples over its degrees of freedom: about 1 without drift.

    Over the bins in which either has a row. With few rows a bin, and with rows that depend on each other, it
    lies above 1 without any drift.
    """
    held = np.stack((counts, np.asarray(column.counts))).astype(np.float64)
    held = held[:, held.sum(axis=0) > 0]
    sums, sizes = held.sum(axis=0), held.sum(axis=1, keepdims=True)
    if held.shape[1] < 2 or not sizes.all():  # noqa: PLR2004 - one bin has no degree of freedom
        return 0.0
    expected = sizes * sums / sizes.sum()
    return float((np.square(held - expected) / expected).sum() / (held.shape[1] - 1))


def linf(counts: NDArray[np.int64], column: ColumnBaseline) -> float:
    """Return by how much the share of that bin moved which moved most, 0..1."""
    return abs(moved_most(counts, column)[1])


def moved_most(counts: NDArray[np.int64], column: ColumnBaseline) -> tuple[int, float]:
    """Return the bin whose share moved most, and by how much, -1..1: the effect size of a category."""
    moved = _shares(counts) - _shares(np.asarray(column.counts))
    at = int(np.abs(moved).argmax())
    return at, float(moved[at])


def bin_name(column: ColumnBaseline, at: int) -> str:
    """Return what a bin holds, for people."""
    if at == column.bins - 1:
        return "missing"
    if at == column.infinite:
        return "infinite"
    if column.kind == "category":
        return column.values[at] if at < len(column.values) else "other"
    if column.kind == "class":
        return str(at - 1)
    low = "" if at == 0 else f"{column.edges[at - 1]:.4g} ≤ "
    return f"{low}x" if at == len(column.edges) else f"{low}x < {column.edges[at]:.4g}"


def _ordinary(
    counts: NDArray[np.int64], column: ColumnBaseline
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of ordinary bins among their own, now and in the reference."""
    reference = np.asarray(column.counts)
    return _shares(counts[: column.ordinary]), _shares(reference[: column.ordinary])


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    total = counts.sum()
    return counts / total if total else np.zeros(len(counts))


def _relative_entropy(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    held = p > 0
    return float((p[held] * np.log2(p[held] / q[held])).sum())

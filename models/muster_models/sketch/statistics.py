"""Distances between a window and its baseline, for people to look at; nothing here is thresholded."""

import numpy as np
from numpy.typing import NDArray

from muster_models.sketch.baseline import ColumnBaseline

GROUPS = 10


def psi(counts: NDArray[np.int64], column: ColumnBaseline) -> float:
    """Return the population stability index over about ten groups of bins, half a row added to each."""
    reference = np.asarray(column.counts, dtype=np.float64)
    # Deciles of the reference nest in 40 quantile bins.
    ranks = np.cumsum(reference[:-1]) - reference[:-1] / 2
    groups = np.append(
        np.minimum(ranks / max(reference[:-1].sum(), 1) * GROUPS, GROUPS - 1).astype(int), GROUPS
    )
    expected = np.bincount(groups, reference, GROUPS + 1) + 0.5
    actual = np.bincount(groups, counts, GROUPS + 1) + 0.5
    p, q = actual / actual.sum(), expected / expected.sum()
    return float(((p - q) * np.log(p / q)).sum())


def ks(counts: NDArray[np.int64], column: ColumnBaseline) -> float:
    """Return the largest difference of the two distribution functions at the bin edges, 0..1."""
    p, q = _shares(counts[:-1]), _shares(np.asarray(column.counts[:-1]))
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
    if column.kind == "class" or column.sd == 0:
        return 0.0
    p, q = _shares(counts[:-1]), _shares(np.asarray(column.counts[:-1]))
    gaps = np.abs(np.cumsum(p - q))[:-1]
    middles = (gaps[:-1] + gaps[1:]) / 2
    return float((middles * np.diff(column.edge_array())).sum() / column.sd)


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    total = counts.sum()
    return counts / total if total else np.zeros(len(counts))


def _relative_entropy(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    held = p > 0
    return float((p[held] * np.log2(p[held] / q[held])).sum())

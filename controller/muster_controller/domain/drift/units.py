"""How far something moved in its own unit: from where to where, for people."""

import math
from statistics import NormalDist

import numpy as np

from muster_models.sketch.baseline import ColumnBaseline
from muster_models.wire import LATENCY_EDGES_MS

SHARE_LEGS = ("missing", "outside")
_NORMAL = NormalDist()
_ROOT = math.sqrt(3)  # a location score of this is the very end of the reference


def in_own_unit(
    column: ColumnBaseline, leg: str, *, normal: float, effect: float
) -> tuple[float, float] | None:
    """Return the middle value before and after, or the share of the rows; None where neither says it.

    A location score is a mean rank among the reference. The rank of the middle value follows from it as for a
    shifted normal distribution, and its value is read off the reference's own distribution.

    Args:
        normal: What the devices are like by their calibration: a score mean, or a share.
        effect: By how much that moved.
    """
    if leg in SHARE_LEGS:
        return max(normal, 0.0), min(1.0, max(normal + effect, 0.0))
    if leg != "location" or column.kind not in {"numeric", "confidence"} or len(column.edges) < 2:  # noqa: PLR2004
        return None
    before, after = (_quantile(column, _middle(_rank(score))) for score in (normal, normal + effect))
    return before, after


def in_milliseconds(*, normal: float, effect: float) -> tuple[float, float]:
    """Return the middle latency before and after, between the edges of its bins."""
    edges = np.log(np.array([LATENCY_EDGES_MS[0] / 2, *LATENCY_EDGES_MS, LATENCY_EDGES_MS[-1] * 2]))
    places = np.linspace(0, 1, len(edges))
    before, after = (
        math.exp(float(np.interp(_rank(score), places, edges))) for score in (normal, normal + effect)
    )
    return before, after


def _rank(score: float) -> float:
    return min(1.0, max(0.0, (score / _ROOT + 1) / 2))


def _middle(rank: float) -> float:
    """Return the rank of the middle value, from the mean rank of all."""
    if not 0 < rank < 1:
        return rank
    return _NORMAL.cdf(math.sqrt(2) * _NORMAL.inv_cdf(rank))


def _quantile(column: ColumnBaseline, rank: float) -> float:
    counts = np.asarray(column.counts[: column.ordinary], dtype=np.float64)
    below = np.cumsum(counts)[:-1] / max(counts.sum(), 1)
    return float(np.interp(rank, below, column.edge_array()))

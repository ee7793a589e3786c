"""Kayenta: a Mann-Whitney interval of canary against baseline, judged anew in each interval.

Restates ``MannWhitneyClassifier`` with ``NetflixACAJudge``'s ``confLevel`` 0.98 and ``tolerance`` 0.25, and
``MannWhitney.calculateConfidenceInterval``: the interval of the shift x - y where the rank statistic of
``x - shift`` and ``y``, with a continuity correction, crosses the normal quantiles. Canary is High when the
lower end is above a quarter of the estimated shift's size and the mean ratio is at least 1; Low likewise.

Its data are twelve points per scope and window, over all windows of the stage so far (a growing lookback),
and it is asked first when there are 50 points, as its authors advise. Metrics: mean prediction (either
direction) and share of failed calls (increase), each marked critical, so that one that fails, or has no data,
fails the canary (``WeightedSumScorer.criticalFailures``). The baseline is the concurrent control. The root is
read off the sorted differences and not found by Brent's method, whose tolerance of 1e-4 would be the unit of
the shares: so failed calls are as if told in per cent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rollouts.fleet import MOMENTS
from rollouts.looks import Arm, Look, Peer, Word

Array = NDArray[np.float64]
Direction = Literal["increase", "either"]

TOLERANCE = 0.25
QUANTILE = 2.3263478740408408  # of the normal distribution at confLevel 0.98, two-sided
POINTS = 50  # of a metric, before it is judged
DIRECTIONS: tuple[Direction, ...] = ("either", "increase")  # of the mean, and of failed calls


@dataclass(frozen=True)
class Interval:
    """Of the shift of the canary against the baseline; ``estimate`` is that of Hodges and Lehmann."""

    low: float
    high: float
    estimate: float


def interval(canary: Array, control: Array, quantile: float = QUANTILE) -> Interval:
    """Return the shift between two samples."""
    sizes = len(canary), len(control)
    apart = np.sort((canary[:, None] - control[None, :]).ravel())
    spread = _spread(canary, control)
    # Between apart[k - 1] and apart[k] the canary, moved back, wins so many of all comparisons.
    wins = np.arange(len(apart), -1, -1.0)
    above = wins - sizes[0] * sizes[1] / 2
    scores = (above - 0.5 * np.sign(above)) / spread

    def root(at: float) -> float:
        first = int(np.argmax(scores <= at)) if (scores <= at).any() else len(apart)
        return float(apart[min(max(first - 1, 0), len(apart) - 1)])

    return Interval(root(quantile), root(-quantile), _middle(apart, scores))


def _middle(apart: Array, scores: Array) -> float:
    """Return where the score is zero: in the middle of where it is, when it is so over a range."""
    zero = np.flatnonzero(scores == 0)
    if len(zero):
        ends = np.clip([zero[0] - 1, zero[-1]], 0, len(apart) - 1)
        return float(apart[ends].mean())
    return float(apart[max(int(np.argmax(scores < 0)) - 1, 0)])


def _spread(canary: Array, control: Array) -> float:
    sizes = len(canary), len(control)
    total = sum(sizes)
    ties = sum(
        float((counts.astype(np.float64) ** 3 - counts).sum())
        for counts in (np.unique(values, return_counts=True)[1] for values in (canary, control))
    )
    spread = sizes[0] * sizes[1] / 12 * ((total + 1) - ties / (total * (total - 1)))
    return float(np.sqrt(spread))


def fails(canary: Array, control: Array, direction: Direction) -> bool:
    """Tell whether a metric is classified High, or Low where that counts."""
    if np.array_equal(np.sort(canary), np.sort(control)):
        return False
    if len(np.unique(np.concatenate([canary, control]))) == 1:
        return False
    found = interval(canary, control)
    bound = TOLERANCE * abs(found.estimate)
    means = float(canary.mean()), float(control.mean())
    ratio = means[0] / means[1] if 0.0 not in means else None
    high = found.low > bound and (ratio is None or ratio >= 1)
    low = direction == "either" and found.high < -bound and (ratio is None or ratio <= 1)
    return high or low


def judge(looks: Sequence[Look], windows: int) -> Word:
    """Stop when a metric fails on all windows so far; go on at the end of the stage."""
    if len(looks) * MOMENTS >= POINTS:
        canary, control = _points(look.canary for look in looks), _points(look.control for look in looks)
        if canary is None or control is None:
            return Word.STOP
        if any(map(fails, canary, control, DIRECTIONS)):
            return Word.STOP
    return Word.GO if len(looks) >= windows else Word.WAIT


def _points(arms: Iterable[Arm | None]) -> list[Array] | None:
    """Return the points of each metric; None without any."""
    held = [arm.moments() for arm in arms if arm is not None]
    return [np.concatenate(metric) for metric in zip(*held, strict=True)] if held else None


PEER = Peer(
    "Kayenta",
    "fails on a Mann-Whitney interval at 0.98, anew in each window from 50 points on",
    "spinnaker/kayenta a69573b, MannWhitneyClassifier.scala, NetflixACAJudge.scala, MannWhitney.scala",
    judge,
    goes_back=True,
)

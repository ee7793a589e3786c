"""Accuracy without labels, from how sure the model is: an estimate, with assumptions nobody can check here.

Every prediction in a bin of confidence is taken to be right as often as those of the evaluation set in the
same bin were: the confidence-based performance estimation that NannyML calls CBPE, on 32 bins instead of rows
(Guillory et al. 2021 compare such estimates). That holds as long as scores mean the same as at publishing:
inputs may move, what is right for an input may not. With concept drift it says that all is well.

A bin that the evaluation set hardly filled borrows from a line through all bins in logits (Platt 1999).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BORROWED = 20.0  # rows that the line through all bins counts for in each
_ROUNDS = 25
_RIDGE = 1.0  # keeps a line through few rows near the diagonal
_CLIP = 1e-4


@dataclass(frozen=True)
class Estimate:
    """An estimated accuracy.

    Attributes:
        error: Twice its standard error from the number of rows here and in the evaluation set; what the
            assumptions do to it is not in there.
        is_calibrated: The evaluation set says how often each bin is right; otherwise scores are taken at
            their word.
    """

    value: float
    error: float
    rows: int
    is_calibrated: bool


def centres(edges: Sequence[float]) -> Array:
    """Return the middle confidence of each bin, by their inner edges, which are evenly spaced up to 1."""
    ends = np.array([2 * edges[0] - edges[1], *edges, 1.0])
    return np.asarray((ends[1:] + ends[:-1]) / 2)


def estimate(
    counts: Sequence[int], middle: Array, reliability: Sequence[tuple[int, int]] = ()
) -> Estimate | None:
    """Return the accuracy that a histogram of confidence speaks for; None without a row.

    Args:
        counts: Predictions per bin.
        middle: Confidence of each bin.
        reliability: Evaluation rows per bin, and how many of them were answered right; empty where unknown.
    """
    rows = np.asarray(counts, dtype=np.float64)
    n = float(rows.sum())
    if n == 0:
        return None
    known = np.asarray(reliability, dtype=np.float64).reshape(-1, 2)
    is_calibrated = len(known) == len(middle) and known[:, 0].sum() > 0
    share = rows / n
    right, doubt = _calibrate(middle, known) if is_calibrated else (middle, np.zeros_like(middle))
    variance = float((share * right * (1 - right)).sum() / n + (share**2 * doubt).sum())
    return Estimate(float((share * right).sum()), 2 * math.sqrt(variance), int(n), bool(is_calibrated))


def rates(middle: Array, reliability: Sequence[tuple[int, int]]) -> Array | None:
    """Return how often a prediction of each bin is right; None where the evaluation set does not say."""
    known = np.asarray(reliability, dtype=np.float64).reshape(-1, 2)
    return _calibrate(middle, known)[0] if len(known) == len(middle) and known[:, 0].sum() > 0 else None


def _calibrate(middle: Array, known: Array) -> tuple[Array, Array]:
    """Return how often each bin is right, and the variance of that."""
    held, right = known[:, 0], known[:, 1]
    line = _line(middle, held, right)
    rate = (right + BORROWED * line) / (held + BORROWED)
    return rate, rate * (1 - rate) / (held + BORROWED)


def _line(middle: Array, held: Array, right: Array) -> Array:
    """Fit right ~ logistic(a + b logit(confidence)) to binomial counts; return it at every bin."""
    logit = np.log(np.clip(middle, _CLIP, 1 - _CLIP) / (1 - np.clip(middle, _CLIP, 1 - _CLIP)))
    design = np.column_stack([np.ones_like(logit), logit])
    start = np.array([0.0, 1.0])
    weights = start.copy()
    for _ in range(_ROUNDS):  # Newton's method; the ridge makes it converge from here
        fitted = _logistic(design @ weights)
        slope = design.T @ (right - held * fitted) - _RIDGE * (weights - start)
        curve = design.T @ (design * (held * fitted * (1 - fitted))[:, None]) + _RIDGE * np.eye(2)
        weights = weights + np.linalg.solve(curve, slope)
    return _logistic(design @ weights)


def _logistic(values: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))))

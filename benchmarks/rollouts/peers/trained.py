"""KS against training data: what drift libraries offer as the check of a canary.

The two-sample test of Kolmogorov and Smirnov between the canary's predictions of one window and the rows of
the training data, at 0.05, in every window: Evidently's default for a numeric column of up to 1,000 reference
rows, here with all reference rows. The distance is taken over the edges of the baseline's bins, which makes
it a little smaller; the probability is the asymptotic one, Q(λ) = 2 Σ (-1)^(k-1) exp(-2 k² λ²).
"""

import math
from collections.abc import Sequence

import numpy as np

from rollouts.fleet import Counts, baseline
from rollouts.looks import Look, Peer, Word

LEVEL = 0.05
_TERMS = 101


def probability(one: Counts, other: Counts) -> float:
    """Return how likely two samples of one distribution are to be so far apart.

    Args:
        one, other: Rows per bin, of the same bins in ascending order.
    """
    rows, others = float(one.sum()), float(other.sum())
    apart = float(np.max(np.abs(np.cumsum(one) / rows - np.cumsum(other) / others)))
    root = math.sqrt(rows * others / (rows + others))
    # The correction of Stephens (1970) for samples that are not large.
    scaled = (root + 0.12 + 0.11 / root) * apart
    if scaled < 0.2:
        return 1.0  # the series converges slowly there, and says 1
    terms = (math.exp(-2 * (k * scaled) ** 2) * (1 if k % 2 else -1) for k in range(1, _TERMS))
    return min(1.0, max(0.0, 2 * sum(terms)))


def judge(looks: Sequence[Look], windows: int) -> Word:
    """Stop at the first window that differs from the training data."""
    column = baseline().columns[0]
    canary = looks[-1].canary
    reference = np.array(column.counts[: column.ordinary])
    if canary is not None and probability(canary.values[: column.ordinary], reference) < LEVEL:
        return Word.STOP
    return Word.GO if len(looks) >= windows else Word.WAIT


PEER = Peer(
    "KS against training data",
    "stops at p < 0.05 of a window of the canary against the training rows",
    "evidentlyai/evidently, KS at 0.05 by default; see `benchmarks/drift/peers/ask_evidently.py`",
    judge,
    goes_back=True,
)

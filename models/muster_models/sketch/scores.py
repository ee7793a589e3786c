"""Scores of bins: numbers that say how far a bin lies from the middle of the reference, and in which way."""

import functools
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 4  # location, scale, skew, tails


@functools.lru_cache(maxsize=1024)
def by_rank(counts: tuple[int, ...]) -> NDArray[np.float64]:
    """Return four orthonormal Legendre polynomials of the mid-rank, shape (bins, 4).

    Under the reference each has mean 0 and variance 1, for any distribution of the values, so the mean score
    of n rows times sqrt(n) is close to a standard normal. (Neyman's smooth test, 1937.)
    """
    rank = _mid_ranks(counts)
    return _orthonormal(counts, np.vander(rank, COMPONENTS + 1, increasing=True))


@functools.lru_cache(maxsize=1024)
def by_name(counts: tuple[int, ...]) -> NDArray[np.float64]:
    """Return four orthonormal contrasts of bins whose only order is their frequency, shape (bins, 4).

    The first is the mid-rank, so it moves when rows go from frequent to rare bins; the others are the three
    most frequent bins, the first in order, each against the rest.
    """
    columns = np.zeros((len(counts), COMPONENTS + 1))
    columns[:, 0] = 1
    columns[:, 1] = _mid_ranks(counts)
    frequent = np.arange(min(COMPONENTS - 1, len(counts)))
    columns[frequent, frequent + 2] = 1
    return _orthonormal(counts, columns)


def _mid_ranks(counts: tuple[int, ...]) -> NDArray[np.float64]:
    """Return -1..1: 0 is the middle of the reference."""
    held = np.asarray(counts, dtype=np.float64)
    weights = held / max(held.sum(), 1)
    return np.asarray(2 * (np.cumsum(weights) - weights / 2) - 1)


def _orthonormal(counts: tuple[int, ...], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns made orthonormal under the reference, in order and without the first, which is constant.

    Those that the reference cannot tell from the ones before become 0.
    """
    held = np.asarray(counts, dtype=np.float64)
    weights = held / max(held.sum(), 1)
    made = np.zeros_like(columns)
    for k in range(columns.shape[1]):
        rest = columns[:, k].copy()
        for _ in range(2):  # Gram-Schmidt: once more takes away what rounding left
            rest -= made[:, :k] @ (made[:, :k].T @ (weights * rest))
        size = float(np.sqrt(weights @ (rest * rest)))
        if size > 1e-6:  # noqa: PLR2004 - fewer distinct bins than columns
            made[:, k] = rest / size
    result = np.ascontiguousarray(made[:, 1:])
    result.flags.writeable = False
    return result


def normal(counts: tuple[int, ...], *, scale: float, most: int) -> NDArray[np.int64]:
    """Return the normal score of each bin's mid-rank as a whole number.

    What lies outside everything that the reference held scores as its outermost bin: how far outside, the
    reference cannot say, and a guess would move correlations that are close to 1.

    Args:
        counts: Reference rows of the bins.
        scale: What one standard deviation of the reference becomes.
        most: Bound of the absolute value.
    """
    held = np.asarray(counts, dtype=np.float64)
    if held.sum() == 0:
        return np.zeros(len(counts), dtype=np.int64)
    shares = held / held.sum()
    filled = np.flatnonzero(held)
    ranks = (np.cumsum(shares) - shares / 2)[np.clip(np.arange(len(held)), filled[0], filled[-1])]
    scores = np.array([NormalDist().inv_cdf(rank) for rank in ranks.tolist()])
    scores -= shares @ scores
    deviation = float(np.sqrt(shares @ scores**2))
    if deviation == 0:
        return np.zeros(len(counts), dtype=np.int64)
    return np.asarray(np.clip(np.rint(scores * scale / deviation), -most, most).astype(np.int64))

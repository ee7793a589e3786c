"""Differential privacy of a window: noise on counts, before they leave the device. Pure; chance is passed in.

Two sets of rows are neighbours when one row is another: in each column, one bin has a row less and one a row
more. To every bin of a column a whole number is added, from the two-sided geometric law
P(z) = (1-a)/(1+a) a^|z| with a = exp(-ε/2) (Ghosh, Roughgarden and Sundararajan, 2009). So whatever is told
of one column of one window is at most e^ε times as probable for a neighbour: ε of privacy loss. A row is in
all columns of its window: their losses add up. See ``compose``.

How many rows there were is told as it is. What noise cannot be added to is not told: moments, with the
extremes; the names and the number of other values of a category. Pairs have no form with noise.

Noisy counts can be negative and need not add up to the rows. Devices tell the nearest counts that are not and
do (projection onto the simplex, in whole numbers), which costs no privacy. It is biased: bins that are empty
get some rows, at the cost of full ones. A device's own level, with which the detector compares, has the same
bias as long as windows have about as many rows.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.categories import NONE, REGISTERS, Others
from muster_models.sketch.window import NO_MOMENTS, Sketch

Integers = NDArray[np.int64]
Words = Callable[[int], NDArray[np.uint64]]

DELTA = 2.0**-40  # with which probability the law of the numbers that are drawn is not exactly that above
_MAGNITUDE_BITS = 63
_MOST_NOISE = 2**20
# Of other values only their number of rows is told, which has noise; the rest says the same for all.
_ONE_REGISTER = bytes([1, *[0] * (REGISTERS - 1)])


@dataclass(frozen=True)
class Loss:
    """Privacy loss of everything that is told of one row, or of many windows of one person.

    Attributes:
        windows: How many are told.
        basic: ε of all of them: the sum.
        advanced: ε' by the theorem of Dwork, Rothblum and Vadhan (2010), which holds but for ``delta``; the
            smaller of both counts.
    """

    windows: int
    basic: float
    advanced: float
    delta: float


def compose(epsilon: float, columns: int, windows: int, *, delta: float = 1e-6) -> Loss:
    """Return the loss of so many windows of so many columns, for somebody whose rows are in all of them."""
    told = columns * windows
    advanced = np.sqrt(2 * told * np.log(1 / delta)) * epsilon + told * epsilon * np.expm1(epsilon)
    return Loss(windows, told * epsilon, float(advanced), delta)


def noise_variance(epsilon: float) -> float:
    """Return the variance of what is added to one count: 2a/(1-a)²; 0 without privacy.

    >>> round(noise_variance(1.0), 2)
    7.84
    """
    if epsilon <= 0:
        return 0.0
    alpha = np.exp(-epsilon / 2)
    return float(2 * alpha / (1 - alpha) ** 2)


@functools.lru_cache(maxsize=8)
def thresholds(epsilon: float) -> NDArray[np.uint64]:
    """Return how many of 2^63 words give a number of at most 0, 1, 2 and so on, sign aside.

    Raises:
        ValueError: ε is not above 0, or so small that the numbers would be larger than a million.
    """
    most = int(np.ceil(-2 * np.log(DELTA / 2) / epsilon)) if epsilon > 0 else 0
    if not 0 < most <= _MOST_NOISE:
        raise ValueError(f"expected an epsilon above {2 * 28 / _MOST_NOISE:.1g}, got {epsilon}")
    tails = 2 * np.exp(-epsilon / 2 * np.arange(1, most + 1)) / (1 + np.exp(-epsilon / 2))
    scale = 2**_MAGNITUDE_BITS
    made = np.array([scale - int(tail * scale) for tail in tails.tolist()], dtype=np.uint64)
    made.flags.writeable = False
    return made


def noise(epsilon: float, words: NDArray[np.uint64]) -> Integers:
    """Return one number of the law for each word: its lowest bit is the sign."""
    magnitudes = np.searchsorted(thresholds(epsilon), words >> np.uint64(1), side="right")
    return np.where(words & np.uint64(1), -magnitudes, magnitudes).astype(np.int64)


def project(counts: Integers, rows: int) -> Integers:
    """Return the nearest counts that are not negative and add up to ``rows``; ties go to the first bins."""
    ordered = np.sort(counts.astype(np.float64))[::-1]
    surplus = (np.cumsum(ordered) - rows) / np.arange(1, len(ordered) + 1)
    held = int(np.flatnonzero(ordered > surplus)[-1]) if rows else 0
    exact = np.maximum(counts - surplus[held], 0.0) if rows else np.zeros(len(counts))
    whole = np.floor(exact)
    missing = int(rows - whole.sum())
    first = np.argsort(whole - exact, kind="stable")[:missing]
    whole[first] += 1
    return whole.astype(np.int64)


def privatise(sketch: Sketch, baseline: Baseline, epsilon: float, words: Words) -> Sketch:
    """Return what may be told of a window with loss ``epsilon`` for each column.

    Args:
        words: Returns so many random words of 64 bits; on a device from the system's secure source.

    Raises:
        SketchError: The baseline has pairs.
    """
    if baseline.pairs is not None:
        raise SketchError("pairs cannot be told with differential privacy: publish a version without them")
    counts = tuple(
        project(held + noise(epsilon, words(len(held))), sketch.rows) if sketch.rows else held
        for held in sketch.counts
    )
    others = tuple(
        Others(int(held[column.ordinary - 1]), (), _ONE_REGISTER) if held[column.ordinary - 1] else NONE
        for held, column in zip(counts, baseline.columns, strict=True)
        if column.kind == "category"
    )
    return Sketch(sketch.baseline, sketch.rows, counts, (NO_MOMENTS,) * len(counts), others, sketch.pairs)

"""Evidence that may be looked at after every observation: e-processes and Shiryaev-Roberts e-detectors.

A bet on a standardised observation z multiplies a wealth by exp(b z - b²/2), for each of a few sizes b. If z
has mean at most 0 and is sub-gaussian with variance at most 1, the wealth is a supermartingale, and so is
the mean over the sizes (a mixture). Two things follow, whenever and however often one looks:

- Ville's inequality (1939): an *e-process*, that is a wealth which starts at 1, ever reaches 1/p with
  probability at most p. Used for a question that is asked once, such as "is this version worse?".
- Shin, Ramdas and Rinaldo (2022), "E-detectors": R ← (1 + R) exp(b z - b²/2), the detector of Shiryaev
  (1963) and Roberts (1966), reaches A for the first time after A observations or more on average. Used for
  a question that is asked for ever, such as "has this device begun to drift?".

Wealth is kept as natural logarithms, one per bet, in the last axis; the many detectors of drift are kept as
they are, up to ``MOST``, because that costs a tenth. Variances are estimated, so both bounds hold
approximately; ``tests/property/test_sequential_laws.py`` measures how closely.
"""

import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Store = NDArray[np.float32]

# Larger bets are not safe: with skewed means E exp(b z) is carried by the third cumulant.
BETS = np.array([0.25, 0.5, 1.0, 2.0])
CLIP = 6.0  # one observation never says more than this; clipping from above keeps the bound
# Those of detectors are of scores, which are bounded: the largest gains most on what is to be found within
# five windows.
DETECTOR_BETS = np.array([0.25, 0.5, 1.2, 2.5])
# A rate may grow a little or a lot: bets that it is this many times what calibration allows.
RATE_FACTORS = np.array([2.0, 5.0, 50.0])
MOST = np.float32(1e30)  # no detector says more, so that one falls again soon after what it tells of is over
_LARGEST_RATE = 0.95
_HALVINGS = 50  # to the last digits of a float
_LARGEST_GAIN = np.float32(60.0)
_NARROW_BETS = DETECTOR_BETS.astype(np.float32)
_NARROW_FACTORS = RATE_FACTORS.astype(np.float32)


def new_wealth(*shape: int) -> Array:
    """Return the logarithms of wealth 1 for every bet: the start of e-processes."""
    return np.zeros((*shape, len(BETS)))


def bet(z: ArrayLike, *, least: float = -CLIP) -> Array:
    """Return the logarithm of what each bet multiplies its wealth by; shape of ``z`` and one axis more.

    An observation that is not a number is no evidence: it multiplies by 1.

    Args:
        least: What is less counts as this. Harmless while the mean stays at most 0; where it may rise and
            fall, a lower limit lets a few good observations outweigh as many that were far worse.

    >>> bet(2.0).round(3).tolist()
    [0.469, 0.875, 1.5, 2.0]
    """
    values = np.clip(np.asarray(z, dtype=np.float64), least, CLIP)[..., None]
    gain = BETS * values - BETS**2 / 2
    return np.where(np.isnan(gain), 0.0, gain)


def see(detectors: Store, z: NDArray[np.floating]) -> Store:
    """Return e-detectors after one more observation: R ← (1 + R) exp(b z - b²/2).

    Args:
        detectors: R itself, one for each bet in the last axis; 0 in the beginning.
        z: For each bet, or one for all in an axis of length 1: bets may allow for different doubts. What is
            not a number changes no detector.
    """
    gain = np.clip(np.asarray(z, dtype=np.float32), np.float32(-CLIP), np.float32(CLIP)) * _NARROW_BETS
    gain -= _NARROW_BETS**2 / 2
    return _step(detectors, gain)


def see_rate(
    detectors: Store, hits: NDArray[np.floating], rows: NDArray[np.floating], *, rate: Store, effect: Store
) -> Store:
    """Return e-detectors after one more count: bets on a grown rate, likelihood ratios of a binomial.

    Args:
        detectors: R itself, one for each factor of the rate in the last axis; 0 in the beginning.
        hits: How many of ``rows`` had the property.
        rate: Upper bound of the rate that does not matter, in (0, 1).
        effect: Design effect, at least 1: how many rows say as much as one independent row.
    """
    low = np.clip(np.asarray(rate, dtype=np.float32), np.float32(1e-6), np.float32(0.5))[..., None]
    # A binomial likelihood ratio with p > rate is a supermartingale for every true rate below ``rate``.
    high = np.minimum(low * _NARROW_FACTORS, np.maximum(np.float32(_LARGEST_RATE), low))
    counted, total = np.asarray(hits, np.float32)[..., None], np.asarray(rows, np.float32)[..., None]
    gain = counted * np.log(high / low) + (total - counted) * np.log((1 - high) / (1 - low))
    gain /= np.maximum(np.asarray(effect, dtype=np.float32), 1)[..., None]
    return _step(detectors, np.clip(gain, -_LARGEST_GAIN, _LARGEST_GAIN))


def _step(detectors: Store, gain: Store) -> Store:
    """Return (1 + R) exp(gain), at most ``MOST``; ``gain`` is lost."""
    factor = np.exp(gain, out=gain)
    after = detectors + np.float32(1)
    with np.errstate(over="ignore"):
        after *= factor
    np.minimum(after, MOST, out=after)
    if np.isnan(factor.sum()):
        after = np.where(np.isnan(factor), detectors, after)
    return np.asarray(after, dtype=np.float32)


@functools.lru_cache(maxsize=4096)
def reach(rounds: int, p: float) -> float:
    """Return the sum of so many standardised observations at which an e-process reaches 1/p.

    >>> round(reach(1, 0.05), 2), round(reach(100, 0.05), 2)
    (3.06, 29.52)
    """
    wanted = -math.log(p)
    low, high = 0.0, float(np.min((wanted + math.log(len(BETS))) / BETS + rounds * BETS / 2))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if log_mean(BETS * middle - rounds * BETS**2 / 2) < wanted:
            low = middle
        else:
            high = middle
    return high


def interval(
    rounds: int, *, precision: float, score: float, slack: float, p: float
) -> tuple[float, float] | None:
    """Return a confidence sequence for a mean: the values that bets against them have not yet refuted.

    It inverts the e-processes of ``bet``, one against each side: after n rounds with standard errors s, the
    bet against "the mean is at most m" has seen z = (x - m) / s, and reaches 1/p when the sum of these
    reaches ``reach(n, p)``, which is linear in m. Each end holds with probability 1 - p, at every look
    together: a discrete mixture boundary (Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform,
    nonparametric, nonasymptotic confidence sequences"). Clipping, which only weakens a test, is left out.

    Args:
        precision, score: Sums over rounds of 1 / s and of x / s.
        slack: Sum of what is granted to both tests, by s.

    Returns:
        None before the first round.
    """
    if rounds == 0 or precision <= 0:
        return None
    wide = reach(rounds, p) + slack
    return (score - wide) / precision, (score + wide) / precision


def log_mean(logs: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """Return the logarithm of the mean of exponentials along ``axis``.

    A mean of e-values is an e-value, whatever depends on what.

    >>> float(log_mean(np.log([1.0, 3.0])).round(6)) == round(float(np.log(2)), 6)
    True
    """
    top = logs.max(axis=axis, keepdims=True)
    steady = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        mean = np.log(np.exp(logs - steady).mean(axis=axis, keepdims=True)) + steady
    return np.asarray(mean.squeeze(axis=axis))

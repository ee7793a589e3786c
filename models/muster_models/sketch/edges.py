"""Edges of the bins of numbers, and what else is measured on the reference values of one column."""

import numpy as np
from numpy.typing import NDArray

BINS = 40  # a multiple of ten, so that deciles (PSI) nest exactly
TAILS = 4
TAIL_FACTOR = 4.0


def anchored_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bin edges of a numeric reference; non-finite values are left out."""
    finite = np.sort(values[np.isfinite(values)])
    if len(finite) == 0:
        return np.zeros(1)
    quantiles = np.quantile(finite, np.linspace(0, 1, BINS + 1), method="inverted_cdf")
    distinct, repeats = np.unique(quantiles, return_counts=True)
    atoms = distinct[repeats > 1]
    low, high = distinct[0], distinct[-1]
    # A constant reference has no scale of its own: its size is the natural unit.
    scale = deviation(finite) or abs(float(low)) or 1.0
    with np.errstate(over="ignore"):  # beyond the largest number there is no edge
        steps = scale * TAIL_FACTOR ** np.arange(TAILS) / TAIL_FACTOR
        after_high = np.nextafter(high, np.inf)
        edges = np.concatenate(
            [low - steps, distinct, np.nextafter(atoms, np.inf), [after_high], after_high + steps]
        )
    return np.unique(edges[np.isfinite(edges)])


def _units(finite: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Return values below one, whose sums and squares cannot overflow, and by which power of two."""
    exponent = int(np.frexp(np.abs(finite).max())[1])
    return np.ldexp(finite, -exponent), exponent


def mean(finite: NDArray[np.float64]) -> float:
    """Return the mean; 0 of nothing."""
    if len(finite) == 0:
        return 0.0
    units, exponent = _units(finite)
    return float(np.ldexp(units.mean(), exponent))


def deviation(finite: NDArray[np.float64]) -> float:
    """Return the standard deviation; 0 of nothing."""
    if len(finite) == 0:
        return 0.0
    units, exponent = _units(finite)
    return float(np.ldexp(units.std(), exponent))


def lag(finite: NDArray[np.float64]) -> float:
    """Return the correlation of each value with the one before it; 0 of less than three and of a constant."""
    if len(finite) < 3:  # noqa: PLR2004 - two pairs at least
        return 0.0
    units, _ = _units(finite)
    centred = units - units.mean()
    squares = float((centred * centred).sum())
    return float((centred[1:] * centred[:-1]).sum()) / squares if squares else 0.0

"""Counting values into the bins of a column: sort once, then search the few edges in the sorted values."""

import numpy as np
from numpy.typing import NDArray


def count_values(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the rows per bin, the missing bin last; shape ``(len(edges) + 2,)``.

    NaN counts as missing; infinities fall into the outermost bins. Searching 50 edges in n sorted values
    costs far less than searching n values in 50 edges, because numpy sorts with vector instructions.
    """
    return count_sorted(np.sort(values), edges)


def count_sorted(values: NDArray[np.floating], edges: NDArray[np.floating]) -> NDArray[np.int64]:
    """Count values that are already sorted (NaN last, as numpy sorts them)."""
    present = len(values)
    if present and np.isnan(values[-1]):
        present = int(np.searchsorted(values, np.nan, side="left"))
    counts = np.empty(len(edges) + 2, dtype=np.int64)
    below = np.searchsorted(values[:present], edges, side="left")
    counts[0] = below[0] if len(below) else present
    counts[1:-2] = np.diff(below)
    if len(below):
        counts[-2] = present - below[-1]
    counts[-1] = len(values) - present
    return counts

"""PSI, KS and JS of many sketches of one column at once: the same values as in ``statistics``, in a batch.

For a controller that shows a whole fleet. Nothing here is thresholded. Relative errors are those of 32-bit
logarithms, about 1e-6, which is far below what a person can see.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_models.sketch.baseline import ColumnBaseline
from muster_models.sketch.statistics import GROUPS

Array = NDArray[np.float32]

BITS = np.float32(1 / np.log(2))  # of one natural unit


@dataclass(frozen=True)
class Distances:
    """One entry per sketch."""

    psi: Array
    ks: Array
    js: Array


@dataclass(frozen=True, eq=False)
class _Reference:
    """What the distances take from a baseline.

    Attributes:
        groups: Shape (bins, groups of PSI): which bin falls into which group.
        expected: Share of each group, half a row added to each; and its logarithm.
        shares: Of each bin; ``entropy`` is the sum of p log p over them, in bits.
        below: Reference distribution function at the edges of ordinary bins; None for a category.
    """

    groups: Array
    expected: Array
    log_expected: Array
    shares: Array
    entropy: float
    below: Array | None


def distances(counts: NDArray[np.integer], column: ColumnBaseline) -> Distances:
    """Return the distances of sketches from their baseline.

    Args:
        counts: Shape (sketches, bins of the column).
    """
    reference = _reference(column)
    held = counts.astype(np.float32)
    return Distances(
        _psi(held, reference),
        _ks(held[:, : column.ordinary], reference),
        _js(held, reference),
    )


def _psi(held: Array, reference: _Reference) -> Array:
    actual = held @ reference.groups
    actual += np.float32(0.5)
    actual /= actual.sum(axis=1, keepdims=True)
    return np.asarray(((actual - reference.expected) * (np.log(actual) - reference.log_expected)).sum(axis=1))


def _ks(ordinary: Array, reference: _Reference) -> Array:
    if reference.below is None:
        return np.zeros(len(ordinary), dtype=np.float32)
    below = np.cumsum(ordinary, axis=1)
    below /= np.maximum(below[:, -1:], 1)
    # Without a value there are no shares: all of the reference lies apart.
    return np.asarray(np.abs(below - reference.below).max(axis=1, initial=0.0))


def _js(held: Array, reference: _Reference) -> Array:
    """Return H(middle) - H(p)/2 - H(q)/2, in bits."""
    shares = held / np.maximum(held.sum(axis=1, keepdims=True), 1)
    middle = (shares + reference.shares) / 2
    within = (_entropy(shares) + np.float32(reference.entropy)) / 2
    return np.asarray(np.maximum(within - _entropy(middle), 0))


def _entropy(shares: Array) -> Array:
    """Return the sum of p log2 p over the bins, 0 where p is 0."""
    # The natural logarithm of 32-bit numbers is vectorised; that to base 2 takes ten times as long.
    logs = np.log(np.maximum(shares, np.float32(1e-30)))
    return np.asarray(np.einsum("ij,ij->i", shares, logs) * BITS)


@functools.lru_cache(maxsize=1024)
def _reference(column: ColumnBaseline) -> _Reference:
    held = np.asarray(column.counts, dtype=np.float64)
    groups = _groups(column, held)
    expected = held @ groups + 0.5
    expected /= expected.sum()
    shares = held / held.sum()
    ordinary = held[: column.ordinary]
    below = None if column.kind == "category" else np.cumsum(ordinary) / max(ordinary.sum(), 1)
    return _Reference(
        groups.astype(np.float32),
        expected.astype(np.float32),
        np.log(expected).astype(np.float32),
        shares.astype(np.float32),
        float(_entropy(shares.astype(np.float32)[None, :])[0]),
        None if below is None else below.astype(np.float32),
    )


def _groups(column: ColumnBaseline, held: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the groups of ``statistics.psi``: deciles of ordinary bins, and each special bin by itself."""
    if column.kind == "category":
        return np.eye(column.bins)
    ordinary = held[: column.ordinary]
    ranks = np.cumsum(ordinary) - ordinary / 2
    deciles = np.minimum(ranks / max(ordinary.sum(), 1) * GROUPS, GROUPS - 1).astype(int)
    special = column.bins - column.ordinary
    at = np.append(deciles, GROUPS + np.arange(special))
    return np.asarray(np.eye(GROUPS + special)[at])

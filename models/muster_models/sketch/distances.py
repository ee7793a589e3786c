"""PSI, KS and JS of many sketches of one column at once: the same values as in ``statistics``, in a batch.

For a controller that shows a whole fleet. Nothing here is thresholded. Errors are those of sums of 32-bit
numbers, about 1e-6, which is far below what a person can see.

A batch is turned, so that a bin is a row and the sketches lie side by side: every step is then one pass over
whole rows, and nothing is done for each sketch. Bins that the baseline does not hold, which are mostly the
tails, are added up before: their part of every distance is known without a logarithm.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_models.sketch.baseline import ColumnBaseline
from muster_models.sketch.statistics import GROUPS

Array = NDArray[np.float32]

BLOCK = 1024  # sketches at once: all that is computed of them stays in a cache of 1 MiB
LEAST = np.float32(1e-30)  # stands for no share where a logarithm is taken; it is multiplied by 0
HALF = np.float32(0.5)
ONE = np.float32(1.0)


@dataclass(frozen=True)
class Distances:
    """One entry per sketch."""

    psi: Array
    ks: Array
    js: Array


@dataclass(frozen=True, eq=False)
class _Reference:
    """What the distances take from a baseline; arrays have one row for each bin or group.

    Attributes:
        bins, ordinary: How many bins there are, and how many of them are neither infinite nor missing.
        held: From the first bin that the baseline holds to the last.
        shares: Of those bins; ``entropy`` is the sum of p log p over all bins, in bits.
        within: From the first ordinary bin that the baseline holds to the last.
        below: Reference distribution function before those bins, and behind each; None for a category.
        ends: Of each group of PSI among ``below``, where it ends.
        expected: Share of each group, half a row added to each; and its logarithm.
    """

    bins: int
    ordinary: int
    held: slice
    shares: Array
    entropy: np.float32
    within: slice
    below: Array | None
    ends: NDArray[np.intp]
    expected: Array
    log_expected: Array


@dataclass(frozen=True, eq=False)
class _Space:
    """Room for what is computed of one block, used again for the next one.

    Attributes:
        shares: Of all bins.
        sums: As ``_Reference.below``; ``middle`` and ``logs``: as its ``shares``.
        rows: A sketch a row; the same memory as what follows ``shares``.
    """

    shares: Array
    sums: Array
    middle: Array
    logs: Array
    groups: Array
    group_logs: Array
    rows: Array

    @classmethod
    def of(cls, reference: _Reference, sketches: int) -> "_Space":
        """Return room for so many sketches."""
        held, groups = len(reference.shares), len(reference.expected)
        sums = 0 if reference.below is None else len(reference.below)
        rows = (reference.bins, sums, held, held, groups, groups)
        # One piece of memory, which is had again at the next call: several that are given back together
        # go back to the system, and to have their pages again takes as long as everything else here.
        whole = np.empty((max(sum(rows), 2 * reference.bins), sketches), dtype=np.float32)
        ends = itertools.accumulate(rows, initial=0)
        unturned = whole[reference.bins : 2 * reference.bins].reshape(sketches, reference.bins)
        return cls(*[*(whole[start:end] for start, end in itertools.pairwise(ends)), unturned])

    def turn(self, counts: NDArray[np.integer]) -> None:
        """Take in counts as ``shares``, a bin a row.

        Numbers are made small in the order in which they lie: to turn them from where nothing of them is in a
        cache would take twice as long.
        """
        self.rows[...] = counts
        self.shares[...] = self.rows.T


def distances(counts: NDArray[np.integer], column: ColumnBaseline) -> Distances:
    """Return the distances of sketches from their baseline.

    Args:
        counts: Shape (sketches, bins of the column).
    """
    reference = _reference(column)
    psi, ks, js = (np.zeros(len(counts), dtype=np.float32) for _ in range(3))
    space: _Space | None = None
    for start in range(0, len(counts), BLOCK):
        block = counts[start : start + BLOCK]
        if space is None or space.shares.shape[1] != len(block):
            space = _Space.of(reference, len(block))
        at = slice(start, start + len(block))
        space.turn(block)
        total = space.shares.sum(axis=0)
        special = space.shares[reference.ordinary :].sum(axis=0)
        np.multiply(space.shares, ONE / np.maximum(total, ONE), out=space.shares)
        if reference.below is None:
            psi[at] = _psi(space.shares, total, reference, space)
        else:
            psi[at], ks[at] = _psi_and_ks(reference.below, total, special, reference=reference, space=space)
        js[at] = _js(total, reference, space)
    return Distances(psi, ks, js)


def _psi_and_ks(
    below: Array, total: Array, special: Array, *, reference: _Reference, space: _Space
) -> tuple[Array, Array]:
    """Return both, from one running sum over the bins.

    Args:
        special: Infinite and missing values of each sketch, of ``total``.
    """
    ordinary = total - special
    sums = _running(reference, space)
    ends = sums[reference.ends]
    ends[-1] = ordinary / np.maximum(total, ONE)  # what lies beyond the baseline is in the last group
    groups = space.groups
    groups[0] = ends[0]
    np.subtract(ends[1:], ends[:-1], out=groups[1:GROUPS])
    groups[GROUPS:] = space.shares[reference.ordinary :]
    if special.any():
        sums *= total / np.maximum(ordinary, ONE)
    sums -= below  # without a value there are no shares: all of the reference lies apart
    np.abs(sums, out=sums)
    return _psi(groups, total, reference, space), sums.max(axis=0)


def _running(reference: _Reference, space: _Space) -> Array:
    """Return the share that lies before the bins that the baseline holds, and up to the end of each.

    A running sum by NumPy along this axis takes ten times as long as adding row after row.
    """
    sums = space.sums
    sums[0] = space.shares[: reference.within.start].sum(axis=0)
    add = np.add
    for before, own, behind in zip(sums[:-1], space.shares[reference.within], sums[1:], strict=True):
        add(before, own, behind)
    return sums


def _psi(shares: Array, total: Array, reference: _Reference, space: _Space) -> Array:
    """Return the stability index of groups that hold such shares of the rows."""
    actual, logs = space.groups, space.group_logs
    share = ONE / (total + HALF * np.float32(len(actual)))
    np.multiply(shares, total * share, out=actual)
    actual += HALF * share
    np.log(actual, out=logs)
    logs -= reference.log_expected
    actual -= reference.expected
    return np.asarray(np.einsum("ij,ij->j", actual, logs))


def _js(total: Array, reference: _Reference, space: _Space) -> Array:
    """Return the divergence in bits: half of sum(p log p) + sum(q log q) - sum((p + q) log((p + q) / 2)).

    A bin that the baseline does not hold adds p log p - p log(p / 2), which is p.
    """
    shares, middle, logs = space.shares[reference.held], space.middle, space.logs
    np.add(shares, LEAST, out=logs)
    np.log2(logs, out=logs)
    found = np.einsum("ij,ij->j", shares, logs)
    np.add(shares, reference.shares, out=middle)
    np.log2(middle, out=logs)
    found -= np.einsum("ij,ij->j", middle, logs)
    found += reference.entropy + ONE
    found += np.minimum(total, ONE)  # the sum of all p
    return np.asarray(np.maximum(found, 0) * HALF)


@functools.lru_cache(maxsize=1024)
def _reference(column: ColumnBaseline) -> _Reference:
    counts = np.asarray(column.counts, dtype=np.float64)
    ordinary = counts[: column.ordinary]
    shares = counts / counts.sum()
    held, within = _hull(counts), _hull(ordinary)
    deciles = _deciles(ordinary)
    below: Array | None = None
    grouped = counts
    if column.kind != "category":
        grouped = np.concatenate([np.bincount(deciles, ordinary, GROUPS), counts[column.ordinary :]])
        behind = np.cumsum(ordinary)[within] / max(ordinary.sum(), 1)
        below = np.concatenate([np.zeros(1), behind])[:, None].astype(np.float32)
    expected = ((grouped + 0.5) / (grouped + 0.5).sum())[:, None]
    ends = np.searchsorted(deciles, np.arange(GROUPS), side="right") - within.start
    kept = shares[shares > 0]
    return _Reference(
        bins=column.bins,
        ordinary=column.ordinary,
        held=held,
        shares=np.maximum(shares[held], LEAST)[:, None].astype(np.float32),
        entropy=np.float32((kept * np.log2(kept)).sum()),
        within=within,
        below=below,
        ends=np.clip(ends, 0, within.stop - within.start),
        expected=expected.astype(np.float32),
        log_expected=np.log(expected).astype(np.float32),
    )


def _hull(counts: NDArray[np.float64]) -> slice:
    """Return the bins from the first that holds a row to the last; one where none does."""
    there = np.flatnonzero(counts)
    return slice(int(there[0]), int(there[-1]) + 1) if len(there) else slice(0, 1)


def _deciles(ordinary: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the group of each ordinary bin, as ``statistics.psi`` has it; deciles nest in the bins."""
    ranks = np.cumsum(ordinary) - ordinary / 2
    return np.asarray(np.minimum(ranks / max(ordinary.sum(), 1) * GROUPS, GROUPS - 1), dtype=np.intp)

"""PSI, KS and JS of many sketches of one column at once: the same values as in ``statistics``, in a batch.

For a controller that shows a whole fleet. Nothing here is thresholded. Errors are those of sums of 32-bit
numbers, about 1e-6, which is far below what a person can see. Only a PSI of more than a million rows that
leave groups all but empty, and which is far above 0.2, can be off by some per cent.

A batch is turned, so that a bin is a row and the sketches lie side by side: every step is then one pass over
whole rows, and nothing is done for each sketch. Bins that the baseline does not hold, which are mostly the
tails, are added up before: their part of every distance is known without a logarithm.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_models.sketch.baseline import ColumnBaseline
from muster_models.sketch.statistics import GROUPS

Array = NDArray[np.float32]

BLOCK = 1024  # sketches at once: all that is computed of them stays in a cache of 1 MiB
TURNED = 512  # of them at once, while they are turned
NEXT_TO_NONE = np.float32(1e-6)  # rows, of a sketch that has none: nothing is divided by 0
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

    It is as small as can be, because what of it leaves the cache costs more than to compute it again.

    Attributes:
        rows: A part of the counts as they lie, a sketch a row.
        shares: Of all bins.
        first, second: Running sums, groups, logarithms: whatever is at work.
    """

    rows: Array
    shares: Array
    first: Array
    second: Array

    @classmethod
    def of(cls, reference: _Reference, sketches: int) -> "_Space":
        """Return room for so many sketches."""
        held, groups = len(reference.shares), len(reference.expected)
        first = max(held, groups, 0 if reference.below is None else len(reference.below))
        behind = reference.bins + first
        # One piece of memory, which is had again at the next call: several that are given back together
        # go back to the system, and to have their pages again takes as long as everything else here.
        whole = np.empty((behind + max(held, groups), sketches), dtype=np.float32)
        rows = np.empty((TURNED, reference.bins), dtype=np.float32)
        return cls(rows, whole[: reference.bins], whole[reference.bins : behind], whole[behind:])

    def turn(self, counts: NDArray[np.integer]) -> None:
        """Take in counts as ``shares``, a bin a row.

        Numbers are made small in the order in which they lie: to turn them from where nothing of them is in a
        cache takes several times as long.
        """
        for start in range(0, len(counts), TURNED):
            part = counts[start : start + TURNED]
            rows = self.rows[: len(part)]
            rows[...] = part
            self.shares[:, start : start + TURNED] = rows.T


@dataclass(frozen=True, eq=False)
class _Rows:
    """How many rows each sketch of a block has; none counts as next to none, and has shares of 0.

    Attributes:
        all: Of all bins; ``each`` is the share of one row.
        special: Of those, infinite or missing.
    """

    all: Array
    each: Array
    special: Array


def distances(counts: NDArray[np.integer], column: ColumnBaseline) -> Distances:
    """Return the distances of sketches from their baseline.

    Args:
        counts: Shape (sketches, bins of the column).
    """
    reference = _reference(column)
    psi, ks, js = np.zeros((3, len(counts)), dtype=np.float32)
    space: _Space | None = None
    for start in range(0, len(counts), BLOCK):
        block = counts[start : start + BLOCK]
        if space is None or space.shares.shape[1] != len(block):
            space = _Space.of(reference, len(block))
        at = slice(start, start + len(block))
        rows = _take(block, reference, space)
        if reference.below is None:
            psi[at] = _psi(space.shares, rows, reference, space)
        else:
            psi[at], ks[at] = _psi_and_ks(reference.below, rows, reference, space)
        js[at] = _js(rows, reference, space)
    return Distances(psi, ks, js)


def _take(counts: NDArray[np.integer], reference: _Reference, space: _Space) -> _Rows:
    """Fill the shares of a block, and return the rows that they are shares of."""
    space.turn(counts)
    everything = np.maximum(space.shares.sum(axis=0), NEXT_TO_NONE)
    rows = _Rows(everything, ONE / everything, space.shares[reference.ordinary :].sum(axis=0))
    np.multiply(space.shares, rows.each, out=space.shares)
    return rows


def _psi_and_ks(below: Array, rows: _Rows, reference: _Reference, space: _Space) -> tuple[Array, Array]:
    """Return both, from one running sum over the bins."""
    ordinary = rows.all - rows.special
    sums = _running(space.first[: len(below)], reference, space)
    ends = sums[reference.ends]
    ends[-1] = ordinary * rows.each  # what lies beyond the baseline is in the last group
    groups = space.second[: len(reference.expected)]
    groups[0] = ends[0]
    np.subtract(ends[1:], ends[:-1], out=groups[1:GROUPS])
    groups[GROUPS:] = space.shares[reference.ordinary :]
    np.maximum(groups, 0, out=groups)  # the difference of two sums of very many rows can be a little less
    if rows.special.any():
        sums *= rows.all / np.maximum(ordinary, NEXT_TO_NONE)
    sums -= below  # without a value there are no shares: all of the reference lies apart
    np.abs(sums, out=sums)
    ks = sums.max(axis=0)
    return _psi(groups, rows, reference, space), ks


def _running(sums: Array, reference: _Reference, space: _Space) -> Array:
    """Return the share that lies before the bins that the baseline holds, and up to the end of each.

    A running sum by NumPy along this axis takes ten times as long as adding row after row.
    """
    add = np.add
    before = space.shares[: reference.within.start].sum(axis=0, out=sums[0])
    for own, behind in zip(space.shares[reference.within], sums[1:], strict=True):
        before = add(before, own, behind)
    return sums


def _psi(shares: Array, rows: _Rows, reference: _Reference, space: _Space) -> Array:
    """Return the stability index of groups that hold such shares of the rows.

    The sum of (a - e) log(a / e), where a is the share with half a row added to each group. The factor by
    which that makes all shares smaller is left out of the logarithm: both a and e add up to 1.
    """
    groups = len(reference.expected)
    actual, logs = space.second[:groups], space.first[:groups]
    np.add(shares, HALF * rows.each, out=actual)
    np.log(actual, out=logs)
    logs -= reference.log_expected
    expected = reference.expected[:, 0] @ logs
    logs *= actual
    return np.asarray(logs.sum(axis=0) * (rows.all / (rows.all + HALF * np.float32(groups))) - expected)


def _js(rows: _Rows, reference: _Reference, space: _Space) -> Array:
    """Return the divergence in bits: half of sum(p log p) + sum(q log q) - sum((p + q) log((p + q) / 2)).

    A bin that the baseline does not hold adds p log p - p log(p / 2), which is p.
    """
    shares = space.shares[reference.held]
    logs, middle = space.first[: len(shares)], space.second[: len(shares)]
    np.add(shares, LEAST, out=logs)
    np.log2(logs, out=logs)
    np.add(shares, reference.shares, out=middle)
    np.log2(middle, out=middle)
    logs -= middle
    logs *= shares
    found = logs.sum(axis=0) - reference.shares[:, 0] @ middle
    found += reference.entropy + ONE
    found += np.minimum(rows.all, ONE)  # the sum of all p
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

"""Sketches made the slow and obvious way, value by value: what the fast way must agree with exactly."""

import hashlib
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from math import isinf, isnan

import numpy as np

from muster_models.sketch.baseline import Baseline, ColumnBaseline
from muster_models.sketch.rows import Rows


@dataclass(frozen=True)
class Slow:
    """Everything that a sketch holds exactly.

    Attributes:
        others: Of each category the rows of every other value, by name.
        registers: Of each category, from the bits of the hashes.
        pairs: Sums of products.
    """

    counts: list[list[int]]
    others: list[Counter[str]]
    registers: list[bytes]
    pairs: list[int]


def sketch_slowly(rows: Rows, baseline: Baseline) -> Slow:
    """Return the sketch of rows, value by value."""
    columns = _columns(rows, baseline)
    bins = [
        [_bin(value, column) for value in values]
        for values, column in zip(columns, baseline.columns, strict=True)
    ]
    counts = [
        [held.count(at) for at in range(c.bins)] for held, c in zip(bins, baseline.columns, strict=True)
    ]
    others, registers = [], []
    for values, column in zip(columns, baseline.columns, strict=True):
        if column.kind == "category":
            names = [name for value in values if (name := _name(value)) is not None]
            others.append(Counter(name for name in names if name not in column.values))
            registers.append(_registers(set(names) - set(column.values)))
    return Slow(counts, others, registers, _pairs(bins, baseline))


def count_slowly(rows: Rows, baseline: Baseline) -> list[list[int]]:
    """Return the counts per column and bin."""
    return sketch_slowly(rows, baseline).counts


def _columns(rows: Rows, baseline: Baseline) -> list[list[object]]:
    numbers = iter(np.asarray(rows.numbers).astype(np.float64).T.tolist())
    names = iter([column.tolist() for column in rows.categories])
    return [next(names if column.kind == "category" else numbers) for column in baseline.columns]


def _bin(value: object, column: ColumnBaseline) -> int:
    if column.kind == "category":
        name = _name(value)
        if name is None:
            return column.bins - 1
        return column.values.index(name) if name in column.values else len(column.values)
    assert isinstance(value, float)
    if isnan(value):
        return column.bins - 1
    if isinf(value) and column.infinite is not None:
        return column.infinite
    return bisect_right(column.edges, value)


def _name(value: object) -> str | None:
    """Return a name of an ordinary value of the tests: text, or a whole number of any type."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return None
    if isinstance(value, str):
        return value
    assert isinstance(value, int | float)
    return str(int(value))


def _registers(names: set[str]) -> bytes:
    held = [0] * 64
    for name in names:
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        bits = f"{int.from_bytes(digest, 'little'):064b}"
        place, rest = int(bits[-6:], 2), bits[:50]
        rank = len(rest) - len(rest.lstrip("0")) + 1
        held[place] = max(held[place], min(rank, 31))
    return bytes(held)


def _pairs(bins: list[list[int]], baseline: Baseline) -> list[int]:
    if baseline.pairs is None:
        return []
    sums = []
    for pair in baseline.pairs.pairs:
        first, second = baseline.pairs.columns[pair.first], baseline.pairs.columns[pair.second]
        sums.append(
            sum(
                first.scores[a] * second.scores[b]
                for a, b in zip(bins[first.column], bins[second.column], strict=True)
                if a < len(first.scores) and b < len(second.scores)
            )
        )
    return sums

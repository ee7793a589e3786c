"""Pairs of columns: what no column shows alone is that two stopped moving together.

Of each pair a sketch holds the sum over its rows of the product of two normal scores. The scores are whole
numbers, so that merging stays exact. A row that misses a value adds nothing to the pairs of that column.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.sketch import scores

Integers = NDArray[np.int64]

SCALE = 8.0  # what one standard deviation becomes: finer than the bins, and a product takes 12 bits
MAX_SCORE = 127
MAX_PAIRS = 512

Score = Annotated[int, Meta(ge=-MAX_SCORE, le=MAX_SCORE)]


class PairedColumn(Struct, frozen=True, forbid_unknown_fields=True):
    """A column that is in a pair.

    Attributes:
        column: Its index in the baseline.
        scores: One for each of its ordinary bins.
    """

    column: Annotated[int, Meta(ge=0)]
    scores: tuple[Score, ...]


class Pair(Struct, frozen=True, forbid_unknown_fields=True):
    """Two columns and how they moved together in the reference.

    Attributes:
        first, second: Indexes into ``Pairs.columns``.
        products: Sum over the reference rows of the product of both scores.
        variance: What one row adds to the variance of the correlation: that of its influence function.
    """

    first: Annotated[int, Meta(ge=0)]
    second: Annotated[int, Meta(ge=0)]
    products: int
    variance: float


class Pairs(Struct, frozen=True, forbid_unknown_fields=True):
    """All pairs of a baseline."""

    columns: tuple[PairedColumn, ...]
    pairs: Annotated[tuple[Pair, ...], Meta(max_length=MAX_PAIRS)]

    def places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the first and the second column of each pair, as indexes into ``columns``."""
        return (
            np.array([pair.first for pair in self.pairs], dtype=np.intp),
            np.array([pair.second for pair in self.pairs], dtype=np.intp),
        )


def add_products(pairs: Pairs, scored: NDArray[np.float64]) -> Integers:
    """Return the sum of products of each pair.

    Args:
        scored: The scores of ``pairs.columns``, shape (columns, rows): whole numbers, whose sums a 64-bit
            float holds exactly.
    """
    first, second = pairs.places()
    return np.asarray((scored @ scored.T)[first, second].astype(np.int64))


def score(
    values: NDArray[np.floating], edges: NDArray[np.floating], table: Sequence[int]
) -> NDArray[np.float64]:
    """Return the score of each value, 0 where it is missing or infinite."""
    bins = np.searchsorted(edges, values, side="right")
    return np.asarray(np.where(np.isfinite(values), np.array(table, dtype=np.float64)[bins], 0.0))


def measure(
    columns: Sequence[int],
    *,
    wanted: Sequence[tuple[int, int]],
    counts: Sequence[tuple[int, ...]],
    values: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]],
) -> Pairs:
    """Return pairs as the reference has them.

    Args:
        columns: Index of each column that is in a pair.
        wanted: Pairs of such indexes.
        counts: Reference rows of the ordinary bins of each of ``columns``.
        values: Reference values and edges of each of ``columns``.

    Raises:
        SketchError: There are too many.
    """
    if len(wanted) > MAX_PAIRS:
        raise SketchError(f"expected at most {MAX_PAIRS} pairs, got {len(wanted)}: name those that matter")
    tables = [tuple(scores.normal(held, scale=SCALE, most=MAX_SCORE).tolist()) for held in counts]
    place = {column: index for index, column in enumerate(columns)}
    scored = np.stack([score(*held, table) for held, table in zip(values, tables, strict=True)])
    standard = _standardise(scored)
    made = [
        Pair(
            place[first],
            place[second],
            int(scored[place[first]] @ scored[place[second]]),
            _influence(standard[place[first]], standard[place[second]]),
        )
        for first, second in wanted
    ]
    paired = tuple(PairedColumn(column, table) for column, table in zip(columns, tables, strict=True))
    return Pairs(paired, tuple(made))


def _standardise(scored: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = scored - scored.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=1, keepdims=True))
    return np.asarray(np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0))


def _influence(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the variance of a row's influence on the correlation (Devlin and others, 1975)."""
    product = first * second
    correlation = float(product.mean())
    return float(np.var(product - correlation * (first * first + second * second) / 2))


def check(pairs: Pairs, ordinary: Sequence[int | None]) -> None:
    """Hold pairs against the columns of their baseline.

    Args:
        ordinary: Number of ordinary bins of each column, None where it cannot be in a pair.

    Raises:
        SketchError: A pair names what does not exist, or the scores of a column are not one for each bin.
    """
    for paired in pairs.columns:
        bins = ordinary[paired.column] if paired.column < len(ordinary) else None
        if bins is None or len(paired.scores) != bins:
            raise SketchError(
                f"pairs: column {paired.column} has {bins} bins, not {len(paired.scores)} scores"
            )
    for pair in pairs.pairs:
        if not (
            pair.first < pair.second < len(pairs.columns) or pair.second < pair.first < len(pairs.columns)
        ):
            raise SketchError(f"pairs: columns {pair.first} and {pair.second} of {len(pairs.columns)}")
        if abs(pair.products) >= 2**53 or not 0 <= pair.variance < np.inf:
            raise SketchError("pairs: products and variance must be finite and below 2^53")

"""Rows on their way into a sketch: numbers side by side in one matrix, each category in its own array."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muster_models.errors import SketchError

Array = NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a version's columns.

    Attributes:
        numbers: Shape (rows, columns that are no categories), in their order.
        categories: One array of values for each category, in their order: text or whole numbers.
    """

    numbers: NDArray[np.floating]
    categories: tuple[Array, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.numbers.shape[1]) + len(self.categories)


def as_rows(rows: "Rows | ArrayLike", *, numbers: int, categories: int) -> Rows:
    """Return rows of so many columns; a matrix where none of them is a category.

    32- and 64-bit floats stay what they are, 16-bit ones become 32-bit, everything else 64-bit floats.

    Raises:
        SketchError: They have other columns.
    """
    if not isinstance(rows, Rows):
        rows = Rows(np.asarray(rows))
    held = rows.numbers
    lengths = {len(column) for column in rows.categories} | {len(held)} if held.ndim else set()
    if held.ndim != 2 or rows.width != numbers + categories or len(rows.categories) != categories:  # noqa: PLR2004 - rows by columns
        got = f"shape {held.shape}" + (f" and {len(rows.categories)} categories" if categories else "")
        raise SketchError(f"expected rows of {numbers + categories} columns, got {got}")
    if len(lengths) > 1:
        raise SketchError(f"all columns must have one length, got {sorted(lengths)}")
    if held.dtype in (np.float32, np.float64):
        return rows
    return Rows(held.astype(np.float32 if held.dtype == np.float16 else np.float64), rows.categories)


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Return the rows of parts of the same columns, one after the other."""
    categories = zip(*(part.categories for part in parts), strict=True)
    return Rows(
        np.concatenate([part.numbers for part in parts]),
        tuple(np.concatenate(column) for column in categories),
    )

"""Whether a call that failed lacked what is measured of its inputs: then its rows are counted all the same.

A model that does not handle missing values answers NaN or refuses, and the call fails. What went wrong is the
sensor, and the counts of its feature have to say so.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from muster_models.manifest import FeatureSpec

Array = NDArray[np.generic]


class Gaps:
    """Finds missing and infinite values where features read them, and nowhere else.

    Args:
        features: Of the version.
    """

    def __init__(self, features: Iterable[FeatureSpec]) -> None:
        read: dict[str, list[int | None]] = {}
        for feature in features:
            read.setdefault(feature.input, []).append(feature.column)
        # A summary reads the whole row.
        self._read = {
            name: None if None in columns else [column for column in columns if column is not None]
            for name, columns in read.items()
        }

    def rows(self, inputs: Mapping[str, Array]) -> int:
        """Return how many rows a call has where at least one value is missing or infinite, or else 0.

        Never raises for what a caller passed: rows that no feature can be read from count as none.
        """
        try:
            lengths = {len(inputs[name]) for name in self._read}
            if len(lengths) == 1 and any(_holds(inputs[name], read) for name, read in self._read.items()):
                return lengths.pop()
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return 0
        return 0


def _holds(tensor: Array, columns: list[int] | None) -> bool:
    if tensor.dtype.kind not in "fO":  # integers, booleans and fixed-width text have no such values
        return False
    cells = tensor if columns is None else tensor.reshape(len(tensor), -1)[:, columns]
    if tensor.dtype.kind == "O":
        return any(value is None or value != value for value in cells.ravel().tolist())  # noqa: PLR0124 - NaN
    return not np.isfinite(cells).all()

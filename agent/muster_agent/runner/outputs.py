"""What an answer must be before anybody sees it: every declared tensor, of its shape, finite and small."""

import math
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import PredictionError, Reason
from muster_models.manifest import TensorSpec
from muster_models.runtime import fits

Array = NDArray[np.generic]
# Name, type, whether it is floating, the shape that was right last, and whether that is of one value.
_Known = tuple[str, "np.dtype[np.generic]", bool, tuple[int, ...], bool]
_isfinite = math.isfinite


class OutputCheck:
    """Checks every answer of one version; made once, because it runs on every call.

    Args:
        specs: The declared outputs; empty where nothing is declared.
        most: Bytes that all outputs of a call may have.

    Raises:
        PredictionError: A declared type is not one that arrays have.
    """

    def __init__(self, specs: Sequence[TensorSpec], most: int) -> None:
        self._specs = specs
        self._most = most
        # With each output the shape that was right last: a call that repeats it needs no closer look.
        self._known: list[_Known] = [
            (spec.name, _dtype(spec), _dtype(spec).kind == "f", (-1,), False) for spec in specs
        ]

    def __call__(self, outputs: Mapping[str, Array]) -> None:
        """Refuse an answer that is not what was declared.

        Raises:
            PredictionError: ``wrong-shape``, ``not-finite`` or ``too-large``; the message names the output.
        """
        if not self._known:
            self._check_undeclared(outputs)
        for name, dtype, is_float, shape, is_single in self._known:
            array = outputs.get(name)
            if array is None or (array.dtype is not dtype and array.dtype != dtype):
                self._refuse(outputs)
            if array.shape != shape:
                self._check_shapes(outputs)
            elif is_single:
                if is_float and not _isfinite(array.item()):  # 0.3 µs less than a product
                    _check_finite(name, array)
                continue
            if is_float:
                # One product finds every NaN and infinity; only a suspect is looked at value by value.
                flat = array.ravel()
                if not _isfinite(flat.dot(flat)):
                    _check_finite(name, array)

    def _check_shapes(self, outputs: Mapping[str, Array]) -> None:
        self._check_size(outputs)
        if not all(spec.name in outputs and fits(outputs[spec.name].shape, spec) for spec in self._specs):
            self._refuse(outputs)
        self._known = [
            (name, dtype, is_float, outputs[name].shape, outputs[name].size == 1)
            for name, dtype, is_float, *_ in self._known
        ]

    def _check_undeclared(self, outputs: Mapping[str, Array]) -> None:
        self._check_size(outputs)
        for name, array in outputs.items():
            if array.dtype.kind == "f":
                _check_finite(name, array)

    def _check_size(self, outputs: Mapping[str, Array]) -> None:
        size = sum(array.nbytes for array in outputs.values())
        if size > self._most:
            raise PredictionError(
                Reason.TOO_LARGE, f"all outputs of a call may have {self._most} bytes, got {size}"
            )

    def _refuse(self, outputs: Mapping[str, Array]) -> NoReturn:
        expected = {spec.name: f"{spec.dtype}{list(spec.shape)}" for spec in self._specs}
        got = {name: f"{array.dtype.name}{list(array.shape)}" for name, array in outputs.items()}
        raise PredictionError(Reason.WRONG_SHAPE, f"expected outputs {expected}, got {got}")


def _dtype(spec: TensorSpec) -> "np.dtype[np.generic]":
    try:
        return np.dtype(object) if spec.dtype == "str" else np.dtype(spec.dtype)
    except TypeError as error:
        raise PredictionError(Reason.WRONG_SHAPE, f"output {spec.name!r}: {error}") from error


def _check_finite(name: str, array: Array) -> None:
    bad = int((~np.isfinite(array.astype(np.float64))).sum())
    if bad > 0:
        raise PredictionError(
            Reason.NOT_FINITE, f"output {name!r}: {bad} of {array.size} values are NaN or infinite"
        )

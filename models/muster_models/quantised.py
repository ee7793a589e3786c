"""Tensors of integers that stand for real numbers, both ways. Pure.

People speak of real numbers; a quantised model takes and gives integers. What is measured is always the real
number *on the grid* of the integers, whichever of the two a caller passed.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import PredictionError, Reason
from muster_models.manifest import Quantisation, TensorSpec

Array = NDArray[np.generic]


def as_integers(array: Array, spec: TensorSpec) -> Array:
    """Return real numbers as the integers of a quantised tensor; any other array as it is.

    The nearest integer, of two equally near ones the even one, is taken; what lies outside the range becomes
    its end, as in the model's own quantising operators.

    Raises:
        PredictionError: A value is NaN (``not-finite``), or ``axis`` is not of the expected length.
    """
    quantisation = spec.quantisation
    if quantisation is None or array.dtype.kind != "f":
        return array
    scale, zero = _parameters(quantisation, array, spec)
    if np.isnan(array).any():
        raise PredictionError(Reason.NOT_FINITE, f"{spec.name!r}: NaN has no {spec.dtype} form")
    dtype = np.dtype(spec.dtype)
    bounds = np.iinfo(dtype)
    steps = np.rint(array.astype(np.float64) / scale) + zero
    return np.asarray(np.clip(steps, bounds.min, bounds.max).astype(dtype))


def as_real(array: Array, spec: TensorSpec) -> Array:
    """Return what the integers of a quantised tensor stand for, as 32-bit floats; any other array as it is.

    Raises:
        PredictionError: ``axis`` is not of the expected length.
    """
    quantisation = spec.quantisation
    if quantisation is None or array.dtype.kind not in "iu":
        return array
    scale, zero = _parameters(quantisation, array, spec)
    return np.asarray(((array.astype(np.float64) - zero) * scale).astype(np.float32))


def on_grid(array: Array, spec: TensorSpec) -> Array:
    """Return the real numbers that a quantised tensor can hold nearest to ``array``; others as they are.

    NaN stays NaN: it is no number on any grid, and what is measured has to say that a value was missing.

    Raises:
        PredictionError: ``axis`` is not of the expected length.
    """
    if spec.quantisation is None:
        return array
    missing = np.isnan(array) if array.dtype.kind == "f" else None
    if missing is None or not missing.any():
        return as_real(as_integers(array, spec), spec)
    placed = as_real(as_integers(np.where(missing, 0, array), spec), spec)
    return np.where(missing, np.float32(np.nan), placed)


def reach(spec: TensorSpec) -> tuple[float, float] | None:
    """Return the least and the greatest real number that every element of a tensor can hold.

    None for tensors that do not hold integers.
    """
    if not spec.dtype.startswith(("int", "uint")):
        return None
    bounds = np.iinfo(np.dtype(spec.dtype))
    if spec.quantisation is None:
        return float(bounds.min), float(bounds.max)
    scale = np.asarray(spec.quantisation.scale, dtype=np.float64)
    zero = np.asarray(spec.quantisation.zero_point, dtype=np.float64)
    return float(np.max((bounds.min - zero) * scale)), float(np.min((bounds.max - zero) * scale))


def real(specs: Iterable[TensorSpec], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return named tensors with real numbers in place of the integers of quantised ones."""
    return _each(as_real, specs, arrays)


def measured(specs: Iterable[TensorSpec], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return named tensors as they are sketched: see ``on_grid``."""
    return _each(on_grid, specs, arrays)


def _each(
    change: Callable[[Array, TensorSpec], Array], specs: Iterable[TensorSpec], arrays: Mapping[str, Array]
) -> dict[str, Array]:
    known = {spec.name: spec for spec in specs if spec.quantisation is not None}
    return {name: change(array, known[name]) if name in known else array for name, array in arrays.items()}


def _parameters(
    quantisation: Quantisation, array: Array, spec: TensorSpec
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scale = np.asarray(quantisation.scale, dtype=np.float64)
    zero = np.asarray(quantisation.zero_point, dtype=np.float64)
    axis = quantisation.axis
    if axis is None:
        return scale, zero
    if axis >= array.ndim or array.shape[axis] != len(scale):
        raise PredictionError(
            Reason.WRONG_SHAPE,
            f"{spec.name!r}: expected {len(scale)} values in axis {axis}, got {array.shape}",
        )
    along = [1] * array.ndim
    along[axis] = -1
    return scale.reshape(along), zero.reshape(along)

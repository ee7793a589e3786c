"""Golden vectors: inputs whose answers are known, so that a device can tell whether a version works there."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from muster_models.errors import ManifestError, MessageError
from muster_models.tensors import MAX_BYTES, Tensors, unpack

Array = NDArray[np.generic]
Tolerance = Annotated[float, Meta(ge=0, le=1)]
_STEPS = {"int8": 255, "uint8": 255}


class Vector(Struct, frozen=True, forbid_unknown_fields=True):
    """One call and its answer."""

    inputs: Tensors
    outputs: Tensors


class Golden(Struct, frozen=True, forbid_unknown_fields=True):
    """The golden vectors of one version.

    Attributes:
        absolute, relative: ``|got - expected| <= absolute + relative * |expected|``. Kernels differ between
            machines and library versions, so an exact match is never asked of floats. Of 8-bit outputs,
            which are quantised floats, ``absolute`` is a share of their 255 steps. Other types match exactly.
    """

    vectors: Annotated[tuple[Vector, ...], Meta(min_length=1, max_length=256)]
    absolute: Tolerance
    relative: Tolerance
    format: Literal[1] = 1


def encode_golden(golden: Golden) -> bytes:
    """Return the bytes of golden vectors."""
    return msgspec.msgpack.encode(golden)


def decode_golden(data: bytes) -> Golden:
    """Parse golden vectors; their tensors are known to be well formed.

    Raises:
        ManifestError: Too large, damaged, or without a vector.
    """
    if len(data) > MAX_BYTES:
        raise ManifestError(f"golden vectors have at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        golden = msgspec.msgpack.decode(data, type=Golden)
        for vector in golden.vectors:
            unpack(vector.inputs)
            unpack(vector.outputs)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MessageError) as error:
        raise ManifestError(f"golden vectors: {error}") from error
    return golden


def compare(
    expected: Tensors, outputs: Mapping[str, Array], *, absolute: float, relative: float
) -> str | None:
    """Return what is wrong with an answer, or None when it is within tolerance.

    Outputs beyond the expected ones are nobody's business here; a NaN matches only a NaN.
    """
    for name, want in unpack(expected).items():
        got = outputs.get(name)
        if got is None:
            return f"output {name!r} is missing, got {sorted(outputs)}"
        wrong = _compare(got, want, absolute=absolute, relative=relative)
        if wrong is not None:
            return f"output {name!r} {wrong}"
    return None


def _compare(got: Array, want: Array, *, absolute: float, relative: float) -> str | None:
    if got.shape != want.shape:
        return f"has shape {got.shape}, expected {want.shape}"
    if "str" in (kinds := (_kind(got), _kind(want))) or kinds[0] != kinds[1]:
        same = bool(kinds[0] == kinds[1] and np.array_equal(got, want))
        return None if same else f"is {got.dtype.name} and differs, expected {want.dtype.name}"
    outside, largest = _outside(got, want, absolute=absolute, relative=relative)
    return f"is off by up to {largest:.3g}, {outside} of {want.size} values" if outside else None


def _kind(array: Array) -> str:
    match array.dtype.kind:
        case "f":
            return "float"
        case "O" | "U" | "S":
            return "str"
        case _:
            return "steps" if array.dtype.name in _STEPS else "exact"


def _outside(got: Array, want: Array, *, absolute: float, relative: float) -> tuple[int, float]:
    """Return how many values lie outside the tolerance, and the largest difference."""
    if _kind(want) == "exact":
        # Not by way of float64, which holds integers only up to 2^53.
        return int((got != want).sum()), float("nan")
    first, second = got.astype(np.float64), want.astype(np.float64)
    slack = absolute * _STEPS.get(want.dtype.name, 1)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(first - second)
        # A NaN compares false with everything, so it is asked what is within, not what is outside.
        within = (error <= slack + relative * np.abs(second)) & np.isfinite(first) & np.isfinite(second)
    within |= (first == second) | (np.isnan(first) & np.isnan(second))
    differences = error[~within & ~np.isnan(error)]
    return int((~within).sum()), float(differences.max(initial=0.0))

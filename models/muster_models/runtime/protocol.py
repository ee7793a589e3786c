"""What every engine looks like from outside."""

import functools
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muster_models.errors import FitError, PredictionError, Reason
from muster_models.manifest import TensorSpec

Array = NDArray[np.generic]


# Types that the files have and arrays have not; numpy may know the names, the engines hand out nothing.
_UNHELD = ("bfloat16", "float8", "float4", "int4", "uint4", "int2", "uint2")


class Quantisation(Struct, frozen=True):
    """How the integers of a tensor stand for real numbers: ``(value - zero_point) * scale``.

    Attributes:
        scale, zero_point: One for the whole tensor, or one for each index of ``axis``.
        axis: None where one is for the whole tensor.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None


class Runtime(Protocol):
    """A loaded model. ``run`` may be called from any thread.

    Attributes:
        quantised_inputs, quantised_outputs: By name, for tensors of integers that stand for real numbers.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    quantised_inputs: Mapping[str, Quantisation]
    quantised_outputs: Mapping[str, Quantisation]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output by name.

        Raises:
            PredictionError: The inputs do not fit (``wrong-shape``), or the model failed (``crashed``).
        """
        ...

    def close(self) -> None:
        """Release the model; again does nothing. a closed model answers no more (``crashed``)."""
        ...


@functools.lru_cache(maxsize=256)
def type_name(dtype: "np.dtype[np.generic]") -> str:
    """Return the name of a type as manifests have it, kept: asking numpy takes as long as a small model."""
    return "str" if dtype.kind in "OUS" else dtype.name


def fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    """Tell whether an array of this shape is one that is declared."""
    return len(shape) == len(spec.shape) and all(
        want is None or want == got for want, got in zip(spec.shape, shape, strict=True)
    )


def check_types(specs: Iterable[TensorSpec]) -> None:
    """Refuse tensors that no caller could make or read.

    Raises:
        FitError: A tensor has a type that arrays do not hold (``wrong-runtime``).
    """
    for spec in specs:
        if spec.dtype.startswith(_UNHELD):
            raise FitError(
                Reason.WRONG_RUNTIME,
                f"tensor {spec.name!r} is {spec.dtype}, which arrays do not hold here; "
                "inputs and outputs may be float16 or float32",
            )


def check_inputs(specs: tuple[TensorSpec, ...], inputs: Mapping[str, Array]) -> None:
    """Refuse inputs that the model does not declare.

    Raises:
        PredictionError: A name, a type or a fixed axis differs.
    """
    expected = {spec.name for spec in specs}
    if inputs.keys() != expected:
        raise PredictionError(Reason.WRONG_SHAPE, f"expected inputs {sorted(expected)}, got {sorted(inputs)}")
    for spec in specs:
        array = inputs[spec.name]
        dtype = type_name(array.dtype)
        if dtype != spec.dtype or not fits(array.shape, spec):
            raise PredictionError(
                Reason.WRONG_SHAPE,
                f"input {spec.name!r}: expected {spec.dtype}{list(spec.shape)}, "
                f"got {dtype}{list(array.shape)}",
            )

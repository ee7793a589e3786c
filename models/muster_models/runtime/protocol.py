"""What every engine looks like from outside."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from muster_models.engine import Engine
from muster_models.errors import FitError, PredictionError, Reason
from muster_models.manifest import TensorSpec
from muster_models.quantised import as_integers

Array = NDArray[np.generic]
# The declared labels of outputs that are maps, by output.
Labels = Mapping[str, Sequence[str]]

# Types that the files have and arrays have not; numpy may know the names, the engines hand out nothing.
_UNHELD = ("bfloat16", "float8", "float4", "int4", "uint4", "int2", "uint2", "complex")


class Runtime(Protocol):
    """A loaded model. ``run`` may be called from any thread.

    Attributes:
        engine: What answers, and what that was asked for does not.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    engine: Engine

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output by name, as new arrays that nobody else writes to.

        Args:
            inputs: Of the declared types; for a quantised one also the real numbers that its integers
                stand for.

        Raises:
            PredictionError: The inputs do not fit (``wrong-shape``, ``not-finite``), or the model failed
                (``crashed``).
        """
        ...

    def close(self) -> None:
        """Release the model; again does nothing. A closed model answers no more (``crashed``)."""
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


def fitted(specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return inputs as an engine takes them: in this machine's byte order, real numbers as quantised.

    Raises:
        PredictionError: A real number has no quantised form.
    """
    known = {spec.name: spec for spec in specs}
    return {
        name: as_integers(_native(array), known[name]) if name in known else array
        for name, array in inputs.items()
    }


def _native(array: Array) -> Array:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


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

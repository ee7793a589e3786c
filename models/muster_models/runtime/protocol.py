"""What every engine looks like from outside."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import PredictionError, Reason
from muster_models.manifest import TensorSpec

Array = NDArray[np.generic]


class Runtime(Protocol):
    """A loaded model. ``run`` may be called from any thread."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output by name.

        Raises:
            PredictionError: The inputs do not fit (``wrong-shape``), or the model failed (``crashed``).
        """
        ...

    def close(self) -> None:
        """Release the model; again does nothing. a closed model answers no more (``crashed``)."""
        ...


def check_inputs(specs: tuple[TensorSpec, ...], inputs: Mapping[str, Array]) -> None:
    """Refuse inputs that the model does not declare.

    Raises:
        PredictionError: A name, a type or a fixed axis differs.
    """
    expected = {spec.name for spec in specs}
    if inputs.keys() != expected:
        raise PredictionError(Reason.WRONG_SHAPE, f"expected inputs {sorted(expected)}, got {sorted(inputs)}")
    for spec in specs:
        wanted = f"{spec.dtype}{list(spec.shape)}"
        array = inputs[spec.name]
        dtype = "str" if array.dtype.kind in "OUS" else array.dtype.name
        fits = len(array.shape) == len(spec.shape) and all(
            want is None or want == got for want, got in zip(spec.shape, array.shape, strict=False)
        )
        if dtype != spec.dtype or not fits:
            raise PredictionError(
                Reason.WRONG_SHAPE,
                f"input {spec.name!r}: expected {wanted}, got {dtype}{list(array.shape)}",
            )

"""The safe state: a model that was stopped by order answers with what its manifest declares for that case."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import PredictionError, Reason
from muster_models.manifest import Manifest, TensorSpec
from muster_models.quantised import as_integers

Array = NDArray[np.generic]


class StoppedModel:
    """Answers without loading anything, so that it works offline and for a version that cannot run."""

    failure: PredictionError | None = None

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the declared fallback in every element of every output.

        Raises:
            PredictionError: The version declares no fallback (``ordered``).
        """
        fallback = self._manifest.fallback
        if fallback is None:
            raise PredictionError(
                Reason.ORDERED, f"{self._manifest.model} was stopped by order and declares no fallback"
            )
        rows = max((len(array) for array in inputs.values() if array.ndim > 0), default=1)
        return {spec.name: _filled(spec, rows, fallback) for spec in self._manifest.outputs}


def _filled(spec: TensorSpec, rows: int, value: float) -> Array:
    first, *others = spec.shape or (1,)
    lengths = [rows if first is None else first, *(1 if length is None else length for length in others)]
    quantisation = spec.quantisation
    if quantisation is not None and quantisation.axis is not None and spec.shape:
        lengths[quantisation.axis] = len(quantisation.scale)  # as many as there are steps for
    shape = tuple(lengths) if spec.shape else ()
    if spec.dtype == "str":
        return np.full(shape, str(value), dtype=object)
    if quantisation is not None:
        return as_integers(np.full(shape, value), spec)
    return np.full(shape, value).astype(spec.dtype)

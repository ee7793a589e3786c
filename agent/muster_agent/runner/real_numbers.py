"""Answers of quantised models as the real numbers that their integers stand for."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muster_agent.runner.runner import Serving
from muster_models.quantised import real

Array = NDArray[np.generic]
Given_contra = TypeVar("Given_contra", bound=ArrayLike, contravariant=True)


class Predictor(Protocol[Given_contra]):
    """What answers; an ``Agent`` does, and for arrays a ``Runner``."""

    def serving(self) -> Mapping[str, Serving]:
        """Return what answers now, by model."""
        ...

    def predict(self, model: str, inputs: Mapping[str, Given_contra]) -> dict[str, Array]:
        """Return every output by name.

        Raises:
            PredictionError: The model failed to answer.
        """
        ...


def predict_real(
    predictor: Predictor[Given_contra], model: str, inputs: Mapping[str, Given_contra]
) -> dict[str, Array]:
    """Return every output by name, as real numbers.

    Raises:
        PredictionError: The model failed to answer.
    """
    while True:
        before = predictor.serving().get(model)
        outputs = predictor.predict(model, inputs)
        after = predictor.serving().get(model)
        # Another version may count in other steps: then it is asked itself.
        if before is not None and after is not None and before.digest == after.digest:
            return real(after.manifest.outputs, outputs)

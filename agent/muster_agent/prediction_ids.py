"""Answers with an id for each row, which the application carries to wherever the truth comes from."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muster_agent.runner.real_numbers import Predictor
from muster_agent.runner.runner import Serving
from muster_models.manifest import ClassOutput
from muster_models.prediction_id import (
    MAX_CLASSES,
    VERSION_DIGITS,
    ClassAnswer,
    PredictionId,
    ValueAnswer,
)
from muster_models.quantised import real

Array = NDArray[np.generic]
Given = TypeVar("Given", bound=ArrayLike)
_NUMBERS = 1 << 32


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        outputs: Every output by name.
        ids: One for each row; empty text where a row has no prediction to be judged: the model was stopped
            and its fallback answered, or the answer is beyond what an id can hold.
    """

    outputs: dict[str, Array]
    ids: tuple[str, ...]


class IdMaker:
    """Makes the ids of one device. It may be used from any thread; it remembers no id.

    Args:
        device: Id of this device.
        clock: Unix seconds.
        first: Where its numbers begin; drawn at random, so that ids of a restart differ.
    """

    def __init__(self, device: str, *, clock: Callable[[], float], first: int) -> None:
        self._device = device
        self._clock = clock
        self._numbers = itertools.count(first)

    def make(self, serving: Serving, outputs: Mapping[str, Array]) -> tuple[str, ...]:
        """Return an id for each row of what a version answered now."""
        prediction = serving.manifest.prediction
        output = real(serving.manifest.outputs, {prediction.output: outputs[prediction.output]})
        rows = np.atleast_1d(output[prediction.output])
        scores = rows.astype(np.float64).reshape(len(rows), -1)
        at = int(self._clock() * 1000)
        if serving.stopped or scores.shape[1] == 0:
            return ("",) * len(rows)
        answers = (
            [ClassAnswer(int(row.argmax()), float(row.max())) for row in scores]
            if isinstance(prediction, ClassOutput)
            else [ValueAnswer(float(row[0])) for row in scores]
        )
        return tuple(self._one(serving, answer, at) if _is_held(answer) else "" for answer in answers)

    def _one(self, serving: Serving, answer: ClassAnswer | ValueAnswer, at: int) -> str:
        number = next(self._numbers) % _NUMBERS
        version = serving.digest[:VERSION_DIGITS]
        return PredictionId(serving.manifest.model, self._device, version, at, number, answer).encode()


def _is_held(answer: ClassAnswer | ValueAnswer) -> bool:
    match answer:
        case ClassAnswer(index=index, confidence=confidence):
            return index < MAX_CLASSES and bool(np.isfinite(confidence))
        case ValueAnswer(value=value):
            return abs(value) <= float(np.finfo(np.float32).max)  # False for NaN


def predict_with_ids(
    predictor: Predictor[Given], model: str, inputs: Mapping[str, Given], maker: IdMaker
) -> Answer:
    """Return every output by name, with the ids of its rows.

    Raises:
        PredictionError: The model failed to answer.
    """
    while True:
        before = predictor.serving().get(model)
        outputs = predictor.predict(model, inputs)
        after = predictor.serving().get(model)
        # An id must name the version that answered: when it was replaced meanwhile, the new one is asked.
        if before is not None and after is not None and _name(before) == _name(after):
            return Answer(outputs, maker.make(after, outputs))


def _name(serving: Serving) -> tuple[str, bool]:
    return serving.digest, serving.stopped

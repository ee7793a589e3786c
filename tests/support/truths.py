"""Predictions with their ids, and what a test says was true of them."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from muster_models.prediction_id import VERSION_DIGITS, ClassAnswer, PredictionId, ValueAnswer

CLASSES = 10


def class_id(device: str, digest: str, *, at: float, number: int = 0, **changes: object) -> str:
    """Return the id of a prediction of class 3 of ``digits``; ``at`` in Unix seconds."""
    values: dict[str, object] = {
        "model": "digits",
        "device": device,
        "version": digest[:VERSION_DIGITS],
        "at": int(at * 1000),
        "number": number,
        "answer": ClassAnswer(3, 0.9),
    }
    return PredictionId(**(values | changes)).encode()  # type: ignore[arg-type]  # by name


def value_id(device: str, digest: str, *, at: float, value: float, number: int = 0) -> str:
    """Return the id of a prediction of a value of ``digits``."""
    return class_id(device, digest, at=at, number=number, answer=ValueAnswer(value))


def labelled(
    devices: Sequence[str],
    digest: str,
    *,
    at: float,
    labels: int,
    wrong: Mapping[str, float] | float,
    seed: int = 1,
) -> list[dict[str, str]]:
    """Return labels of some predictions of each device at one time, wrong with a probability."""
    chance = np.random.default_rng([seed, int(at)])
    lines = []
    for device in devices:
        share = wrong if isinstance(wrong, float) else wrong.get(device, 0.05)
        for number in range(labels):
            answer = int(chance.integers(CLASSES))
            truth = (answer + 1) % CLASSES if chance.random() < share else answer
            named = class_id(device, digest, at=at, number=number, answer=ClassAnswer(answer, 0.9))
            lines.append({"id": named, "label": str(truth)})
    return lines


def as_lines(lines: Sequence[Mapping[str, object]]) -> bytes:
    """Return a push: JSON, one object a line."""
    return "\n".join(map(json.dumps, lines)).encode()

"""Ids of predictions as the agent gives them, for classes and values, over its socket and in one process."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from muster_agent import Client, Model
from muster_agent.prediction_ids import IdMaker, predict_with_ids
from muster_agent.runner import Serving
from muster_agent.serving.server import Server
from muster_models.errors import PredictionError
from muster_models.manifest import Manifest, Quantisation, TensorSpec, ValueOutput
from muster_models.prediction_id import ClassAnswer, ValueAnswer, parse
from support.manifests import make_manifest

Array = NDArray[np.generic]
NOW = 1_800_000_000.25
INPUT = (TensorSpec("x", "float32", (None, 2)),)
CLASSES = make_manifest(inputs=INPUT, outputs=(TensorSpec("probabilities", "float32", (None, 2)),))
VALUES = make_manifest(
    inputs=INPUT, outputs=(TensorSpec("y", "float64", (None,)),), prediction=ValueOutput("y")
)
ROWS = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)


class Versions:
    """Answers a row with itself, or with its first column, by versions that follow each other."""

    def __init__(self, manifest: Manifest, *digests: str, stopped: bool = False) -> None:
        self.manifest = manifest
        self.digests = list(digests or ("ab" * 32,))
        self.stopped = stopped
        self.asked = 0

    def serving(self) -> Mapping[str, Serving]:
        return {"digits": Serving(self.manifest, self.digests[0], stopped=self.stopped, alive=True)}

    def served(self, model: str) -> Serving | None:
        return self.serving().get(model)

    def predict(self, model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert model == "digits"
        self.asked += 1
        if len(self.digests) > 1:
            del self.digests[0]
        given = inputs["x"]
        is_value = isinstance(self.manifest.prediction, ValueOutput)
        return {self.manifest.prediction.output: given[:, 0].astype(np.float64) if is_value else given}


def maker(first: int = 7) -> IdMaker:
    return IdMaker("press-1", clock=lambda: NOW, first=first)


@pytest.fixture(params=["classes", "values"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    server = Server(
        Versions(CLASSES if request.param == "classes" else VALUES), tmp_path / "agent.sock", ids=maker()
    )
    yield request.param, tmp_path
    server.close()


def test_each_row_has_an_id_that_says_what_was_answered(place: tuple[str, Path]) -> None:
    kind, folder = place
    with Model("digits", folder) as model:
        answer = model.answer(x=ROWS)
        plain = model.predict(x=ROWS)
    found = [parse(named) for named in answer.ids]
    expected = [0.9, 0.2] if kind == "values" else [(0, 0.9), (1, 0.8)]

    assert set(answer.outputs) == set(plain)
    assert [(one.device, one.model, one.version, one.at) for one in found] == [
        ("press-1", "digits", "ab" * 8, 1_800_000_000_250)
    ] * 2
    assert [one.number for one in found] == [7, 8]
    for one, wanted in zip(found, expected, strict=True):
        match one.answer:
            case ClassAnswer(index=index, confidence=confidence):
                assert (index, pytest.approx(confidence, abs=1 / 500)) == wanted
            case ValueAnswer(value=value):
                assert value == pytest.approx(wanted)


def test_another_version_in_the_meantime_is_asked_itself() -> None:
    """An id that named the version before would blame it for the mistakes of another."""
    versions = Versions(CLASSES, "aa" * 32, "bb" * 32)
    answer = predict_with_ids(versions, "digits", {"x": ROWS}, maker())

    assert versions.asked == 2
    assert {parse(named).version for named in answer.ids} == {"bb" * 8}


def test_a_fallback_is_no_prediction_and_has_no_id() -> None:
    answer = predict_with_ids(Versions(CLASSES, stopped=True), "digits", {"x": ROWS}, maker())

    assert answer.ids == ("", "")


def test_a_value_that_no_id_can_hold_has_none() -> None:
    rows = np.array([[1.0, 0.0], [1e39, 0.0], [np.nan, 0.0]])
    answer = predict_with_ids(Versions(VALUES), "digits", {"x": rows}, maker())

    assert [bool(named) for named in answer.ids] == [True, False, False]


def test_numbers_begin_anew_where_they_end() -> None:
    answer = predict_with_ids(Versions(CLASSES), "digits", {"x": ROWS}, maker(2**32 - 1))

    assert [parse(named).number for named in answer.ids] == [2**32 - 1, 0]


def test_quantised_scores_are_told_as_the_numbers_that_they_stand_for() -> None:
    scale = Quantisation((1 / 256,), (0,))
    outputs = (TensorSpec("probabilities", "uint8", (None, 2), scale),)
    manifest = make_manifest(inputs=INPUT, outputs=outputs)
    rows = np.array([[64, 192]], np.uint8)
    answer = predict_with_ids(Versions(manifest), "digits", {"x": rows}, maker())

    assert answer.outputs["probabilities"].dtype == np.uint8
    assert parse(answer.ids[0]).answer == ClassAnswer(1, round(0.75 * 255) / 255)


def test_an_agent_that_offers_none_says_so(tmp_path: Path) -> None:
    server = Server(Versions(CLASSES), tmp_path / "agent.sock")
    try:
        with Client(tmp_path) as client, pytest.raises(PredictionError, match="are not offered for digits"):
            client.answer("digits", {"x": ROWS})
    finally:
        server.close()

"""``from muster_agent import Model``: sync and async, over a running agent's socket and over any answerer."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from muster_agent import Client, Model
from muster_agent.prediction_ids import Answer
from muster_agent.runner import Serving
from muster_agent.serving.server import Server
from muster_models.errors import PredictionError, Reason
from muster_models.manifest import TensorSpec
from support.manifests import make_manifest
from support.verified import Array

MANIFEST = make_manifest(
    inputs=(TensorSpec("x", "float32", (None, 2)),), outputs=(TensorSpec("y", "float32", (None, 2)),)
)
X = np.array([[1, 2]], np.float32)


class Doubler:
    def serving(self) -> Mapping[str, Serving]:
        return {"digits": Serving(MANIFEST, "f" * 64, stopped=False, alive=True)}

    def served(self, model: str) -> Serving | None:
        return self.serving().get(model)

    def predict(self, model: str, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        assert model == "digits"
        return {"y": np.asarray(inputs["x"], np.float32) * np.float32(2)}

    def predict_real(self, model: str, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        return self.predict(model, inputs)

    def answer(self, model: str, inputs: Mapping[str, ArrayLike]) -> Answer:
        return Answer(self.predict(model, inputs), ())

    def count(self, model: str, counts: Mapping[str, int]) -> None:
        raise NotImplementedError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    server = Server(Doubler(), tmp_path / "agent.sock")
    yield tmp_path
    server.close()


def test_five_lines_in_an_application(folder: Path) -> None:
    with Model("digits", folder) as model:
        answer = model.predict(x=X)

    assert answer["y"].tolist() == [[2, 4]]


def test_inputs_may_come_by_name_or_as_a_mapping(folder: Path) -> None:
    with Model("digits", str(folder / "agent.sock")) as model:
        assert np.array_equal(model.predict({"x": X})["y"], model.predict(x=X)["y"])


def test_many_calls_go_side_by_side_in_one_event_loop(folder: Path) -> None:
    async def ask() -> list[dict[str, Array]]:
        with Model("digits", folder) as model:
            return await asyncio.gather(*(model.apredict(x=X * number) for number in range(20)))

    answers = asyncio.run(ask())

    assert [answer["y"].tolist() for answer in answers] == [[[2 * n, 4 * n]] for n in range(20)]


def test_a_model_shares_what_the_caller_made_and_leaves_it_open(folder: Path) -> None:
    with Client(folder) as client:
        for _ in range(2):
            with Model("digits", client) as model:
                assert model.predict(x=X)["y"].tolist() == [[2, 4]]
        inside = Model("digits", Doubler()).predict(x=X)

    assert inside["y"].tolist() == [[2, 4]]


def test_what_fails_says_why(folder: Path, tmp_path: Path) -> None:
    with Model("unknown", folder) as model, pytest.raises(PredictionError, match="no version of 'unknown'"):
        model.predict(x=X)
    with Model("digits", tmp_path / "nowhere") as model, pytest.raises(PredictionError) as caught:
        asyncio.run(model.apredict(x=X))

    assert caught.value.reason is Reason.LOAD_FAILED

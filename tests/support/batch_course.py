"""A batch as something that writes: rows through an agent into one file, by a process that is struck."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from muster_agent.api import Client
from muster_agent.batch import run as batch
from muster_agent.runner import Serving
from muster_models.manifest import TensorSpec
from support.manifests import make_manifest
from support.verified import Array

ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)
ONE = make_manifest(
    model="one",
    inputs=(TensorSpec("x", "float32", (None, 3)),),
    outputs=(TensorSpec("y", "float32", (None, 3)),),
)
TWO = make_manifest(
    model="two",
    inputs=(TensorSpec("x", "float32", (None, 3)),),
    outputs=(TensorSpec("y", "float32", (None, 3)), TensorSpec("label", "str", (None,))),
)


def saved(path: Path, rows: Array) -> Path:
    np.save(path, rows)
    return path


class Answerer:
    """An agent's models, which always answer the same."""

    def serving(self) -> Mapping[str, Serving]:
        return {each.model: Serving(each, "f" * 64, stopped=False, alive=True) for each in (ONE, TWO)}

    def served(self, model: str) -> Serving | None:
        return self.serving().get(model)

    def predict(self, model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = np.asarray(inputs["x"], np.float32)
        outputs: dict[str, Array] = {"y": x * np.float32(0.1)}
        if model == "two":
            outputs["label"] = np.array([f"row, {int(row[0])}" for row in x], object)
        return outputs


def infer(device: Path, _tell: Callable[..., None], arguments: Mapping[str, str]) -> None:
    """Have ten rows answered two at a time, each made safe before the next."""
    batch.SAVE_SECONDS = 0.0
    wish = batch.Wish(arguments["model"], Path(arguments["source"]), device / arguments["output"], rows=2)
    with Client(Path(arguments["socket"])) as client:
        batch.run(client, wish, lambda _done, _rows: None)

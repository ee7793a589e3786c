"""Source folders of small versions, good ones and ones with one thing wrong."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from support.onnx_models import linear

Array = NDArray[np.generic]
DECLARATION = """
model = "toy"
version = "1.0.0"
runtime = "onnx"
file = "model.onnx"

[prediction]
type = "classes"
output = "y"
labels = ["left", "right"]

[[features]]
name = "first"
input = "x"
column = 0
unit = "mm"

[[thresholds]]
metric = "accuracy"
minimum = 0.9

[[datasets]]
name = "toy rows"
role = "evaluation"
source = "made by the test"
licence = "CC0-1.0"
"""
# Two inputs, two classes: the larger input names the class.
WEIGHTS = np.array([[3.0, -3.0], [-3.0, 3.0]], dtype=np.float32)


def evaluation_rows(count: int = 40) -> dict[str, Array]:
    """Return rows whose right class is the place of their larger value."""
    rows = np.random.default_rng(5).normal(size=(count, 2)).astype(np.float32)
    return {"x": rows, "labels": rows.argmax(axis=1)}


def write_source(
    folder: Path,
    *,
    declaration: str = DECLARATION,
    model: bytes | None = None,
    arrays: Mapping[str, Array] | None = None,
) -> Path:
    """Write a source folder that is good unless told otherwise, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.toml").write_text(declaration)
    (folder / "model.onnx").write_bytes(linear(WEIGHTS) if model is None else model)
    np.savez(
        folder / "evaluation.npz", allow_pickle=False, **(evaluation_rows() if arrays is None else arrays)
    )
    return folder

"""A small version that reads a text, a code and a number: what a shop's till or a vehicle's bus gives."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from support.onnx_models import OPSET
from support.sources import write_source

Array = NDArray[np.generic]
CITIES = ("berlin", "lyon", "oslo", "porto")
GEARS = 6
DECLARATION = """
model = "tariff"
version = "1.0.0"
runtime = "onnx"
file = "model.onnx"
pairs = true

[prediction]
type = "value"
output = "price"
unit = "EUR"

[[features]]
name = "city"
input = "city"
column = 0
kind = "category"
values = 3
reveal = true

[[features]]
name = "gear"
input = "gear"
column = 0
kind = "category"

[[features]]
name = "distance"
input = "trip"
column = 0
unit = "km"

[[features]]
name = "minutes"
input = "trip"
column = 1
unit = "min"
"""


def model() -> bytes:
    """Return a model of a city's fare, a gear's share, and a distance and a time, each at its price."""
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["city"],
            ["fare"],
            domain="ai.onnx.ml",
            keys_strings=list(CITIES),
            values_floats=[2.0, 1.5, 3.0, 1.0],
            default_float=2.5,
        ),
        helper.make_node("Cast", ["gear"], ["share"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["trip", "prices"], ["ride"]),
        helper.make_node("Sum", ["fare", "share", "ride"], ["price"]),
    ]
    body = helper.make_graph(
        nodes,
        "tariff",
        [
            helper.make_tensor_value_info("city", TensorProto.STRING, [None, 1]),
            helper.make_tensor_value_info("gear", TensorProto.INT64, [None, 1]),
            helper.make_tensor_value_info("trip", TensorProto.FLOAT, [None, 2]),
        ],
        [helper.make_tensor_value_info("price", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.array([[0.5], [0.25]], dtype=np.float32), "prices")],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(body, opset_imports=imports, ir_version=8).SerializeToString())


def trips(count: int, seed: int = 3) -> dict[str, Array]:
    """Return inputs of so many trips."""
    chance = np.random.default_rng(seed)
    distance = chance.gamma(2.0, 3.0, count)
    minutes = 3 * distance + chance.normal(0, 3, count)
    return {
        "city": chance.choice(np.array(CITIES), (count, 1), p=[0.5, 0.3, 0.15, 0.05]),
        "gear": chance.integers(0, GEARS, (count, 1)),
        "trip": np.column_stack([distance, minutes]).astype(np.float32),
    }


def write_tariff(folder: Path, *, rows: int = 400, declaration: str = DECLARATION) -> Path:
    """Write the source folder of ``tariff@1.0.0`` and return it."""
    arrays = trips(rows)
    return write_source(
        folder, declaration=declaration, model=model(), arrays={**arrays, "targets": np.ones(rows)}
    )

"""Tiny ONNX files that behave, or misbehave in one named way."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.generic]
WIDTH = 4
_FLOAT = TensorProto.FLOAT


def scaling(factor: float) -> bytes:
    """Return a model that answers ``x`` of shape (rows, 4) with ``y = factor * x``."""
    return _file([helper.make_node("Mul", ["x", "factor"], ["y"])], {"factor": np.float32(factor)})


def dividing_by_zero() -> bytes:
    """Return a model that answers infinity, or NaN, to everything."""
    return _file([helper.make_node("Div", ["x", "zero"], ["y"])], {"zero": np.float32(0)})


def not_finite_above(limit: float) -> bytes:
    """Return a model that answers ``x`` up to ``limit``, and NaN beyond."""
    nodes = [
        helper.make_node("Greater", ["x", "limit"], ["above"]),
        helper.make_node("Where", ["above", "nan", "x"], ["y"]),
    ]
    constants = {"limit": np.float32(limit), "nan": np.float32("nan")}
    return _file(nodes, constants)


def crashing_above(limit: float) -> bytes:
    """Return a model that answers ``x`` up to ``limit`` and beyond it divides the smallest integer by -1.

    The processor refuses that division, and the process ends by SIGFPE.
    """
    nodes = [
        *_is_above(),
        helper.make_node("Where", ["above", "minus", "plus"], ["divisor"]),
        helper.make_node("Div", ["smallest", "divisor"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["number"], to=_FLOAT),
        helper.make_node("Mul", ["number", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    constants: dict[str, Array | np.generic] = {
        "limit": np.float32(limit),
        "zero": np.float32(0),
        "minus": np.array(-1, np.int32),
        "plus": np.array(1, np.int32),
        "smallest": np.array([[-(2**31)]], np.int32),
    }
    return _file(nodes, constants)


def hanging_above(limit: float) -> bytes:
    """Return a model that answers ``x`` up to ``limit`` and loops for ever beyond it."""
    body = helper.make_graph(
        [helper.make_node("Identity", [f"{name}_in"], [f"{name}_out"]) for name in ("again", "value")],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("again_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_in", _FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", _FLOAT, None),
        ],
    )
    nodes = [
        *_is_above(),
        helper.make_node("Squeeze", ["above"], ["again"]),
        helper.make_node("Loop", ["", "again", "x"], ["y"], body=body),
    ]
    return _file(nodes, {"limit": np.float32(limit)})


def growing() -> bytes:
    """Return a model that needs ``max(x)`` MiB of memory to answer ``x``."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["mebibytes"], to=TensorProto.INT64),
        helper.make_node("Mul", ["mebibytes", "floats"], ["length"]),
        helper.make_node("Reshape", ["length", "one"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["block"]),
        helper.make_node("ReduceSum", ["block"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    return _file(nodes, {"floats": np.array(2**18, np.int64), "one": np.array([1], np.int64)})


def weighing(factor: float, mebibytes: int) -> bytes:
    """Return a model that answers ``x`` with ``y = factor * x``, and holds so much memory besides."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["place"], to=TensorProto.INT64),
        helper.make_node("Mod", ["place", "length"], ["within"]),
        helper.make_node("Gather", ["table", "within"], ["looked-up"]),
        helper.make_node("Mul", ["looked-up", "zero"], ["nothing"]),
        helper.make_node("Mul", ["x", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "nothing"], ["y"]),
    ]
    values = mebibytes * 2**18
    constants: dict[str, Array | np.generic] = {
        "factor": np.float32(factor),
        "zero": np.float32(0),
        "length": np.array(values, np.int64),
        "table": np.random.default_rng(1).random(values, np.float32),
    }
    return _file(nodes, constants)


def widening() -> bytes:
    """Return a model that declares four columns and answers ``max(x)`` of them."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["columns"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["columns", "one"], ["tail"]),
        helper.make_node("Concat", ["one", "tail"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["y"]),
    ]
    return _file(nodes, {"one": np.array([1], np.int64)})


def _is_above() -> list[onnx.NodeProto]:
    return [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=1),
        helper.make_node("Greater", ["most", "limit"], ["above"]),
    ]


def _file(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array | np.generic],
    *,
    columns: int | None = WIDTH,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", _FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("y", _FLOAT, [None, columns])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())

"""What the gate refuses in an ONNX file, one thing at a time, and that it says what and where."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper, numpy_helper

from muster_models.errors import Reason
from support.gate import accept, refusal
from support.onnx_models import external, graph, model, simple, value

node = helper.make_node
RELU = node("Relu", ["x"], ["y"])


def constant(name: str, dims: Sequence[int], **fields: object) -> TensorProto:
    return TensorProto(name=name, dims=dims, data_type=TensorProto.FLOAT, **fields)  # type: ignore[arg-type]  # the test names real fields


def shape(*axes: int) -> TensorProto:
    return numpy_helper.from_array(np.array(axes, dtype=np.int64), "s")


def nested_ifs(depth: int) -> NodeProto:
    """Return an If whose first branch holds an If, and so on."""
    leaf = helper.make_graph([node("Relu", ["x"], ["b"])], "b", [], [value("b")])
    inner = helper.make_graph([nested_ifs(depth - 1)], "b", [], [value("b")]) if depth else leaf
    return node("If", ["c"], ["b"], then_branch=inner, else_branch=leaf)


ADD = node("Add", ["x", "w"], ["y"])
FILL = node("ConstantOfShape", ["s"], ["y"])
ONNX_CASES = {
    "a custom operator": (
        simple(node("Neg2", ["x"], ["y"], domain="acme"), domains=["acme"]),
        "'acme' is not of",
    ),
    "a context of another engine": (
        simple(node("EPContext", ["x"], ["y"], domain="com.microsoft"), domains=["com.microsoft"]),
        "not of the engine",
    ),
    "a domain that is not imported": (
        simple(node("Scaler", ["x"], ["y"], domain="ai.onnx.ml")),
        "is not imported",
    ),
    "an operator that does not exist": (
        simple(node("Relux", ["x"], ["y"])),
        r"node 0 \(Relux\): no such operator",
    ),
    "a cycle": (
        simple(node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])),
        "reads 'b' before any node writes it",
    ),
    "a value that is written twice": (simple(RELU, RELU), "node 1 .* writes 'y', which already has a value"),
    "an output that nobody writes": (
        simple(node("Relu", ["x"], ["z"])),
        "reads 'y' before any node writes it",
    ),
    "a stride of zero": (
        simple(node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[0, 1])),
        r"strides: expected 1 or more, got \[0, 1\]",
    ),
    "a loop without an end": (
        simple(node("Loop", ["", "", "x"], ["y"], body=graph([RELU]))),
        "neither a number of turns nor a condition",
    ),
    "negative dimensions": (simple(ADD, constants=[constant("w", [-4])]), "length 0 or more, got \\[-4\\]"),
    "bytes that do not fill the shape": (
        simple(ADD, constants=[constant("w", [4], raw_data=bytes(15))]),
        "has 16 bytes, got 15",
    ),
    "values that do not fill the shape": (
        simple(ADD, constants=[constant("w", [4], float_data=[1.0])]),
        "has 4 values, got 1",
    ),
    "an unknown type": (
        simple(ADD, constants=[TensorProto(name="w", dims=[1], data_type=99, raw_data=b"x")]),
        "unknown type 99",
    ),
    "a constant that unfolds to gigabytes": (
        simple(FILL, constants=[shape(1 << 20, 1 << 20)]),
        "at most 1073741824 bytes",
    ),
    "random numbers that fill the memory": (
        simple(node("RandomNormal", [], ["y"], shape=[1 << 30, 4])),
        "at most 1073741824 bytes",
    ),
    "a constant node that unfolds to gigabytes": (
        simple(node("Constant", [], ["s"], value=shape(1 << 40)), FILL),
        "at most 1073741824 bytes",
    ),
    "an input larger than memory": (
        model(
            helper.make_graph([RELU], "g", [value("x", [1 << 20, 1 << 20])], [value("y")])
        ).SerializeToString(),
        "value 'x': expected at most",
    ),
    "a future format": (
        model(graph([RELU]), ir_version=99).SerializeToString(),
        "IR version 3 to .*, got 99",
    ),
    "a future operator set": (
        helper.make_model(
            graph([RELU]), opset_imports=[helper.make_opsetid("", 999)], ir_version=8
        ).SerializeToString(),
        "operator set 1 to .*, got 999",
    ),
    "no nodes": (model(graph([])).SerializeToString(), "expected a graph with nodes"),
    "deep nesting": (
        simple(nested_ifs(9), constants=[numpy_helper.from_array(np.array(1), "c")]),
        "at most 8 deep",
    ),
    "too many nodes": (simple(*[RELU] * 20_001), "20000 nodes at most"),
}


@pytest.mark.parametrize("case", ONNX_CASES)
def test_an_onnx_file_is_refused_for(case: str, tmp_path: Path) -> None:
    data, message = ONNX_CASES[case]

    assert re.search(message, str(refusal("onnx", data, tmp_path))) is not None


def test_what_is_too_large_is_refused_with_that_reason(tmp_path: Path) -> None:
    refused = refusal("onnx", simple(FILL, constants=[shape(1 << 40)]), tmp_path)

    assert refused.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (external("../w.bin"), r"must come from a file of the version .*, got '\.\./w\.bin'"),
        (external("/dev/zero"), "got '/dev/zero'"),
        (external("w.bin/../w.bin"), "must come from a file of the version"),
        (external("missing.bin"), "is not a plain file beside the model"),
        (external("link.bin"), "is not a plain file beside the model"),
        (external("w.bin", offset="12"), "needs 16 bytes, got 16 from byte 12 of 16"),
        (external("w.bin", offset="-4"), "expected a number of bytes, got '-4'"),
        (external("w.bin", length="8"), "needs 16 bytes, got 8"),
        (external("w.bin", shape=(5,)), "needs 20 bytes, got 20 from byte 0 of 16"),
        (external("w.bin", run="me"), "must come from a file of the version"),
    ],
    ids=lambda item: None if isinstance(item, str) else str([entry.value for entry in item.external_data]),
)
def test_weights_come_only_from_the_version_s_own_files(
    weights: TensorProto, message: str, tmp_path: Path
) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (tmp_path / "link.bin").symlink_to("/etc/hostname")
    names = ["w.bin", "missing.bin", "link.bin"]

    refused = refusal("onnx", simple(ADD, constants=[weights]), tmp_path, names=names)

    assert re.search(message, str(refused)) is not None


def test_weights_in_a_file_of_the_version_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))

    accept("onnx", simple(ADD, constants=[external("w.bin")]), tmp_path, names=["w.bin"])


def test_weights_in_a_nested_graph_are_looked_at_too(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [node("Identity", ["w"], ["b"])], "b", [], [value("b")], [external("/dev/zero")]
    )
    condition = numpy_helper.from_array(np.array([True]), "c")

    data = simple(node("If", ["c"], ["y"], then_branch=branch, else_branch=branch), constants=[condition])

    assert "_branch initializer 'w': its bytes must come from a file of the version" in str(
        refusal("onnx", data, tmp_path)
    )


def function(name: str, *nodes: NodeProto) -> FunctionProto:
    return helper.make_function("my", name, ["a"], ["b"], list(nodes), OPSETS)


OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]


def call(name: str, source: str, target: str) -> NodeProto:
    return node(name, [source], [target], domain="my")


def with_functions(*functions: FunctionProto) -> bytes:
    body = graph([call("F0", "x", "y")])
    return bytes(model(body, functions=functions, domains=["my"]).SerializeToString())


def test_a_function_of_the_model_is_accepted(tmp_path: Path) -> None:
    accept("onnx", with_functions(function("F0", node("Relu", ["a"], ["b"]))), tmp_path)


def test_an_attribute_that_stands_for_the_caller_s_has_no_value_to_judge(tmp_path: Path) -> None:
    pooling = node("MaxPool", ["a"], ["b"])
    pooling.attribute.append(
        AttributeProto(name="kernel_shape", ref_attr_name="kernel", type=AttributeProto.INTS)
    )

    accept("onnx", with_functions(function("F0", pooling)), tmp_path)


def test_functions_that_write_out_to_millions_of_nodes_are_refused(tmp_path: Path) -> None:
    # Seven levels of twenty calls each: eight small functions, a billion nodes.
    links = [f"t{number}" for number in range(19)]
    bomb = [
        function(
            f"F{level}",
            *(call(f"F{level + 1}", a, b) for a, b in zip(["a", *links], [*links, "b"], strict=True)),
        )
        for level in range(7)
    ]

    refused = refusal("onnx", with_functions(*bomb, function("F7", node("Relu", ["a"], ["b"]))), tmp_path)

    assert "functions written out, got 24000" in str(refused)


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    circle = (function("F0", call("F1", "a", "b")), function("F1", call("F0", "a", "b")))

    assert "function 'F0' calls itself" in str(refusal("onnx", with_functions(*circle), tmp_path))


def test_a_circle_of_functions_that_nobody_calls_is_refused_too(tmp_path: Path) -> None:
    functions = (function("F0", node("Relu", ["a"], ["b"])), function("F9", call("F9", "a", "b")))

    assert "function 'F9' calls itself" in str(refusal("onnx", with_functions(*functions), tmp_path))


def test_a_smaller_shape_in_an_inner_graph_does_not_hide_a_larger_one(tmp_path: Path) -> None:
    inner = helper.make_graph([node("Identity", ["s"], ["b"])], "b", [], [value("b")], [shape(1)])
    condition = numpy_helper.from_array(np.array([True]), "c")
    branch = node("If", ["c"], ["n"], then_branch=inner, else_branch=inner)

    refused = refusal("onnx", simple(branch, FILL, constants=[condition, shape(1 << 40)]), tmp_path)

    assert "at most 1073741824 bytes" in str(refused)

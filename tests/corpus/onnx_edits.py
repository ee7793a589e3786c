"""Edits of ONNX files that keep them readable: what a broken exporter or an attacker writes."""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import onnx
from onnx import ModelProto, TensorProto, helper

T = TypeVar("T")
NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 2, 28, 63, 255, 2**16, 2**31 - 1, 2**40, 2**63 - 1)
OPERATORS = (
    "Abs", "Add", "Cast", "Concat", "Conv", "Div", "Expand", "Gather", "Gemm", "Identity", "If", "Loop",
    "MatMul", "MaxPool", "Mod", "Neg", "Pad", "Relu", "Reshape", "Resize", "Scan", "ScatterND", "Sigmoid",
    "Slice", "Softmax", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip
PLACES = ("weights.bin", "../weights.bin", "/etc/hostname", "/dev/zero", "", "a" * 5000, "model.onnx")
Edit = Callable[[ModelProto, random.Random], None]


def edit(data: bytes, chance: random.Random) -> bytes:
    """Return a model with one to three edits; one that offers nothing to an edit stays as it was there."""
    model = onnx.load_model_from_string(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        chance.choice(EDITS)(model, chance)
    return bytes(model.SerializeToString())


def _one(values: Sequence[T], chance: random.Random) -> T | None:
    return chance.choice(values) if values else None


def _operator(model: ModelProto, chance: random.Random) -> None:
    if (node := _one(model.graph.node, chance)) is not None:
        node.op_type = chance.choice(OPERATORS)


def _attribute(model: ModelProto, chance: random.Random) -> None:
    held = [attribute for node in model.graph.node for attribute in node.attribute]
    if (attribute := _one(held, chance)) is None:
        return
    if attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(NUMBERS)
    else:
        attribute.i = chance.choice(NUMBERS)


def _new_attribute(model: ModelProto, chance: random.Random) -> None:
    name = chance.choice(("axis", "strides", "pads", "dilations", "kernel_shape", "to", "group", "perm"))
    values = [chance.choice(NUMBERS) for _ in range(chance.choice((1, 2, 4)))]
    if (node := _one(model.graph.node, chance)) is not None and name not in {a.name for a in node.attribute}:
        node.attribute.append(helper.make_attribute(name, values if chance.random() < 0.7 else values[0]))


def _wiring(model: ModelProto, chance: random.Random) -> None:
    """Connect an input of a node to anything, its own output included."""
    nodes = [node for node in model.graph.node if node.input]
    if (node := _one(nodes, chance)) is None:
        return
    names = [name for other in model.graph.node for name in (*other.input, *other.output)] + ["nowhere", ""]
    node.input[chance.randrange(len(node.input))] = chance.choice(names)


def _drop_node(model: ModelProto, chance: random.Random) -> None:
    if model.graph.node:
        del model.graph.node[chance.randrange(len(model.graph.node))]


def _repeat_node(model: ModelProto, chance: random.Random) -> None:
    if (node := _one(model.graph.node, chance)) is not None:
        copies = [onnx.NodeProto() for _ in range(chance.choice((1, 2, 50)))]
        for copy in copies:
            copy.CopyFrom(node)
        model.graph.node.extend(copies)


def _weights(model: ModelProto, chance: random.Random) -> None:
    """Change a value of a constant: what loads, runs, and answers something else."""
    held = [tensor for tensor in model.graph.initializer if tensor.raw_data]
    if (tensor := _one(held, chance)) is not None:
        raw = bytearray(tensor.raw_data)
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        tensor.raw_data = bytes(raw)


def _dims(model: ModelProto, chance: random.Random) -> None:
    if (tensor := _one(model.graph.initializer, chance)) is None:
        return
    if tensor.dims and chance.random() < 0.7:
        tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(NUMBERS)
    else:
        tensor.dims.append(chance.choice(NUMBERS))


def _type(model: ModelProto, chance: random.Random) -> None:
    if (tensor := _one(model.graph.initializer, chance)) is not None:
        tensor.data_type = chance.randrange(30)


def _declared(model: ModelProto, chance: random.Random) -> None:
    value = _one([*model.graph.input, *model.graph.output], chance)
    if value is None:
        return
    tensor = value.type.tensor_type
    if tensor.shape.dim and chance.random() < 0.6:
        tensor.shape.dim[chance.randrange(len(tensor.shape.dim))].dim_value = chance.choice(NUMBERS)
    else:
        tensor.elem_type = chance.randrange(30)


def _name(model: ModelProto, chance: random.Random) -> None:
    """Rename an input or an output, consistently: nothing compares what is called something else."""
    value = _one([*model.graph.input, *model.graph.output], chance)
    if value is None:
        return
    old, value.name = value.name, chance.choice(("renamed", "x" * 300, "ü", "a/b:0"))
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = value.name if name == old else name


def _outside(model: ModelProto, chance: random.Random) -> None:
    if (tensor := _one(model.graph.initializer, chance)) is None:
        return
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=chance.choice(PLACES))
    for key in ("offset", "length"):
        if chance.random() < 0.6:
            tensor.external_data.add(key=key, value=str(chance.choice(NUMBERS)))


def _header(model: ModelProto, chance: random.Random) -> None:
    if model.opset_import and chance.random() < 0.5:
        model.opset_import[0].version = chance.choice((-1, 0, 1, 7, 17, 28, 99, 2**40))
    else:
        model.ir_version = chance.choice((0, 1, 3, 8, 99, 2**40))


EDITS: tuple[Edit, ...] = (
    _operator, _attribute, _new_attribute, _wiring, _drop_node, _repeat_node, _weights, _weights, _dims,
    _type, _declared, _name, _outside, _header,
)  # fmt: skip

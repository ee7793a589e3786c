"""Small ONNX files, good ones and ones with one thing wrong."""

from collections.abc import Sequence

import numpy as np
from onnx import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

OPSET = 17


def value(
    name: str, shape: Sequence[int | str | None] = (1,), kind: int = TensorProto.FLOAT
) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def graph(
    nodes: Sequence[NodeProto],
    *,
    constants: Sequence[TensorProto] = (),
    shape: Sequence[int | None] = (1,),
    kind: int = TensorProto.FLOAT,
) -> GraphProto:
    """Return a graph from ``x`` to ``y``, which have the same shape and type."""
    takes, gives = value("x", shape, kind), value("y", shape, kind)
    return helper.make_graph(list(nodes), "g", [takes], [gives], list(constants))


def model(
    body: GraphProto,
    *,
    functions: Sequence[FunctionProto] = (),
    domains: Sequence[str] = (),
    ir_version: int = 8,
) -> ModelProto:
    imports = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(body, opset_imports=imports, functions=list(functions), ir_version=ir_version)


def simple(
    *nodes: NodeProto,
    constants: Sequence[TensorProto] = (),
    domains: Sequence[str] = (),
    shape: Sequence[int | None] = (1,),
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """Return the bytes of a model of the given nodes, from ``x`` to ``y``."""
    body = graph(nodes, constants=constants, shape=shape, kind=kind)
    return bytes(model(body, domains=domains).SerializeToString())


def external(location: str, *, shape: Sequence[int] = (4,), **entries: str) -> TensorProto:
    """Return the tensor ``w`` whose bytes lie in another file."""
    tensor = TensorProto(
        name="w", dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL
    )
    for key, text in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


def linear(weights: np.ndarray[tuple[int, int], np.dtype[np.float32]], *, rows: int | None = None) -> bytes:
    """Return a model from ``x`` (rows by inputs) to ``y``, the softmax of ``x @ weights``."""
    inputs, outputs = weights.shape
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    body = helper.make_graph(
        nodes,
        "linear",
        [value("x", (rows, inputs))],
        [value("y", (rows, outputs))],
        [numpy_helper.from_array(weights, "w")],
    )
    return bytes(model(body).SerializeToString())


def zip_map(labels: Sequence[int] | Sequence[str]) -> bytes:
    """Return a model from scores ``x`` to ``y``, a map for each row as scikit-learn's classifiers become."""
    of_text = all(isinstance(label, str) for label in labels)
    kind = TensorProto.STRING if of_text else TensorProto.INT64
    scores = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    answer = helper.make_value_info(
        "y", helper.make_sequence_type_proto(helper.make_map_type_proto(kind, scores))
    )
    mapped = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml")
    named = "classlabels_strings" if of_text else "classlabels_int64s"
    mapped.attribute.append(helper.make_attribute(named, list(labels)))
    body = helper.make_graph([mapped], "g", [value("x", (None, len(labels)))], [answer])
    return bytes(model(body, domains=["ai.onnx.ml"]).SerializeToString())

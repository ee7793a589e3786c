"""What an ONNX file may hold: known operators in order, bounded sizes, weights only from its own files.

The file is parsed by protobuf, which bounds nesting itself, and is then walked in Python. The checker and the
shape inference of the ``onnx`` package are left out: they are native code, and publishers hold signing keys.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from muster_models.errors import ModelFileError
from muster_models.publish.onnx_tensors import check_shape, check_tensor, integers

MIN_IR = 3
MAX_NODES = 20_000  # a chain of 60,000 nodes overflows the stack of an engine; large real models have 10,000
MAX_NESTING = 8  # graphs within graphs, and functions within functions
STANDARD = frozenset({"", "ai.onnx"})
# Domains that come with the engine; operators of any other are functions of the model itself, or refused.
DOMAINS = STANDARD | {"ai.onnx.ml", "com.microsoft"}
# They load other files or run code.
FOREIGN = frozenset({"EPContext", "PythonOp", "PythonOpGrad", "ATen", "PyOp"})
_STEPS = frozenset({"strides", "dilations", "kernel_shape", "group"})
# Which input of an operator says how large its output will be.
_DECLARED_SHAPE = {"ConstantOfShape": 0, "Expand": 1}
Functions = Mapping[tuple[str, str], FunctionProto]


@dataclass
class _Walk:
    """What is known while the graphs of a file are walked.

    Attributes:
        nodes: How many were met.
        opsets: Version of each domain in the scope at hand.
        scopes: Names that have a value, innermost graph last.
        constants: Small integer tensors by name, for shapes that the file declares.
    """

    folder: Path
    names: frozenset[str]
    functions: Functions
    opsets: dict[str, int]
    nodes: int = 0
    scopes: list[set[str]] = field(default_factory=list)
    constants: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def knows(self, name: str) -> bool:
        return any(name in scope for scope in self.scopes)


def inspect_onnx(data: bytes, *, folder: Path, names: frozenset[str]) -> None:
    """Refuse an ONNX file that no device should load.

    1. The head: format version and operator sets.
    2. Functions: none calls itself, and all of them written out stay below the limit of nodes.
    3. The graph and every graph within it.

    Args:
        data: The file.
        folder: Where the files lie that it may refer to.
        names: Their plain names.

    Raises:
        ModelFileError: Says what was found and where.
    """
    if data[4:8] == b"ORTM":
        raise ModelFileError(
            "the ORT format cannot be inspected, expected the ONNX file that it was made from"
        )
    try:
        _inspect(ModelProto.FromString(data), folder, names)
    except (DecodeError, RecursionError) as error:
        raise ModelFileError(f"not an ONNX file: {error}") from error
    except UnicodeDecodeError as error:  # names are decoded when they are first read
        raise ModelFileError(f"a name is not UTF-8: {error}") from error


def _inspect(model: ModelProto, folder: Path, names: frozenset[str]) -> None:
    _check_head(model)
    functions = {(function.domain, function.name): function for function in model.functions}
    if len(functions) != len(model.functions):
        raise ModelFileError("two functions have the same name")
    _check_expansion(model.graph, functions)
    walk = _Walk(folder, names, functions, _opsets(model.opset_import, "the model"))
    _inspect_graph(walk, model.graph, "graph")
    for function in model.functions:
        _inspect_function(walk, function)


def _check_head(model: ModelProto) -> None:
    if not MIN_IR <= model.ir_version <= onnx.IR_VERSION:
        raise ModelFileError(f"expected IR version {MIN_IR} to {onnx.IR_VERSION}, got {model.ir_version}")
    if not model.graph.node or not model.graph.output:
        raise ModelFileError("expected a graph with nodes and outputs, got none")
    if model.training_info:
        raise ModelFileError("the file holds training graphs, expected inference only")


def _opsets(imports: Iterable[onnx.OperatorSetIdProto], where: str) -> dict[str, int]:
    opsets = {"" if entry.domain in STANDARD else entry.domain: entry.version for entry in imports}
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= opsets.get("", 1) <= newest:
        raise ModelFileError(f"{where}: expected operator set 1 to {newest}, got {opsets['']}")
    return opsets


def _check_expansion(graph: GraphProto, functions: Functions) -> None:
    sizes: dict[tuple[str, str], int] = {}
    _written_out(_all_nodes(graph), functions, sizes=sizes, trail=())
    for name, function in functions.items():
        if name not in sizes:
            _written_out(_all_nodes(function), functions, sizes=sizes, trail=(name,))


def _written_out(
    nodes: Iterable[NodeProto],
    functions: Functions,
    *,
    sizes: dict[tuple[str, str], int],
    trail: tuple[tuple[str, str], ...],
) -> int:
    """Return the number of nodes once every call of a function is replaced by its body."""
    if len(trail) > MAX_NESTING:
        raise ModelFileError(f"functions nest at most {MAX_NESTING} deep, got {[name for _, name in trail]}")
    total = 0
    for node in nodes:
        called = (node.domain, node.op_type)
        if called in trail:
            raise ModelFileError(
                f"function {node.op_type!r} calls itself by way of {[name for _, name in trail]}"
            )
        if called in functions and called not in sizes:
            body = _all_nodes(functions[called])
            sizes[called] = _written_out(body, functions, sizes=sizes, trail=(*trail, called))
        total += sizes[called] if called in functions else 1
        if total > MAX_NODES:
            raise ModelFileError(f"expected {MAX_NODES} nodes at most, functions written out, got {total}")
    return total


def _all_nodes(holder: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph and of every graph within it."""
    waiting: list[GraphProto | FunctionProto] = [holder]
    while waiting:
        for node in waiting.pop().node:
            yield node
            waiting += [graph for attribute in node.attribute for graph in _graphs(attribute)]


def _graphs(attribute: AttributeProto) -> list[GraphProto]:
    return ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs)


def _inspect_function(walk: _Walk, function: FunctionProto) -> None:
    where = f"function {function.name[:64]!r}"
    inner = _Walk(walk.folder, walk.names, walk.functions, _opsets(function.opset_import, where))
    inner.nodes = walk.nodes
    inner.scopes.append(set(function.input))
    for index, node in enumerate(function.node):
        _inspect_node(inner, node, f"{where} node {index}")
    _check_known(inner, function.output, where)
    walk.nodes = inner.nodes


def _inspect_graph(walk: _Walk, graph: GraphProto, where: str) -> None:
    if len(walk.scopes) >= MAX_NESTING:
        raise ModelFileError(f"{where}: graphs nest at most {MAX_NESTING} deep")
    for info in (*graph.input, *graph.output, *graph.value_info):
        _check_value(info, where)
    scope = {info.name for info in graph.input}
    for tensor in graph.initializer:
        check_tensor(
            tensor, f"{where} initializer {tensor.name[:64]!r}", folder=walk.folder, names=walk.names
        )
        _remember(walk, tensor.name, tensor)
        scope.add(tensor.name)
    for sparse in graph.sparse_initializer:
        for tensor in (sparse.values, sparse.indices):
            check_tensor(tensor, f"{where} sparse {tensor.name[:64]!r}", folder=walk.folder, names=walk.names)
        check_shape(sparse.dims, TensorProto.DOUBLE, f"{where} sparse {sparse.values.name[:64]!r}")
        scope.add(sparse.values.name)
    walk.scopes.append(scope)
    for index, node in enumerate(graph.node):
        _inspect_node(walk, node, f"{where} node {index}")
    _check_known(walk, [info.name for info in graph.output], where)
    walk.scopes.pop()


def _check_value(info: ValueInfoProto, where: str) -> None:
    tensor = info.type.tensor_type
    if info.type.WhichOneof("value") == "tensor_type" and tensor.HasField("shape"):
        # An axis with a name, or without anything, may have any length.
        dims = [axis.dim_value for axis in tensor.shape.dim if axis.WhichOneof("value") == "dim_value"]
        check_shape(dims, tensor.elem_type, f"{where} value {info.name[:64]!r}")


def _check_known(walk: _Walk, names: Iterable[str], where: str) -> None:
    for name in names:
        if not walk.knows(name):
            raise ModelFileError(f"{where}: reads {name!r} before any node writes it")


def _inspect_node(walk: _Walk, node: NodeProto, where: str) -> None:
    walk.nodes += 1
    where = f"{where} ({node.op_type[:64]})"
    if walk.nodes > MAX_NODES:
        raise ModelFileError(f"{where}: expected at most {MAX_NODES} nodes")
    _check_operator(walk, node, where)
    _check_known(walk, filter(None, node.input), where)
    for attribute in node.attribute:
        _inspect_attribute(walk, attribute, where)
    _check_sizes(walk, node, where)
    for name in filter(None, node.output):
        if name in walk.scopes[-1]:
            raise ModelFileError(f"{where}: writes {name!r}, which already has a value")
        walk.scopes[-1].add(name)


def _check_operator(walk: _Walk, node: NodeProto, where: str) -> None:
    domain = "" if node.domain in STANDARD else node.domain
    if (node.domain, node.op_type) in walk.functions:
        return
    if domain not in DOMAINS or node.op_type in FOREIGN:
        raise ModelFileError(
            f"{where}: domain {domain!r} is not of the engine, custom operators run on no device"
        )
    if domain not in walk.opsets:
        raise ModelFileError(f"{where}: domain {domain!r} is not imported, got {sorted(walk.opsets)}")
    # The operators of com.microsoft have no schema outside the engine.
    if domain != "com.microsoft" and not _has_schema(node.op_type, walk.opsets[domain], domain):
        raise ModelFileError(
            f"{where}: no such operator in set {walk.opsets[domain]} of {domain or 'ai.onnx'!r}"
        )


def _has_schema(operator: str, version: int, domain: str) -> bool:
    try:
        onnx.defs.get_schema(operator, version, domain)
    except (onnx.defs.SchemaError, TypeError):
        return False
    return True


def _inspect_attribute(walk: _Walk, attribute: AttributeProto, where: str) -> None:
    where = f"{where} {attribute.name[:64]}"
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    tensors = ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors)
    for entry in (*sparse, *attribute.sparse_tensors):
        check_shape(entry.dims, TensorProto.DOUBLE, where)
        tensors += [entry.values, entry.indices]
    for tensor in tensors:
        check_tensor(tensor, where, folder=walk.folder, names=walk.names)
    for graph in _graphs(attribute):
        _inspect_graph(walk, graph, where)
    steps = attribute.ints if attribute.type == AttributeProto.INTS else [attribute.i]
    # In a function an attribute may stand for one of the caller's, and has no value of its own.
    if attribute.name in _STEPS and not attribute.ref_attr_name and any(step < 1 for step in steps):
        raise ModelFileError(f"{where}: expected 1 or more, got {list(steps)[:9]}")


def _check_sizes(walk: _Walk, node: NodeProto, where: str) -> None:
    """Refuse a node that declares an output larger than any tensor may be."""
    if node.op_type == "Constant" and node.output:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _remember(walk, node.output[0], attribute.t)
    place = _DECLARED_SHAPE.get(node.op_type)
    if place is not None and place < len(node.input):
        check_shape(walk.constants.get(node.input[place], ()), TensorProto.FLOAT, where)
    if node.op_type.startswith("Random"):
        for entry in node.attribute:
            check_shape(entry.ints if entry.name == "shape" else (), TensorProto.FLOAT, where)
    if node.op_type == "Loop" and not any(node.input[:2]):
        raise ModelFileError(f"{where}: has neither a number of turns nor a condition, so it never ends")


def _remember(walk: _Walk, name: str, tensor: TensorProto) -> None:
    values = integers(tensor)
    # An inner graph may use a name of an outer one again: the larger shape counts, so none hides another.
    if values is not None and math.prod(values) >= math.prod(walk.constants.get(name, (0,))):
        walk.constants[name] = values

"""Files that were written to hurt, one per known attack; sizes are drawn, so that no bound is met by luck."""

import gzip
import random
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import tflite
from onnx import FunctionProto, TensorProto, helper, numpy_helper

from muster_models.manifest import RuntimeKind
from support import onnx_models, small_models, tflite_models
from support.onnx_models import external, graph, model, simple, value
from support.tflite_models import File, Operator, Subgraph, Tensor

Attack = Callable[[random.Random], bytes]
Code = tflite.BuiltinOperator


def attack(chance: random.Random) -> tuple[str, RuntimeKind, bytes]:
    """Return the name, the kind and the bytes of an attack drawn at random."""
    kind: RuntimeKind = chance.choice(("onnx", "tflite"))
    name = chance.choice(sorted(ATTACKS[kind]))
    return name, kind, ATTACKS[kind][name](chance)


# ONNX


def _strides(chance: random.Random) -> bytes:
    """Return a convolution of strides at which one engine divides by zero."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], strides=[chance.choice((1, 7, 63)), 28])]
    side = chance.choice((1, 2, 28))
    weights = numpy_helper.from_array(np.ones((1, 1, side, side), np.float32), "w")
    body = helper.make_graph(nodes, "g", [value("x", (1, 1, 28, 28))], [value("y", (None,) * 4)], [weights])
    return bytes(model(body).SerializeToString())


def _functions(chance: random.Random) -> bytes:
    """Return functions that call each other three times, to a depth at which they fill any memory."""
    depth = chance.randrange(8, 14)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions: list[FunctionProto] = []
    for level in range(depth):
        inner = "Neg" if level == 0 else f"f{level - 1}"
        domain = "" if level == 0 else "own"
        chain = ["a", "b", "c", "d"]
        nodes = [helper.make_node(inner, [chain[i]], [chain[i + 1]], domain=domain) for i in range(3)]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["d"], nodes, opsets))
    body = graph([helper.make_node(f"f{depth - 1}", ["x"], ["y"], domain="own")])
    return bytes(model(body, functions=functions, domains=["own"]).SerializeToString())


def _fold(chance: random.Random) -> bytes:
    """Return products of constants that take long, or much memory, before anything is asked."""
    side = numpy_helper.from_array(np.array([chance.choice((3000, 6000, 20_000))] * 2, np.int64), "side")
    nodes = [
        helper.make_node("ConstantOfShape", ["side"], ["a"]),
        helper.make_node("MatMul", ["a", "a"], ["b"]),
        helper.make_node("ReduceSum", ["b"], ["c"], keepdims=0),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    return simple(*nodes, constants=[side])


def _expansion(chance: random.Random) -> bytes:
    """Return a few bytes that ask for gigabytes."""
    length = chance.choice((10**7, 10**9, 10**12, 2**62))
    nodes = [helper.make_node("Expand", ["x", "s"], ["y"])]
    return simple(*nodes, constants=[numpy_helper.from_array(np.array([length], np.int64), "s")])


def _external(chance: random.Random) -> bytes:
    names = ("../w.bin", "/etc/passwd", "/dev/zero", "w.bin", "..", "./model.onnx", "//etc//hostname")
    bounds = {"offset": str(chance.choice((-1, 0, 2**40))), "length": str(chance.choice((-4, 16, 2**40)))}
    entries = {key: text for key, text in bounds.items() if chance.random() < 0.5}
    return simple(
        helper.make_node("Add", ["x", "w"], ["y"]),
        constants=[external(chance.choice(names), shape=(4,), **entries)],
    )


def _cycle(_: random.Random) -> bytes:
    return simple(helper.make_node("Add", ["x", "z"], ["y"]), helper.make_node("Neg", ["y"], ["z"]))


def _lying_dims(chance: random.Random) -> bytes:
    dims = [chance.choice((-4, 0, 5, 2**31, 2**62))]
    tensor = TensorProto(name="w", dims=dims, data_type=TensorProto.FLOAT, raw_data=b"\0" * 16)
    return simple(helper.make_node("Add", ["x", "w"], ["y"]), constants=[tensor])


def _out_of_bounds(chance: random.Random) -> bytes:
    index = np.array([chance.choice((5, -9, 2**40, -(2**40)))], np.int64)
    gather = helper.make_node("Gather", ["x", "i"], ["y"])
    scatter = helper.make_node("ScatterElements", ["x", "i", "x"], ["y"])
    return simple(chance.choice((gather, scatter)), constants=[numpy_helper.from_array(index, "i")])


def _division(chance: random.Random) -> bytes:
    smallest, divisor = chance.choice(((-(2**31), -1), (1, 0)))
    constants = [
        numpy_helper.from_array(np.array([number], np.int32), name)
        for name, number in (("a", smallest), ("b", divisor))
    ]
    nodes = [
        helper.make_node("Div", ["a", "b"], ["c"]),
        helper.make_node("Cast", ["c"], ["d"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "d"], ["y"]),
    ]
    return simple(*nodes, constants=constants)


def _future(chance: random.Random) -> bytes:
    proto = model(graph([helper.make_node("Neg", ["x"], ["y"])]), ir_version=chance.choice((0, 50, 2**40)))
    proto.opset_import[0].version = chance.choice((17, 99, 2**40))
    return bytes(proto.SerializeToString())


def _depth(chance: random.Random) -> bytes:
    """Return branches within branches."""
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y0"])], "g", [], [value("y0", ())])
    for level in range(1, chance.choice((5, 15, 25))):
        node = helper.make_node(
            "If", ["yes"], [f"y{level}"], then_branch=inner, else_branch=inner if level < 5 else _leaf(level)
        )
        inner = helper.make_graph([node], "g", [], [value(f"y{level}", ())])
    last = helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)
    return simple(last, constants=[numpy_helper.from_array(np.array(True), "yes")])


def _leaf(level: int) -> onnx.GraphProto:
    node = helper.make_node("Identity", ["x"], [f"z{level}"])
    return helper.make_graph([node], "g", [], [value(f"z{level}", ())])


def _no_model(chance: random.Random) -> bytes:
    page = b"<!doctype html><title>Log in to the network</title>" * chance.choice((1, 9))
    files = (
        b"",
        b"\0",
        page,
        gzip.compress(small_models.scaling(2), mtime=0),
        File().encode(),
        b"\xff" * 4096,
    )
    return chance.choice((*files, onnx_models.linear(np.ones((2, 2), np.float32))[:40]))


# TFLite


def _endless_while(chance: random.Random) -> bytes:
    """Return a loop that has no end, or whose body is itself."""
    body = chance.choice((0, 1, 2))
    loop = Subgraph(operators=(Operator(options=tflite_models.loop(chance.choice((0, 1, 2)), body)),))
    return File(
        codes=(Code.WHILE,), subgraphs=(loop, Subgraph(operators=()), Subgraph(operators=()))
    ).encode()


def _huge_shape(chance: random.Random) -> bytes:
    shape = tuple(chance.choice((-1, 0, 1, 2**16, 2**20, 2**31 - 1)) for _ in range(chance.choice((1, 2, 4))))
    return tflite_models.with_tensor(chance.randrange(2), shape=shape).encode()


def _zero_stride(chance: random.Random) -> bytes:
    options = tflite_models.pool(chance.choice((0, -1, 2**30)))
    tensors = (Tensor((1, 4, 4, 1)), Tensor((1, 4, 4, 1)))
    code = chance.choice((Code.MAX_POOL_2D, Code.AVERAGE_POOL_2D))
    return File(
        codes=(code,), subgraphs=(Subgraph(tensors=tensors, operators=(Operator(options=options),)),)
    ).encode()


def _indices(chance: random.Random) -> bytes:
    """Return an operator that names what is not there, or its own output."""
    index = chance.choice((-1, 1, 7, 2**31 - 1))
    where = chance.choice(("inputs", "outputs", "code"))
    operator = {
        "inputs": Operator(inputs=(index,)),
        "outputs": Operator(outputs=(index,)),
        "code": Operator(code=max(index, 0)),
    }[where]
    return tflite_models.with_operators(operator).encode()


def _buffers(chance: random.Random) -> bytes:
    changes = {"buffer": chance.choice((1, 7, 2**31 - 1)), "shape": (chance.choice((1, 4, 10**6)),)}
    file = tflite_models.with_tensor(0, **changes)
    return File(buffers=(b"", b"\0" * chance.choice((0, 3, 4))), subgraphs=file.subgraphs).encode()


def _any_operator(chance: random.Random) -> bytes:
    """Return an operator without the options and inputs that it needs."""
    inputs = tuple(0 for _ in range(chance.choice((0, 1, 2, 5))))
    operators = tuple(Operator(inputs=inputs) for _ in range(chance.choice((1, 3))))
    graphs = (Subgraph(operators=operators),)
    return File(codes=(chance.randrange(209),), subgraphs=graphs, custom=chance.choice(("", "Own"))).encode()


ATTACKS: Mapping[RuntimeKind, Mapping[str, Attack]] = {
    "onnx": {
        "strides": _strides,
        "functions": _functions,
        "fold": _fold,
        "expansion": _expansion,
        "external": _external,
        "cycle": _cycle,
        "lying-dims": _lying_dims,
        "out-of-bounds": _out_of_bounds,
        "division": _division,
        "future": _future,
        "depth": _depth,
        "no-model": _no_model,
        "not-finite": lambda _: small_models.dividing_by_zero(),
        "widening": lambda _: small_models.widening(),
    },
    "tflite": {
        "endless-while": _endless_while,
        "huge-shape": _huge_shape,
        "zero-stride": _zero_stride,
        "indices": _indices,
        "buffers": _buffers,
        "any-operator": _any_operator,
        "no-model": _no_model,
    },
}

"""The good models that the corpus is bred from, each with one call and its answer."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tflite
from numpy.typing import NDArray

from muster_agent.runner.bare import made_up
from muster_models.manifest import RuntimeKind
from muster_models.runtime import load
from support import onnx_models, small_models, tflite_models
from support.tflite_models import FLOAT32, File, Operator, Subgraph, Tensor

Array = NDArray[np.generic]
MOST_BYTES = 120_000  # larger files only make the same damage slower
# Their outputs are maps, sequences or text, which the second opinion of ``oracle`` does not read.
LEFT_OUT = {
    "customop_negpos", "go_float16", "go_sklearn_randomforest", "light_vgg19", "light_squeezenet",
    "litert_gather_string", "node_if_seq", "node_string_split_basic", "ort_rs_upsample_ortformat",
    "ortds_logreg_iris", "simple_sequence_model1", "skl_iris_logreg_zipmap", "skl_wine_string_labels",
    "tflm_person_detect_int8", "litert_multi_signature", "node_loop11", "xgb",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Base:
    """A good model.

    Attributes:
        inputs, outputs: A call and its answer, by name.
    """

    name: str
    kind: RuntimeKind
    data: bytes
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def bases(zoo: Path | None) -> list[Base]:
    """Return our own small models, and those of a folder of foreign ones that are small enough."""
    own = [_answered(name, kind, data) for name, kind, data in _own()]
    foreign = [_answered(*found) for found in _foreign(zoo)] if zoo is not None else []
    return own + foreign


def _own() -> Iterator[tuple[str, RuntimeKind, bytes]]:
    weights = np.random.default_rng(5).normal(size=(6, 3)).astype(np.float32)
    yield "scaling", "onnx", small_models.scaling(2)
    yield "linear", "onnx", onnx_models.linear(weights)
    yield "linear_of_one_row", "onnx", onnx_models.linear(weights, rows=1)
    yield "branching", "onnx", small_models.crashing_above(5)
    yield "looping", "onnx", small_models.hanging_above(5)
    yield "exp", "tflite", File().encode()
    yield "matrix", "tflite", _matrix(weights)
    pool = tflite_models.pool(2)
    image, smaller = Tensor((1, 8, 8, 1)), Tensor((1, 4, 4, 1))
    graph = Subgraph(tensors=(image, smaller), operators=(Operator(options=pool),))
    yield "pool", "tflite", File(codes=(tflite.BuiltinOperator.MAX_POOL_2D,), subgraphs=(graph,)).encode()


def _matrix(weights: Array) -> bytes:
    tensors = (Tensor((1, 6)), Tensor((1, 3)), Tensor((3, 6), buffer=1, kind=FLOAT32))
    graph = Subgraph(tensors=tensors, operators=(Operator(inputs=(0, 2)),))
    return File(
        codes=(tflite.BuiltinOperator.FULLY_CONNECTED,),
        buffers=(b"", weights.T.tobytes()),
        subgraphs=(graph,),
    ).encode()


def _foreign(zoo: Path) -> Iterator[tuple[str, RuntimeKind, bytes]]:
    kinds: tuple[RuntimeKind, ...] = ("onnx", "tflite")
    for kind in kinds:
        for path in sorted(zoo.glob(f"{kind}/*/model.{kind}")):
            if path.parent.name not in LEFT_OUT and path.stat().st_size <= MOST_BYTES:
                yield path.parent.name, kind, path.read_bytes()


def _answered(name: str, kind: RuntimeKind, data: bytes) -> Base:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model.{kind}"
        path.write_bytes(data)
        runtime = load(kind, path)
        inputs = made_up(runtime.inputs, length=1)
        outputs = runtime.run(inputs)
        runtime.close()
    return Base(name, kind, data, inputs, outputs)

"""Real models, learnt here in a second, with examples whose answers scikit-learn and numpy computed.

They are what a fresh clone has of real models: both engines, dense layers and a convolution, on handwritten
digits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from support import onnx_models, tflite_models
from support.tflite_models import Operator, Subgraph, Tensor
from zoo.digits import data

Floats = NDArray[np.float32]
Layers = list[tuple[Floats, Floats]]
WHITE = 16.0  # the largest value of a pixel
EXAMPLES = 3
MODELS = ("dense.onnx", "convolution.onnx", "dense.tflite")


@dataclass(frozen=True)
class RealModel:
    """A model file, and rows with the answers that are expected of it."""

    content: bytes
    inputs: Sequence[Floats]
    answers: Sequence[Floats]

    def lay_out(self, folder: Path, suffix: str) -> Path:
        """Write the file and its examples, by position, into a new folder."""
        folder.mkdir()
        (folder / f"model{suffix}").write_bytes(self.content)
        for number, (x, y) in enumerate(zip(self.inputs, self.answers, strict=True)):
            np.savez(folder / f"example-{number}.npz", in_0=x, out_0=y)
        return folder


@cache
def real_model(name: str) -> RealModel:
    """Return one of ``MODELS``."""
    match name:
        case "dense.onnx":
            return _dense(_dense_onnx)
        case "dense.tflite":
            return _dense(_dense_tflite)
        case _:
            return _convolution()


@cache
def _network() -> MLPClassifier:
    images, digits = _images("train"), data.answers("train")
    return MLPClassifier((24,), alpha=0.1, max_iter=2000, tol=1e-3, random_state=7).fit(images, digits)


def _images(split: data.Split) -> Floats:
    return np.asarray(data.rows(split)["image"] / WHITE, np.float32)


def _layers() -> Layers:
    network = _network()
    pairs = zip(network.coefs_, network.intercepts_, strict=True)
    return [(np.asarray(w, np.float32), np.asarray(b, np.float32)) for w, b in pairs]


def _dense(make: Callable[[Layers], bytes]) -> RealModel:
    rows = [row[None] for row in _images("live")[:EXAMPLES]]
    answers = [np.asarray(_network().predict_proba(row), np.float32) for row in rows]
    return RealModel(make(_layers()), rows, answers)


def _dense_onnx(layers: Layers) -> bytes:
    (w1, b1), (w2, b2) = layers
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    return _onnx(nodes, {"w1": w1, "b1": b1, "w2": w2, "b2": b2}, (None, 64))


def _convolution() -> RealModel:
    """Four fixed 3 x 3 kernels, their largest answers in 2 x 2 pixels, and a regression that was learnt."""
    kernels = np.random.default_rng(5).normal(size=(4, 1, 3, 3)).astype(np.float32)
    learnt = LogisticRegression(max_iter=500).fit(_features(_images("train"), kernels), data.answers("train"))
    rows = [row.reshape(1, 1, 8, 8) for row in _images("live")[:EXAMPLES]]
    answers = [
        np.asarray(learnt.predict_proba(_features(row.reshape(1, 64), kernels)), np.float32) for row in rows
    ]
    nodes = [
        helper.make_node("Conv", ["x", "kernels"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    weights = {
        "kernels": kernels,
        "w": np.asarray(learnt.coef_.T, np.float32),
        "b": np.asarray(learnt.intercept_, np.float32),
    }
    return RealModel(_onnx(nodes, weights, (None, 1, 8, 8)), rows, answers)


def _features(images: Floats, kernels: Floats) -> Floats:
    """Return what the convolution makes of images, by numpy alone."""
    pieces = np.lib.stride_tricks.sliding_window_view(images.reshape(-1, 8, 8), (3, 3), axis=(1, 2))
    answers = np.maximum(np.einsum("nyxij,kij->nkyx", pieces, kernels[:, 0]), 0)
    pooled = answers.reshape(len(images), 4, 3, 2, 3, 2).max(axis=(3, 5))
    return np.asarray(pooled.reshape(len(images), -1), np.float32)


def _onnx(nodes: Sequence[NodeProto], weights: Mapping[str, Floats], shape: tuple[int | None, ...]) -> bytes:
    body = helper.make_graph(
        nodes,
        "real",
        [onnx_models.value("x", shape)],
        [onnx_models.value("y", (None, 10))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return bytes(onnx_models.model(body).SerializeToString())


def _dense_tflite(layers: Layers) -> bytes:
    (w1, b1), (w2, b2) = layers
    held = [np.ascontiguousarray(w1.T), b1, np.ascontiguousarray(w2.T), b2]
    tensors = [
        Tensor((1, 64)),
        *(Tensor(array.shape, buffer=number) for number, array in enumerate(held, 1)),
        Tensor((1, len(b1))),
        Tensor((1, 10)),
        Tensor((1, 10)),
    ]
    graph = Subgraph(
        tensors=tuple(tensors),
        operators=(
            Operator((0, 1, 2), (5,), 0, _relu),
            Operator((5, 3, 4), (6,), 0),
            Operator((6,), (7,), 1, _softmax),
        ),
        inputs=(0,),
        outputs=(7,),
    )
    codes = (tflite.BuiltinOperator.FULLY_CONNECTED, tflite.BuiltinOperator.SOFTMAX)
    buffers = (b"", *(array.tobytes() for array in held))
    return tflite_models.File(codes=codes, buffers=buffers, subgraphs=(graph,)).encode()


def _relu(builder: flatbuffers.Builder) -> tuple[int, int]:
    tflite.FullyConnectedOptionsStart(builder)
    tflite.FullyConnectedOptionsAddFusedActivationFunction(builder, tflite.ActivationFunctionType.RELU)
    return tflite.BuiltinOptions.FullyConnectedOptions, tflite.FullyConnectedOptionsEnd(builder)


def _softmax(builder: flatbuffers.Builder) -> tuple[int, int]:
    tflite.SoftmaxOptionsStart(builder)
    tflite.SoftmaxOptionsAddBeta(builder, 1.0)
    return tflite.BuiltinOptions.SoftmaxOptions, tflite.SoftmaxOptionsEnd(builder)

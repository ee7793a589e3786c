"""Makes the source folders of ``digits`` beside this file: ``python models/zoo/digits/recipe.py``. Seconds.

1.0.0 is a logistic regression, 1.1.0 a network with one hidden layer, and 1.2.0 the same network with its
weights rounded to two bits: what a well-meant attempt to save memory may look like. It misses the threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from muster_models.publish import read_source
from muster_models.publish.evaluate import evaluate, measure
from muster_models.publish.source import digest_arrays
from muster_models.runtime import load
from zoo.digits import data

FOLDER = Path(__file__).parent
SEED = 7
HIDDEN = 48
WHITE = 16.0  # the largest value of a pixel
STEP = 0.8  # of a two-bit weight, in standard deviations of its layer
ACCURACY = 0.95
# The pixels that tell the digits apart best: largest F statistic in the training split, neighbours left out.
PIXELS = (21, 26, 28, 33, 36, 42, 46, 60)
Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One layer: weights of shape (inputs, outputs), or their two-bit codes and the step between them."""

    weights: Weights
    bias: Weights
    step: float | None = None


def main() -> None:
    """Train, write three source folders, and print what each version reaches."""
    images, digits = data.rows("train")["image"], data.answers("train")
    scaled = images / WHITE
    simple = LogisticRegression(C=1.0, max_iter=2_000).fit(scaled, digits)
    network = MLPClassifier((HIDDEN,), alpha=0.1, max_iter=1_500, random_state=SEED).fit(scaled, digits)
    layers = [_layer(w, b) for w, b in zip(network.coefs_, network.intercepts_, strict=True)]
    make("1.0.0", "Logistic regression.", [_layer(simple.coef_.T, simple.intercept_)])
    make("1.1.0", f"A network with {HIDDEN} hidden units.", layers)
    make(
        "1.2.0",
        "The network of 1.1.0 with its weights rounded to two bits.",
        [_coarse(layer) for layer in layers],
    )


def make(version: str, description: str, layers: Sequence[Layer]) -> None:
    """Write the source folder of one version and print its figures."""
    folder = FOLDER / version
    folder.mkdir(exist_ok=True)
    onnx.save(_model(layers), folder / "model.onnx")
    np.savez_compressed(
        folder / "evaluation.npz",
        allow_pickle=False,
        **data.rows("evaluation"),
        labels=data.answers("evaluation"),
    )
    train: dict[str, NDArray[np.generic]] = {**data.rows("train"), "answers": data.answers("train")}
    (folder / "model.toml").write_text(
        _declaration(version, description, digest_arrays(train), len(train["image"]))
    )
    source = read_source(folder)
    runtime = load("onnx", source.model_path)
    evaluation = evaluate(runtime, source)
    figures = measure(source.declared.prediction, evaluation.outputs, source.answers)
    size = source.model_path.stat().st_size
    print(f"digits@{version}", figures, f"{size} bytes", f"{evaluation.latency_ms * 1000:.0f} us a row")


def _layer(weights: NDArray[np.float64], bias: NDArray[np.float64]) -> Layer:
    return Layer(weights.astype(np.float32), bias.astype(np.float32))


def _coarse(layer: Layer) -> Layer:
    """Round weights to the four codes -2, -1, 0, 1; a code stands for the middle of its step."""
    step = float(layer.weights.std()) * STEP
    codes = np.clip(np.floor(layer.weights / step), -2, 1).astype(np.float32)
    return Layer(codes, layer.bias, step)


def _model(layers: Sequence[Layer]) -> onnx.ModelProto:
    nodes = [helper.make_node("Div", ["image", "white"], ["hidden0"])]
    constants = [numpy_helper.from_array(np.array(WHITE, np.float32), "white")]
    for index, layer in enumerate(layers):
        nodes += _gemm(layer, index, constants)
        if index < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [f"sum{index}"], [f"hidden{index + 1}"]))
    nodes.append(helper.make_node("Softmax", [f"sum{len(layers) - 1}"], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 10])],
        constants,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="muster"
    )


def _gemm(layer: Layer, index: int, constants: list[TensorProto]) -> list[onnx.NodeProto]:
    """Return the nodes of one layer and add its weights to ``constants``."""
    weights, bias, total = f"weights{index}", f"bias{index}", f"sum{index}"
    constants.append(numpy_helper.from_array(layer.bias, bias))
    gemm = helper.make_node("Gemm", [f"hidden{index}", weights, bias], [total])
    if layer.step is None:
        constants.append(numpy_helper.from_array(layer.weights, weights))
        return [gemm]
    # Half a step up, because a code stands for the middle of its step: (2 code + 1) times half of it.
    constants.append(numpy_helper.from_array((2 * layer.weights + 1).astype(np.int8), f"codes{index}"))
    constants.append(numpy_helper.from_array(np.array(layer.step / 2, np.float32), f"step{index}"))
    return [helper.make_node("DequantizeLinear", [f"codes{index}", f"step{index}"], [weights]), gemm]


def _declaration(version: str, description: str, digest: str, rows: int) -> str:
    summaries = "".join(
        f'\n[[features]]\nname = "{name}"\ninput = "image"\nsummary = "{name}"\n'
        for name in ("brightness", "contrast", "sharpness", "ink")
    )
    pixels = "".join(
        f'\n[[features]]\nname = "pixel {pixel // 8},{pixel % 8}"\ninput = "image"\ncolumn = {pixel}\n'
        for pixel in PIXELS
    )
    return f"""# Written by recipe.py.
model = "digits"
version = "{version}"
description = "{description} Reads one handwritten digit of 8 by 8 pixels."
runtime = "onnx"
file = "model.onnx"

[prediction]
type = "classes"
output = "probabilities"
labels = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

[budget]
memory_bytes = 134217728
load_seconds = 20.0
latency_ms = 50.0
output_bytes = 1048576

[[thresholds]]
metric = "accuracy"
minimum = {ACCURACY}

[[datasets]]
name = "digits train"
role = "train"
source = "{data.SOURCE}"
licence = "{data.LICENCE}"
digest = "{digest}"
rows = {rows}

[[datasets]]
name = "digits evaluation"
role = "evaluation"
source = "{data.SOURCE}"
licence = "{data.LICENCE}"
{summaries}{pixels}"""


if __name__ == "__main__":
    main()

"""Source folders of versions of ``digits`` that are as good as each other, or worse by a known share."""

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from story.fleet import ZOO

MODEL = "digits"
ORIGIN = ZOO / "digits/1.1.0"
CLASSES = 10
FALLBACK = 0.1  # of each digit: a stopped model knows nothing
CHANGES = {
    "minimum = 0.95": "minimum = 0.85",
    # How fast a model loads and answers on a machine that does much else is not what is tested with these.
    "load_seconds = 20.0": "load_seconds = 120.0",
    "latency_ms = 50.0": "latency_ms = 5000.0",
    "\n[prediction]": f"fallback = {FALLBACK}\n\n[prediction]",
}


def write_version(folder: Path, version: str, *, sharpness: float = 1.0, slips_on: int | None = None) -> Path:
    """Write a source folder and return it.

    Args:
        folder: In which it is made.
        version: Its number.
        sharpness: What the scores are multiplied by: their order stays, and so does what is right.
        slips_on: Answer the next digit, as surely as the right one, where the sum of the pixels is divisible
            by this: no confidence and no share of a class tells of that.
    """
    source = folder / version
    shutil.copytree(ORIGIN, source)
    text = (source / "model.toml").read_text()
    for old, new in {'version = "1.1.0"': f'version = "{version}"', **CHANGES}.items():
        assert old in text
        text = text.replace(old, new)
    (source / "model.toml").write_text(text)
    model = onnx.load(source / "model.onnx")
    _sharpen(model.graph, sharpness)
    if slips_on is not None:
        _slip(model.graph, slips_on)
    onnx.save(model, source / "model.onnx")
    return source


def _sharpen(graph: onnx.GraphProto, sharpness: float) -> None:
    softmax = graph.node.pop()
    assert softmax.op_type == "Softmax"
    multiply = helper.make_node("Mul", [softmax.input[0], "sharpness"], ["sharp"])
    softmax.input[0] = "sharp"
    graph.node.extend([multiply, softmax])
    _hold(graph, sharpness=np.float32(sharpness))


def _slip(graph: onnx.GraphProto, slips_on: int) -> None:
    answer = graph.node[-1].output[0]
    graph.node[-1].output[0] = "right"
    graph.node.extend(
        [
            helper.make_node("ReduceSum", ["image", "pixels"], ["ink"], keepdims=1),
            helper.make_node("Mod", ["ink", "step"], ["rest"], fmod=1),
            helper.make_node("Equal", ["rest", "nothing"], ["slips"]),
            helper.make_node("Gather", ["right", "one before"], ["next"], axis=1),
            helper.make_node("Where", ["slips", "next", "right"], [answer]),
        ]
    )
    _hold(
        graph,
        pixels=np.array([1], np.int64),
        step=np.float32(slips_on),
        nothing=np.float32(0),
        **{"one before": np.roll(np.arange(CLASSES), 1)},
    )


def _hold(
    graph: onnx.GraphProto, **constants: np.generic | np.ndarray[tuple[int, ...], np.dtype[np.generic]]
) -> None:
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(one), name) for name, one in constants.items()
    )

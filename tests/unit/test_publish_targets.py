"""Which engines can load a model file: what files ask for, and what versions of engines take."""

import importlib.metadata
import itertools
from pathlib import Path

import onnx
import pytest
from onnx import helper

from muster_models.errors import PredictionError
from muster_models.publish.targets import NEWEST_KNOWN, ONNXRUNTIME, Needs, find_lack, needs_of
from muster_models.runtime import load

ZOO = Path(__file__).parents[2] / "models/zoo"


def model(path: Path, *, opset: int = 15, ml_opset: int | None = None, ir: int = 8) -> Path:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [result])
    imports = [helper.make_opsetid("", opset)]
    imports += [] if ml_opset is None else [helper.make_opsetid("ai.onnx.ml", ml_opset)]
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=ir).SerializeToString())
    return path


def test_a_file_says_what_it_asks_for(tmp_path: Path) -> None:
    path = model(tmp_path / "model.onnx", opset=21, ml_opset=3, ir=10)

    assert needs_of("onnx", path) == Needs(opset=21, ml_opset=3, ir=10)
    assert needs_of("tflite", ZOO / "weather/1.0.0/model.tflite") == Needs(runtime=(1, 6, 0))


def test_damage_in_a_part_that_the_gate_does_not_read_says_nothing(tmp_path: Path) -> None:
    whole = (ZOO / "weather/1.0.0/model.tflite").read_bytes()
    name = whole.index(b"min_runtime_version")
    assert needs_of("tflite", _written(tmp_path, whole)) == Needs(runtime=(1, 6, 0))
    damaged = whole[: name - 4] + b"\xff\xff\xff\x7f" + whole[name:]  # the length of its name

    assert needs_of("tflite", _written(tmp_path, damaged)) == Needs()


def _written(folder: Path, data: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("engine", "needs", "lack"),
    [
        ("onnxruntime 1.17.3", Needs(opset=20, ml_opset=4, ir=9), None),
        ("onnxruntime 1.17.3", Needs(opset=21), "operator set 21, it takes 20 at most"),
        ("onnxruntime 1.20.0", Needs(opset=21, ir=11), "IR version 11, it takes 10 at most"),
        (
            "onnxruntime 1.2.0",
            Needs(opset=11, ml_opset=3),
            "operator set of ai.onnx.ml 3, it takes 2 at most",
        ),
        ("onnxruntime 1.24.1; CPU: no such device", Needs(opset=26), "operator set 26, it takes 25 at most"),
        ("onnxruntime 1.99.0", Needs(opset=99), None),
        ("onnxruntime 2.0.0", Needs(opset=99), None),
        ("onnxruntime from source", Needs(opset=99), None),
        ("tflite-runtime 2.14.0", Needs(runtime=(2, 14, 0)), None),
        ("tflite-runtime 2.9.1", Needs(runtime=(2, 14, 0)), "asks for TensorFlow Lite 2.14.0"),
        ("ai-edge-litert 1.0.1", Needs(runtime=(2, 14, 0)), None),
        ("another 1.0.0", Needs(opset=99), None),
    ],
)
def test_a_version_of_an_engine_takes_what_its_table_says(
    engine: str, needs: Needs, lack: str | None
) -> None:
    found = find_lack(needs, engine)

    assert found is None if lack is None else lack in (found or "")


def test_the_table_grows_and_ends_with_the_newest_version_that_was_measured() -> None:
    for before, after in itertools.pairwise(ONNXRUNTIME):
        assert before[0] < after[0]
        assert all(old <= new for old, new in zip(before, after, strict=True))
    assert ONNXRUNTIME[-1][0] <= NEWEST_KNOWN


@pytest.mark.parametrize("asked", ["opset", "ml_opset", "ir"])
def test_the_table_is_that_of_the_engine_that_is_installed_here(tmp_path: Path, asked: str) -> None:
    engine = f"onnxruntime {importlib.metadata.version('onnxruntime')}"

    def loads(version: int) -> bool:
        try:
            load("onnx", model(tmp_path / "model.onnx", **{asked: version})).close()
        except PredictionError:
            return False
        return True

    for version in range(3, 33):
        path = model(tmp_path / "model.onnx", **{asked: version})
        if asked == "opset" and version < 7:  # older than what the engine still takes
            continue

        assert (find_lack(needs_of("onnx", path), engine) is None) == loads(version), version

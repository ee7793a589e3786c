"""The ONNX engine behind the protocol."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from muster_models.errors import FitError, PredictionError, Reason
from muster_models.manifest import TensorSpec
from muster_models.runtime import Runtime, load
from muster_models.runtime.load import import_refusal, installed
from support.fixtures import fixture_zoo
from support.onnx_models import graph, linear, model, simple, value

WEIGHTS = np.eye(3, 2, dtype=np.float32)
node = helper.make_node


def loaded(data: bytes, folder: Path) -> Runtime:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return load("onnx", path)


def refusal(data: bytes, folder: Path) -> PredictionError:
    with pytest.raises(PredictionError) as caught:
        loaded(data, folder)
    return caught.value


def test_a_model_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    runtime = loaded(linear(WEIGHTS), tmp_path)

    assert runtime.inputs == (TensorSpec("x", "float32", (None, 3)),)
    assert runtime.outputs == (TensorSpec("y", "float32", (None, 2)),)


def test_a_model_answers_any_number_of_rows(tmp_path: Path) -> None:
    runtime = loaded(linear(WEIGHTS), tmp_path)

    answers = [runtime.run({"x": np.zeros((rows, 3), np.float32)})["y"] for rows in (0, 1, 5)]

    assert [answer.tolist() for answer in answers] == [[[0.5, 0.5]] * rows for rows in (0, 1, 5)]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("x", np.zeros((1, 4), np.float32), r"expected float32\[None, 3\], got float32\[1, 4\]"),
        ("x", np.zeros((1, 3), np.float64), r"expected float32\[None, 3\], got float64\[1, 3\]"),
        ("x", np.zeros(3, np.float32), r"got float32\[3\]"),
        ("x", np.array([["a", "b", "c"]]), r"got str\[1, 3\]"),
        ("z", np.zeros((1, 3), np.float32), r"expected inputs \['x'\], got \['z'\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_before_the_engine_sees_them(
    name: str, array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", message: str, tmp_path: Path
) -> None:
    runtime = loaded(linear(WEIGHTS), tmp_path)

    with pytest.raises(PredictionError, match=message) as caught:
        runtime.run({name: array})

    assert caught.value.reason is Reason.WRONG_SHAPE


@pytest.mark.parametrize("data", [b"", b"<html>", linear(WEIGHTS)[:100], simple(node("Relux", ["x"], ["y"]))])
def test_a_file_that_is_no_model_is_refused(data: bytes, tmp_path: Path) -> None:
    assert refusal(data, tmp_path).reason is Reason.LOAD_FAILED


def test_a_failure_while_it_runs_is_a_crash_with_the_engine_s_words(tmp_path: Path) -> None:
    gather = simple(
        node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        node("Gather", ["w", "i"], ["y"]),
        constants=[numpy_helper.from_array(np.zeros(2, np.float32), "w")],
    )
    runtime = loaded(gather, tmp_path)

    with pytest.raises(PredictionError, match=r"onnxruntime: .*indices") as caught:
        runtime.run({"x": np.array([9.0], np.float32)})

    assert caught.value.reason is Reason.CRASHED


def test_the_same_model_answers_many_threads(tmp_path: Path) -> None:
    runtime = loaded(linear(WEIGHTS), tmp_path)
    rows = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
    expected = runtime.run({"x": rows})["y"]
    answers: list[bool] = []

    def ask() -> None:
        answers.extend(np.array_equal(runtime.run({"x": rows})["y"], expected) for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert answers == [True] * 200


def test_a_sequence_of_tensors_of_different_shapes_is_refused(tmp_path: Path) -> None:
    parts = node("SequenceConstruct", ["x", "z"], ["y"])
    wider = node("Concat", ["x", "x"], ["z"], axis=0)
    answer = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    body = helper.make_graph([wider, parts], "g", [value("x")], [answer])
    runtime = loaded(model(body).SerializeToString(), tmp_path)

    with pytest.raises(PredictionError, match="of different shapes") as caught:
        runtime.run({"x": np.zeros(1, np.float32)})

    assert caught.value.reason is Reason.WRONG_SHAPE


def test_a_constant_that_unfolds_is_not_unfolded_at_loading(tmp_path: Path) -> None:
    """Without the limit, 64 MB of ones would be folded into the session."""
    shape = numpy_helper.from_array(np.array([2**24], np.int64), "s")
    fill = node("ConstantOfShape", ["s"], ["c"])
    total = node("ReduceSum", ["c"], ["r"], keepdims=0)

    runtime = loaded(simple(fill, total, node("Add", ["x", "r"], ["y"]), constants=[shape]), tmp_path)

    assert runtime.run({"x": np.ones(1, np.float32)})["y"].tolist() == [1.0]


def test_outputs_of_the_wrong_size_are_returned_as_they_are(tmp_path: Path) -> None:
    """What a file declares of its outputs is not to be trusted: the preflight looks at what they are."""
    expand = node("Expand", ["x", "s"], ["y"])
    shape = numpy_helper.from_array(np.array([5], np.int64), "s")
    body = helper.make_graph([expand], "g", [value("x")], [value("y", ["n"])], [shape])

    runtime = loaded(model(body).SerializeToString(), tmp_path)

    assert runtime.run({"x": np.ones(1, np.float32)})["y"].shape == (5,)


def test_a_closed_model_may_be_closed_again_and_answers_no_more(tmp_path: Path) -> None:
    runtime = loaded(model(graph([node("Relu", ["x"], ["y"])])).SerializeToString(), tmp_path)
    runtime.close()

    runtime.close()
    with pytest.raises(PredictionError, match="the model was closed"):
        runtime.run({"x": np.zeros(1, np.float32)})


def test_an_engine_that_is_not_installed_is_a_question_of_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "muster_models.runtime.onnx", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(FitError, match="the onnx engine is not installed") as caught:
        loaded(linear(WEIGHTS), tmp_path)

    assert caught.value.reason is Reason.WRONG_RUNTIME


def test_an_engine_that_does_not_load_is_not_said_to_be_missing() -> None:
    refusal = import_refusal("onnx", ImportError("libgomp.so.1: no such file", name="onnxruntime.capi"))

    assert refusal.reason is Reason.WRONG_RUNTIME
    assert str(refusal) == "the onnx engine does not load: libgomp.so.1: no such file"


def test_a_fault_of_muster_itself_is_no_missing_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "muster_models.runtime.onnx", raising=False)
    monkeypatch.delattr("muster_models.runtime.onnx_values.describe")

    with pytest.raises(PredictionError, match="cannot import name 'describe'") as caught:
        loaded(linear(WEIGHTS), tmp_path)

    assert caught.value.reason is Reason.CRASHED
    assert str(caught.value).startswith("Muster itself is damaged here: ")


def test_installed_engines_are_named_with_their_versions() -> None:
    assert installed().keys() == {"onnx", "tflite"}
    assert installed()["onnx"].startswith("onnxruntime 1.")


def cases() -> list[Path]:
    return sorted(path.parent for path in fixture_zoo().glob("onnx/*/case.npz"))


def test_real_models_of_others_give_their_recorded_answers() -> None:
    for folder in cases():
        held = np.load(folder / "case.npz")
        runtime = load("onnx", next(folder.glob("model.*")))
        inputs = {name.removeprefix("in__"): held[name] for name in held.files if name.startswith("in__")}
        outputs = runtime.run(inputs)

        assert len(outputs) > 0
        for name in held.files:
            if name.startswith("out__"):
                answer = outputs[name.removeprefix("out__")].astype(np.float64)
                np.testing.assert_allclose(answer, held[name], rtol=1e-3, atol=1e-4)

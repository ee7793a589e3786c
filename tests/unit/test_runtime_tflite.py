"""The TFLite engine behind the protocol."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tflite

from muster_models.errors import PredictionError, Reason
from muster_models.manifest import TensorSpec
from muster_models.runtime import Runtime, load
from support.fixtures import ROOT, fixture_zoo
from support.tflite_models import File, Operator, Subgraph, Tensor

WEATHER = ROOT / "models/zoo/weather/1.1.0/model.tflite"


def loaded(data: bytes, folder: Path) -> Runtime:
    path = folder / "model.tflite"
    path.write_bytes(data)
    return load("tflite", path)


def test_a_model_says_what_it_takes_and_gives_by_the_names_of_its_signature() -> None:
    runtime = load("tflite", WEATHER)

    assert runtime.inputs == (TensorSpec("readings", "float32", (None, 8)),)
    assert runtime.outputs == (TensorSpec("temperature", "float32", (None, 1)),)


def test_a_model_without_a_signature_uses_the_names_of_its_tensors(tmp_path: Path) -> None:
    runtime = loaded(File().encode(), tmp_path)

    answer = runtime.run({"tensor 0": np.zeros(1, np.float32)})

    assert {name: array.tolist() for name, array in answer.items()} == {"tensor 1": [1.0]}


def test_a_model_answers_any_number_of_rows_in_any_order_of_calls() -> None:
    runtime = load("tflite", WEATHER)
    rows = np.random.default_rng(1).normal(10, 5, size=(7, 8)).astype(np.float32)
    together = runtime.run({"readings": rows})["temperature"]

    alone = [runtime.run({"readings": rows[index : index + 1]})["temperature"] for index in range(7)]

    np.testing.assert_allclose(
        np.concatenate(alone).astype(np.float64), together.astype(np.float64), rtol=1e-5
    )


def test_an_answer_is_a_copy_that_the_next_call_does_not_change() -> None:
    runtime = load("tflite", WEATHER)
    first = runtime.run({"readings": np.zeros((1, 8), np.float32)})["temperature"]
    held = first.copy()

    runtime.run({"readings": np.full((1, 8), 30, np.float32)})

    assert np.array_equal(first, held)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("readings", np.zeros((1, 7), np.float32), r"expected float32\[None, 8\], got float32\[1, 7\]"),
        ("readings", np.zeros((1, 8), np.int32), r"got int32\[1, 8\]"),
        ("x", np.zeros((1, 8), np.float32), r"expected inputs \['readings'\], got \['x'\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_before_the_engine_sees_them(
    name: str, array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", message: str
) -> None:
    with pytest.raises(PredictionError, match=message) as caught:
        load("tflite", WEATHER).run({name: array})

    assert caught.value.reason is Reason.WRONG_SHAPE


@pytest.mark.parametrize("data", [b"", b"x", b"<html>", WEATHER.read_bytes()[:1000]])
def test_a_file_that_is_no_model_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match=r"TFLite refuses model\.tflite") as caught:
        loaded(data, tmp_path)

    assert caught.value.reason is Reason.LOAD_FAILED


def division(kind: int) -> File:
    """Return a file that divides its input by a constant zero."""
    tensors = (Tensor(kind=kind), Tensor(kind=kind), Tensor(kind=kind, buffer=1))
    subgraph = Subgraph(tensors=tensors, operators=(Operator(inputs=(0, 2)),))
    return File(codes=(tflite.BuiltinOperator.FLOOR_DIV,), buffers=(b"", bytes(4)), subgraphs=(subgraph,))


def test_a_failure_while_it_runs_is_a_crash_with_the_engine_s_words(tmp_path: Path) -> None:
    runtime = loaded(division(tflite.TensorType.INT32).encode(), tmp_path)

    with pytest.raises(PredictionError, match=r"TFLite: .*[Dd]ivision by 0") as caught:
        runtime.run({"tensor 0": np.ones(1, np.int32)})

    assert caught.value.reason is Reason.CRASHED


def test_a_model_answers_again_after_a_call_that_failed(tmp_path: Path) -> None:
    file = division(tflite.TensorType.INT32)
    by_input = replace(file.subgraphs[0], inputs=(0, 2), tensors=(Tensor(kind=tflite.TensorType.INT32),) * 3)
    runtime = loaded(replace(file, subgraphs=(by_input,)).encode(), tmp_path)
    one, zero = np.ones(1, np.int32), np.zeros(1, np.int32)
    with pytest.raises(PredictionError):
        runtime.run({"tensor 0": one, "tensor 2": zero})

    assert runtime.run({"tensor 0": 6 * one, "tensor 2": 2 * one})["tensor 1"].tolist() == [3]


def test_threads_take_turns() -> None:
    runtime = load("tflite", WEATHER)
    sizes = {size: np.full((size, 8), 5, np.float32) for size in (1, 2, 3, 4)}
    expected = {size: runtime.run({"readings": rows})["temperature"] for size, rows in sizes.items()}
    right: list[bool] = []

    def ask(size: int) -> None:
        for _ in range(30):
            answer = runtime.run({"readings": sizes[size]})["temperature"]
            right.append(answer.shape == (size, 1) and np.allclose(answer, expected[size]))

    threads = [threading.Thread(target=ask, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert right == [True] * 120


def test_a_closed_model_may_be_closed_again_and_answers_no_more() -> None:
    runtime = load("tflite", WEATHER)
    runtime.close()

    runtime.close()
    with pytest.raises(PredictionError, match="the model was closed"):
        runtime.run({"readings": np.zeros((1, 8), np.float32)})


def test_strings_go_in_and_come_out_as_strings() -> None:
    runtime = load("tflite", fixture_zoo() / "tflite/litert_gather_string/model.tflite")
    words = np.array([f"wörd{number}" for number in range(10)])

    answer = runtime.run({"input": words, "indices": np.array([9, 0, 3])})["output"]

    assert answer.tolist() == ["wörd9", "wörd0", "wörd3"]


def test_real_models_of_others_give_their_recorded_answers() -> None:
    for folder in sorted(path.parent for path in fixture_zoo().glob("tflite/*/case.npz")):
        held = np.load(folder / "case.npz", allow_pickle=False)
        runtime = load("tflite", folder / "model.tflite")
        if any(spec.dtype == "str" for spec in runtime.inputs):
            continue
        inputs = {spec.name: held[f"in_{index}"] for index, spec in enumerate(runtime.inputs)}
        outputs = list(runtime.run(inputs).values())

        assert len(outputs) > 0
        for index, output in enumerate(outputs):
            # Recorded integers may differ by the rounding of a step.
            slack = 2 if output.dtype.kind == "i" else 1e-4
            np.testing.assert_allclose(output.astype(np.float64), held[f"out_{index}"], rtol=1e-3, atol=slack)

"""Types and shapes of TFLite, real numbers for quantised tensors, and calls that break a pattern."""

from pathlib import Path

import numpy as np
import pytest
import tflite
from numpy.typing import NDArray

from muster_models.errors import FitError, PredictionError, Reason
from muster_models.manifest import Quantisation
from muster_models.runtime import Runtime, load
from support.fixtures import ROOT
from support.tflite_models import File, Operator, Subgraph, Tensor

WEATHER = ROOT / "models/zoo/weather/1.1.0/model.tflite"
ROW = np.zeros((1, 8), np.float32)
Array = NDArray[np.generic]


def reshape(kind: str, *shape: int, scales: tuple[float, ...] = (), zeros: tuple[int, ...] = ()) -> File:
    """Return a file that answers what it is asked, of one type and shape."""
    told = np.array(shape, np.int32)
    same = Tensor(shape, kind=getattr(tflite.TensorType, kind), scales=scales, zeros=zeros)
    sizes = Tensor((len(shape),), kind=tflite.TensorType.INT32, buffer=1)
    subgraph = Subgraph(tensors=(same, same, sizes), operators=(Operator(inputs=(0, 2)),))
    return File(codes=(tflite.BuiltinOperator.RESHAPE,), buffers=(b"", told.tobytes()), subgraphs=(subgraph,))


def loaded(file: File, folder: Path) -> Runtime:
    path = folder / "model.tflite"
    path.write_bytes(file.encode())
    return load("tflite", path)


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("FLOAT32", np.array([0.5, -2], np.float32)),
        ("FLOAT64", np.array([0.5, -2], np.float64)),
        ("FLOAT16", np.array([0.5, -2], np.float16)),
        ("BOOL", np.array([True, False])),
        ("INT8", np.array([-128, 127], np.int8)),
        ("UINT8", np.array([0, 255], np.uint8)),
        ("INT16", np.array([-5, 5], np.int16)),
        ("INT64", np.array([-(2**63), 2**63 - 1])),
        ("STRING", np.array(["wörd", ""], dtype=object)),
        ("STRING", np.array(["wörd", ""])),
    ],
)
def test_a_type_goes_in_and_comes_out_unchanged(kind: str, array: Array, tmp_path: Path) -> None:
    runtime = loaded(reshape(kind, 2), tmp_path)

    answers = [runtime.run({"tensor 0": array})["tensor 1"] for _ in range(3)]

    assert [answer.tolist() for answer in answers] == [array.tolist()] * 3
    assert answers[0].dtype == (object if kind == "STRING" else array.dtype)


def test_an_answer_without_axes_is_an_array(tmp_path: Path) -> None:
    file = File(codes=(tflite.BuiltinOperator.RESHAPE,))  # told no shape, it takes all axes away
    runtime = loaded(file, tmp_path)

    answers = [runtime.run({"tensor 0": np.array([3], np.float32)})["tensor 1"] for _ in range(3)]

    assert {type(answer) for answer in answers} == {np.ndarray}
    assert [(answer.shape, answer.tolist()) for answer in answers] == [((), 3.0)] * 3


def test_bfloat16_is_told_apart_and_refused(tmp_path: Path) -> None:
    with pytest.raises(FitError, match=r"bfloat16.*inputs and outputs may be float16") as caught:
        loaded(reshape("BFLOAT16", 2), tmp_path)

    assert caught.value.reason is Reason.WRONG_RUNTIME


def test_no_row_is_answered_by_no_row() -> None:
    runtime = load("tflite", WEATHER)

    shapes = [
        runtime.run({"readings": np.zeros((rows, 8), np.float32)})["temperature"].shape for rows in (1, 0, 2)
    ]

    assert shapes == [(1, 1), (0, 1), (2, 1)]


def test_a_quantised_tensor_takes_real_numbers_or_integers(tmp_path: Path) -> None:
    runtime = loaded(reshape("INT8", 3, scales=(0.5,), zeros=(-10,)), tmp_path)

    integers = np.array([-10, -9, 127], np.int8)
    asked: list[Array] = [integers, np.array([0, 0.5, 1000], np.float32), np.array([0, 0.5, 1000]), integers]
    answers = [runtime.run({"tensor 0": array})["tensor 1"].tolist() for array in asked]

    assert answers == [integers.tolist()] * 4
    assert runtime.inputs[0].quantisation == Quantisation((0.5,), (-10,))
    assert runtime.outputs[0].quantisation == Quantisation((0.5,), (-10,))


def test_a_real_number_that_no_integer_stands_for_is_refused(tmp_path: Path) -> None:
    runtime = loaded(reshape("INT8", 1, scales=(0.5,), zeros=(0,)), tmp_path)

    with pytest.raises(PredictionError, match="NaN has no int8 form") as caught:
        runtime.run({"tensor 0": np.array([np.nan], np.float32)})

    assert caught.value.reason is Reason.NOT_FINITE


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_steps_of_no_sensible_size_are_no_quantisation(scale: float, tmp_path: Path) -> None:
    runtime = loaded(reshape("INT32", 1, scales=(scale,), zeros=(0,)), tmp_path)

    assert runtime.inputs[0].quantisation is None


def test_integers_that_stand_for_themselves_take_no_real_numbers(tmp_path: Path) -> None:
    runtime = loaded(reshape("INT8", 1), tmp_path)

    with pytest.raises(PredictionError, match=r"expected int8\[1\], got float32\[1\]"):
        runtime.run({"tensor 0": np.array([1], np.float32)})


WRONG: list[tuple[dict[str, Array], str]] = [
    ({"readings": np.zeros((1, 7), np.float32)}, r"expected float32\[None, 8\], got float32\[1, 7\]"),
    ({"readings": np.zeros((1, 8), np.float64)}, r"got float64\[1, 8\]"),
    ({"readings": np.zeros((8,), np.float32)}, r"got float32\[8\]"),
    ({"x": ROW}, r"expected inputs \['readings'\], got \['x'\]"),
    ({}, r"expected inputs \['readings'\], got \[\]"),
    ({"readings": ROW, "x": ROW}, r"got \['readings', 'x'\]"),
]


@pytest.mark.parametrize(("inputs", "message"), WRONG)
def test_a_call_that_breaks_the_pattern_is_refused_and_the_next_one_is_answered(
    inputs: dict[str, Array], message: str
) -> None:
    """Calls that repeat the one before take a shorter way, which must not let anything else through."""
    runtime = load("tflite", WEATHER)
    before = [runtime.run({"readings": ROW})["temperature"].tolist() for _ in range(2)]

    with pytest.raises(PredictionError, match=message) as caught:
        runtime.run(inputs)

    assert caught.value.reason is Reason.WRONG_SHAPE
    assert [runtime.run({"readings": ROW})["temperature"].tolist() for _ in range(2)] == before


def test_numbers_in_another_byte_order_or_not_in_a_row_are_the_same_numbers() -> None:
    runtime = load("tflite", WEATHER)
    numbers = np.arange(16, dtype=np.float32).reshape(1, 16)[:, ::2]
    plain = np.ascontiguousarray(numbers)

    asked: list[Array] = [plain, numbers, numbers.astype(">f4"), plain, numbers.astype(">f4")]
    answers = [runtime.run({"readings": array})["temperature"].tolist() for array in asked]

    assert answers == [answers[0]] * 5


def test_a_model_that_is_let_go_with_its_answers_in_use_leaves_them_alone() -> None:
    runtime = load("tflite", WEATHER)
    answer = runtime.run({"readings": ROW})["temperature"]
    held = answer.tolist()

    del runtime

    assert answer.tolist() == held

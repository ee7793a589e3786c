"""Types, sequences and maps of ONNX: each as an array in one stated way, or refused with a reason."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, ValueInfoProto, helper

from muster_models.errors import FitError, PredictionError, Reason
from muster_models.manifest import TensorSpec
from muster_models.runtime import Runtime, load
from muster_models.runtime.onnx_values import describe, to_array
from support.onnx_models import model, simple, value, zip_map

node = helper.make_node
SCORES: NDArray[np.float32] = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
NONE: NDArray[np.float32] = np.zeros((0, 3), np.float32)


def loaded(data: bytes, folder: Path, **labels: tuple[str, ...]) -> Runtime:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return load("onnx", path, labels=labels)


@pytest.mark.parametrize(
    ("keys", "labels", "expected"),
    [
        (["medium", "high", "low"], ("low", "medium", "high"), [[3, 1, 2], [6, 4, 5]]),
        (["medium", "high", "low"], (), [[2, 3, 1], [5, 6, 4]]),  # high, low, medium
        ([7, 30, 5], (), [[3, 1, 2], [6, 4, 5]]),
        ([2, 0, 1], ("zero", "one", "two"), [[2, 3, 1], [5, 6, 4]]),
    ],
)
def test_columns_of_maps_stand_in_the_order_of_the_labels_or_of_the_sorted_keys(
    keys: list[int] | list[str], labels: tuple[str, ...], expected: ArrayLike, tmp_path: Path
) -> None:
    runtime = loaded(zip_map(keys), tmp_path, y=labels)

    answer = runtime.run({"x": SCORES})["y"]

    assert answer.tolist() == expected
    assert answer.dtype == np.float32
    assert runtime.outputs == (TensorSpec("y", "float32", (None, len(labels) or None)),)


def test_maps_of_no_row_still_have_their_declared_columns(tmp_path: Path) -> None:
    runtime = loaded(zip_map(["b", "a", "c"]), tmp_path, y=("a", "b", "c"))

    answer = runtime.run({"x": NONE})["y"]

    assert answer.shape == (0, 3)
    assert answer.dtype == np.float32


@pytest.mark.parametrize("labels", [("a", "b", "d"), ("a", "b"), ("a", "b", "c", "d"), ("a", "a", "b")])
def test_keys_that_are_not_the_declared_labels_are_refused(labels: tuple[str, ...], tmp_path: Path) -> None:
    runtime = loaded(zip_map(["b", "a", "c"]), tmp_path, y=labels)

    with pytest.raises(PredictionError, match=r"the keys \['a', 'b', 'c'\], expected the labels") as caught:
        runtime.run({"x": SCORES})

    assert caught.value.reason is Reason.WRONG_SHAPE


def test_as_many_numbers_as_labels_are_expected(tmp_path: Path) -> None:
    runtime = loaded(zip_map([0, 1, 2]), tmp_path, y=("zero", "one"))

    with pytest.raises(PredictionError, match="expected the labels"):
        runtime.run({"x": SCORES})


def test_a_map_alone_is_a_row() -> None:
    one = describe("y", "map(string,tensor(double))", (), labels=("b", "a"))

    answer = to_array(one, {"a": 1.0, "b": 2.0})

    assert one.spec == TensorSpec("y", "float64", (2,))
    assert answer.tolist() == [2.0, 1.0]
    assert answer.dtype == np.float64


@pytest.mark.parametrize(("kind", "dtype"), [("int64", np.int64), ("string", object)])
def test_maps_hold_other_values_than_scores(kind: str, dtype: type) -> None:
    held = describe("y", f"seq(map(int64,tensor({kind})))", ())

    answer = to_array(held, [{2: 1, 1: 2}] if kind == "int64" else [{2: "b", 1: "a"}])

    assert answer.dtype == dtype
    assert answer.tolist() == ([[2, 1]] if kind == "int64" else [["a", "b"]])


def test_maps_with_other_keys_in_another_row_are_refused() -> None:
    held = describe("y", "seq(map(int64,tensor(float)))", ())

    with pytest.raises(PredictionError, match="maps with different keys"):
        to_array(held, [{1: 0.5, 2: 0.5}, {1: 0.5, 3: 0.5}])


def sequence(*names: str) -> bytes:
    """Return a model from two floats ``x`` to ``y``, the sequence of what is named; ``z`` is four floats."""
    nodes = [
        node("Concat", ["x", "x"], ["z"], axis=0),
        node("SequenceConstruct", list(names), ["y"]),
    ]
    answer = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    return bytes(model(helper.make_graph(nodes, "g", [value("x", (2,))], [answer])).SerializeToString())


def test_a_sequence_of_tensors_of_one_shape_is_stacked(tmp_path: Path) -> None:
    answer = loaded(sequence("x", "x", "x"), tmp_path).run({"x": np.array([1, 2], np.float32)})["y"]

    assert answer.tolist() == [[1, 2]] * 3


def test_a_sequence_of_tensors_of_several_shapes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match=r"different shapes \[\(2,\), \(4,\)\]") as caught:
        loaded(sequence("x", "z"), tmp_path).run({"x": np.zeros(2, np.float32)})

    assert caught.value.reason is Reason.WRONG_SHAPE


def unusable(*, takes: ValueInfoProto, gives: ValueInfoProto, op: str = "Identity") -> bytes:
    body = helper.make_graph([node(op, ["x"], ["y"])], "g", [takes], [gives])
    return bytes(model(body).SerializeToString())


FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
OPTIONAL = helper.make_value_info("y", helper.make_optional_type_proto(FLOATS))
OPTIONAL_INPUT = helper.make_value_info("x", helper.make_optional_type_proto(FLOATS))
SEQUENCE_INPUT = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
SEQUENCE = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            unusable(takes=value("x", (2,)), gives=OPTIONAL, op="Optional"),
            r"'y' is optional\(.*may be missing",
        ),
        (unusable(takes=OPTIONAL_INPUT, gives=OPTIONAL), r"'x' is optional\(.*may be missing"),
        (
            unusable(takes=SEQUENCE_INPUT, gives=SEQUENCE),
            "input 'x' is a sequence or a map, expected a tensor",
        ),
        (
            simple(node("Identity", ["x"], ["y"]), kind=TensorProto.BFLOAT16),
            "is bfloat16, which arrays do not",
        ),
    ],
    ids=["optional output", "optional input", "sequence input", "bfloat16"],
)
def test_what_no_array_holds_is_refused_at_loading(data: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(FitError, match=said) as caught:
        loaded(data, tmp_path)

    assert caught.value.reason is Reason.WRONG_RUNTIME


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        (TensorProto.FLOAT16, np.array([0.5, -2], np.float16)),
        (TensorProto.DOUBLE, np.array([0.5, -2], np.float64)),
        (TensorProto.BOOL, np.array([True, False])),
        (TensorProto.INT8, np.array([-128, 127], np.int8)),
        (TensorProto.UINT8, np.array([0, 255], np.uint8)),
        (TensorProto.INT64, np.array([-(2**63), 2**63 - 1])),
        (TensorProto.STRING, np.array(["wörd", ""], dtype=object)),
        (TensorProto.STRING, np.array(["wörd", ""])),
    ],
)
@pytest.mark.parametrize("rows", [0, 2])
def test_a_type_goes_in_and_comes_out_unchanged(
    kind: int, array: "NDArray[np.generic]", rows: int, tmp_path: Path
) -> None:
    runtime = loaded(simple(node("Identity", ["x"], ["y"]), kind=kind, shape=(None,)), tmp_path)

    answer = runtime.run({"x": array[:rows]})["y"]

    assert answer.tolist() == array[:rows].tolist()
    assert answer.dtype == (object if kind == TensorProto.STRING else array.dtype)


def test_an_answer_shares_no_memory_with_the_question(tmp_path: Path) -> None:
    runtime = loaded(simple(node("Identity", ["x"], ["y"]), shape=(2,)), tmp_path)
    asked = np.array([1, 2], np.float32)
    answer = runtime.run({"x": asked})["y"]

    asked[:] = 9

    assert answer.tolist() == [1, 2]


def test_numbers_in_another_byte_order_or_not_in_a_row_are_the_same_numbers(tmp_path: Path) -> None:
    runtime = loaded(simple(node("Identity", ["x"], ["y"]), shape=(None,)), tmp_path)
    numbers = np.arange(6, dtype=np.float32)

    answers = [
        runtime.run({"x": given})["y"].tolist() for given in (numbers[::2], numbers[::2].astype(">f4"))
    ]

    assert answers == [[0, 2, 4]] * 2


def test_an_answer_without_axes_is_an_array_and_several_inputs_go_by_name(tmp_path: Path) -> None:
    nodes = [node("Mul", ["a", "b"], ["p"]), node("ReduceSum", ["p"], ["y"], keepdims=0)]
    takes = [value("a", ("n",)), value("b", ("n",))]
    body = helper.make_graph(nodes, "g", takes, [value("y", ())])
    runtime = loaded(model(body).SerializeToString(), tmp_path)

    answer = runtime.run({"b": np.array([1, 2], np.float32), "a": np.array([3, 4], np.float32)})["y"]

    assert (answer.shape, answer.tolist()) == ((), 11.0)


@given(
    st.text(max_size=40) | st.from_regex(r"(seq|map|optional|tensor)\([a-z0-9(),]{0,30}\)", fullmatch=True)
)
def test_whatever_an_engine_calls_a_type_is_described_or_refused(kind: str) -> None:
    try:
        outcome: str = describe("y", kind, (None, 2, "n")).spec.name
    except FitError as error:
        outcome = error.reason

    assert outcome in {"y", Reason.WRONG_RUNTIME}

"""When an answer counts as the expected one."""

import msgspec
import numpy as np
import pytest
from numpy.typing import ArrayLike

from muster_models.errors import ManifestError
from muster_models.golden import Golden, Vector, compare, decode_golden, encode_golden
from muster_models.tensors import pack

NAN = float("nan")
INF = float("inf")


def wrong(expected: ArrayLike, got: ArrayLike, dtype: str = "float32") -> str | None:
    """Return what is wrong with an answer at an absolute tolerance of 0.1 and a relative one of 0.01."""
    outputs = {"y": np.array(got, dtype=dtype)}
    return compare(pack({"y": np.array(expected, dtype=dtype)}), outputs, absolute=0.1, relative=0.01)


@pytest.mark.parametrize(
    ("expected", "got", "dtype"),
    [
        ([1.0], [1.1], "float32"),
        ([100.0], [101.0], "float64"),
        ([NAN, INF, -INF], [NAN, INF, -INF], "float32"),
        ([], [], "float32"),
        ([10], [35], "int8"),  # 0.1 of 255 steps, and 0.01 of 10
        ([2**60], [2**60], "int64"),
        ([True], [True], "bool"),
        (["a"], ["a"], "object"),
        ([0.0], [-0.0], "float16"),
    ],
)
def test_an_answer_within_tolerance_is_right(expected: ArrayLike, got: ArrayLike, dtype: str) -> None:
    assert wrong(expected, got, dtype) is None


@pytest.mark.parametrize(
    ("expected", "got", "dtype", "message"),
    [
        ([1.0], [1.2], "float32", "off by up to 0.2, 1 of 1 values"),
        ([1.0, 2.0], [1.0, NAN], "float32", "1 of 2 values"),
        ([NAN], [1.0], "float32", "1 of 1 values"),
        ([INF], [1.0], "float32", "1 of 1 values"),
        ([1.0], [INF], "float32", "off by up to inf"),
        ([INF], [-INF], "float32", "1 of 1 values"),
        ([10], [37], "int8", "1 of 1 values"),
        ([-128], [127], "int8", "off by up to 255"),
        ([2**60], [2**60 + 1], "int64", "1 of 1 values"),
        ([True], [False], "bool", "1 of 1 values"),
        (["a"], ["b"], "object", "differs"),
        ([1.0], [[1.0]], "float32", r"has shape \(1, 1\), expected \(1,\)"),
    ],
)
def test_an_answer_outside_tolerance_is_wrong_and_said_how(
    expected: ArrayLike, got: ArrayLike, dtype: str, message: str
) -> None:
    said = wrong(expected, got, dtype)

    assert said is not None
    with pytest.raises(ValueError, match=message):
        raise ValueError(said)


def test_an_answer_of_another_kind_is_wrong() -> None:
    expected = pack({"y": np.array([1.0], dtype=np.float32)})

    assert compare(expected, {"y": np.array([1])}, absolute=1, relative=1) is not None
    assert compare(expected, {"y": np.array(["1"])}, absolute=1, relative=1) is not None
    assert (
        compare(expected, {"z": np.array([1.0])}, absolute=1, relative=1)
        == "output 'y' is missing, got ['z']"
    )


def test_golden_vectors_survive_their_encoding() -> None:
    tensors = pack({"x": np.array([[1.0, 2.0]], dtype=np.float32)})
    golden = Golden((Vector(tensors, tensors),), 0.001, 0.01)

    assert decode_golden(encode_golden(golden)) == golden


def test_golden_vectors_with_a_damaged_tensor_are_refused() -> None:
    vector = {"inputs": {"tensors": {"x": ["float32", [2], b"\0"]}, "format": 1}}
    document = {
        "vectors": [vector | {"outputs": vector["inputs"]}],
        "absolute": 0,
        "relative": 0,
        "format": 1,
    }

    with pytest.raises(ManifestError, match="golden vectors: tensor 'x'"):
        decode_golden(msgspec.msgpack.encode(document))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91" * 100_000, msgspec.msgpack.encode({"vectors": []})])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestError, match="golden vectors"):
        decode_golden(data)

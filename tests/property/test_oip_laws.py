"""Laws of the local protocol: what is written is read back, and no bytes break the reader."""

import socket

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from muster_agent.runner import channel
from muster_agent.serving import oip
from muster_agent.serving.httpwire import HttpError
from muster_agent.serving.oip import InferRequest
from muster_models.errors import MessageError
from support.verified import Array

NUMERIC = st.sampled_from(
    [
        np.dtype(name)
        for name in ("bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64")
    ]
)
NUMBERS = NUMERIC.flatmap(
    lambda dtype: arrays.arrays(
        dtype,
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements=arrays.from_dtype(dtype, allow_nan=False, allow_infinity=False),
    )
)
TEXTS = st.lists(st.text(max_size=5), max_size=5).map(lambda texts: np.array(texts, dtype=object))
TENSORS = st.dictionaries(st.text(min_size=1, max_size=8), NUMBERS | TEXTS, max_size=4)


def assert_same(got: dict[str, Array], expected: dict[str, Array]) -> None:
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        assert np.array_equal(got[name], array)


@given(TENSORS)
def test_a_binary_request_is_read_as_it_was_written(tensors: dict[str, Array]) -> None:
    body, length = oip.binary_request(tensors)

    assert_same(oip.parse_request(body, str(length))[1], tensors)


@given(TENSORS, st.booleans())
def test_a_response_is_read_as_it_was_written(tensors: dict[str, Array], binary: bool) -> None:  # noqa: FBT001
    request = InferRequest([], parameters={"binary_data_output": binary})
    body, length = oip.make_response(request, tensors, model="digits", version="1.0.0")

    assert_same(oip.parse_response(body, None if length is None else str(length)), tensors)


VALUES = (
    st.floats(allow_nan=False)
    | st.integers(-(2**70), 2**70)
    | st.booleans()
    | st.none()
    | st.text(max_size=2)
)


@given(st.sampled_from(["FP16", "FP32", "FP64"]), st.lists(VALUES, max_size=5))
@example("FP32", [2**70, 0.5])
@example("FP64", [10**400])
@example("FP16", [70000.0])
@example("FP32", [True, 1.0])
@example("FP64", [1e200, -1e200])
def test_a_flat_list_of_values_means_what_a_nested_one_does(datatype: str, values: list[object]) -> None:
    shape = [1, len(values)]

    assert read_json(datatype, shape, values) == read_json(datatype, shape, [values])


def read_json(datatype: str, shape: list[int], data: object) -> list[list[float]] | None:
    """Return the values of the only tensor of a request in JSON; None where it is refused."""
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "data": data}
    try:
        array = oip.parse_request(msgspec.json.encode({"inputs": [tensor]}), None)[1]["x"]
    except HttpError:
        return None
    assert array.dtype == oip.dtype_of(datatype)
    values: list[list[float]] = array.tolist()
    return values


@pytest.mark.parametrize(
    ("datatype", "last", "beyond"),
    [
        ("FP16", 65519.0, 65520.0),  # rounded to even, 65504 is the last and 65520 infinity
        ("FP32", 3.4028235677973362e38, 3.4028235677973366e38),
        ("FP64", 1.7976931348623157e308, float("inf")),
    ],
)
def test_a_number_is_taken_up_to_the_end_of_its_type(datatype: str, last: float, beyond: float) -> None:
    for sign in (1, -1):
        taken = read_json(datatype, [1], [sign * last])

        assert taken is not None
        assert np.isfinite(taken).all()
        assert read_json(datatype, [1], [sign * beyond]) is None


@given(st.binary(max_size=200), st.none() | st.text(max_size=5) | st.integers(0, 250).map(str))
def test_no_bytes_break_the_reader(body: bytes, length: str | None) -> None:
    for read in (oip.parse_request, oip.parse_response):
        with pytest.raises(HttpError):
            read(body, length)


REQUEST, LENGTH = oip.binary_request({"x": np.zeros((2, 3), np.float32), "t": np.array(["a"], object)})


@given(st.integers(0, len(REQUEST) - 1), st.integers(0, 255))
def test_a_damaged_request_is_read_or_refused(place: int, value: int) -> None:
    damaged = REQUEST[:place] + bytes([value]) + REQUEST[place + 1 :]
    try:
        tensors = oip.parse_request(damaged, str(LENGTH))[1]
    except HttpError:
        return

    assert all(array.size <= len(REQUEST) for array in tensors.values())


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_messages_of_a_channel_arrive_whole_and_in_order(messages: list[bytes]) -> None:
    one, other = socket.socketpair()
    with one, other:
        got = []
        for message in messages:
            channel.send(one, message)
            got.append(channel.receive(other, 300))

    assert got == messages


@given(st.binary(max_size=64))
def test_no_bytes_on_a_channel_break_its_reader(data: bytes) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(data)
        one.close()
        try:
            message = channel.receive(other, 32)
        except (EOFError, MessageError):
            return

    assert data == len(message).to_bytes(4, "little") + message

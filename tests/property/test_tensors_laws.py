"""Laws of named arrays as bytes: what is encoded is decoded, and garbage ends in one error."""

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from muster_models.errors import MessageError
from muster_models.tensors import MAX_BYTES, decode_tensors, encode_tensors
from support.mutation import mutate

Array = NDArray[np.generic]
TYPES = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
    "float64",
]  # fmt: skip
shapes = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
numbers = st.sampled_from(TYPES).flatmap(lambda dtype: arrays_of.arrays(dtype, shapes))
# Without surrogates, which are no text.
texts = arrays_of.arrays(
    object, shapes, elements=st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
)
named = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8), numbers | texts, max_size=4
)


@given(named)
def test_arrays_survive_their_encoding_bit_by_bit(arrays: dict[str, Array]) -> None:
    decoded = decode_tensors(encode_tensors(arrays))

    assert decoded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert decoded[name].dtype == array.dtype
        assert decoded[name].shape == array.shape
        # By bytes, so that NaN payloads and -0.0 count; strings compare as they are.
        if array.dtype.kind == "O":
            assert decoded[name].tolist() == array.tolist()
        else:
            assert decoded[name].tobytes() == array.tobytes()


@given(named)
def test_equal_arrays_have_equal_bytes(arrays: dict[str, Array]) -> None:
    assert encode_tensors(decode_tensors(encode_tensors(arrays))) == encode_tensors(arrays)


@given(numbers)
def test_the_order_of_bytes_and_of_axes_in_memory_does_not_matter(array: Array) -> None:
    swapped = array.astype(array.dtype.newbyteorder(">"))
    column_first = np.asfortranarray(array).reshape(array.shape, order="A")

    assert encode_tensors({"x": swapped}) == encode_tensors({"x": array})
    assert encode_tensors({"x": column_first}) == encode_tensors({"x": array})


@given(numbers)
def test_a_decoded_array_may_be_written_to(array: Array) -> None:
    decoded = decode_tensors(encode_tensors({"x": array}))["x"]

    assert decoded.flags.writeable
    assert decoded.dtype.isnative


@given(named, st.integers(0, 2**32))
def test_damaged_bytes_are_refused_or_still_well_formed(arrays: dict[str, Array], seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(10):
        try:
            decoded = decode_tensors(mutate(encode_tensors(arrays), chance))
        except MessageError:
            continue

        assert encode_tensors(decode_tensors(encode_tensors(decoded))) == encode_tensors(decoded)


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        decode_tensors(data)


def forged(dtype: str, shape: list[int], data: object) -> bytes:
    return msgspec.msgpack.encode({"tensors": {"x": [dtype, shape, data]}, "format": 1})


@pytest.mark.parametrize(
    "data",
    [
        forged("float32", [2], b"\0" * 7),
        forged("float32", [2**40], b""),
        forged("float32", [0, 2**62, 2**62], b""),  # no values, and still no array that numpy can make
        forged("float32", [1] * 9, b"\0" * 4),
        forged("float32", [-1], b"\0" * 4),
        forged("object", [1], b"\0" * 8),
        forged("complex64", [1], b"\0" * 8),
        forged("str", [2], ["one"]),
        forged("str", [1], b"x"),
        forged("float32", [1], ["x"]),
        forged("float32", [1], None),
        msgspec.msgpack.encode({"tensors": {}, "format": 2}),
        msgspec.msgpack.encode(
            {"tensors": {str(name): ["bool", [0], b""] for name in range(257)}, "format": 1}
        ),
        forged("str", [2**20 + 1], [""] * (2**20 + 1)),
        b"\x91" * 100_000,
    ],
    ids=lambda data: data[:40].hex(),
)
def test_a_forged_tensor_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        decode_tensors(data)


def test_a_boolean_is_true_or_false_whatever_byte_it_came_as() -> None:
    decoded = decode_tensors(forged("bool", [3], b"\0\1\2"))["x"]

    assert decoded.tobytes() == b"\0\1\1"


def test_tensors_too_large_are_refused_before_they_are_parsed() -> None:
    with pytest.raises(MessageError, match="at most"):
        decode_tensors(bytes(MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([object()], dtype=object), "expected strings, got a object"),
        (np.array([1 + 2j]), "no wire form for type complex128"),
        (np.array(["2026-01-01"], dtype="datetime64[D]"), "no wire form for type datetime64"),
        (np.array(["\ud800"]), "not valid Unicode"),
    ],
)
def test_an_array_without_a_wire_form_is_refused_when_it_is_encoded(array: Array, message: str) -> None:
    with pytest.raises(MessageError, match=message):
        encode_tensors({"x": array})


def test_bytes_of_an_engine_become_text() -> None:
    decoded = decode_tensors(encode_tensors({"x": np.array([b"a\xc3\xa9", b"\xff"], dtype=object)}))["x"]

    assert decoded.tolist() == ["aé", "\ufffd"]

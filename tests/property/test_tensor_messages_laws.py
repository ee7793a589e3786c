"""Laws of the messages between supervisor and worker: what is written is read, whatever came before."""

import random
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from muster_agent.runner.tensor_messages import TensorMessages
from muster_models.errors import MessageError
from support.mutation import mutate

Array = NDArray[np.generic]
TYPES = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
    "float64", ">f4", ">i8",
]  # fmt: skip
shapes = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
numbers = st.sampled_from(TYPES).flatmap(lambda dtype: arrays_of.arrays(dtype, shapes))
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
texts = arrays_of.arrays(object, shapes, elements=words)
calls = st.dictionaries(words, numbers | texts, max_size=3)
# Few that differ, often again: as applications call.
conversations = st.lists(calls, min_size=1, max_size=3).flatmap(
    lambda few: st.lists(st.sampled_from(few), min_size=1, max_size=8)
)
USUAL: dict[str, Array] = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([7], np.int64)}


def assert_same(got: dict[str, Array], expected: dict[str, Array]) -> None:
    """By bytes, so that NaN payloads and -0.0 count; strings as they are."""
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].shape == array.shape
        assert got[name].dtype == array.dtype.newbyteorder("=")
        assert got[name].dtype.isnative
        assert got[name].flags.writeable
        if array.dtype.kind == "O":
            assert got[name].tolist() == array.tolist()
        else:
            assert got[name].tobytes() == array.astype(got[name].dtype).tobytes()


@given(conversations, st.binary(max_size=3))
def test_every_call_of_a_conversation_is_read_as_it_was_written(
    conversation: Sequence[dict[str, Array]], prefix: bytes
) -> None:
    writer, reader = TensorMessages(), TensorMessages()
    for call in conversation:
        assert_same(reader.decode(prefix + writer.encode(call), len(prefix)), call)


@given(calls)
def test_what_a_message_is_does_not_depend_on_what_came_before(call: dict[str, Array]) -> None:
    writer = TensorMessages()
    first = writer.encode(call)
    writer.encode(USUAL)

    assert writer.encode(call) == first
    assert writer.encode(call) == first


@given(st.integers(0, 2**32))
def test_damage_is_refused_or_still_well_formed_and_harms_no_later_call(seed: int) -> None:
    chance, writer, reader = random.Random(seed), TensorMessages(), TensorMessages()
    for _ in range(10):
        try:
            got = reader.decode(mutate(writer.encode(USUAL), chance), 0)
        except MessageError:
            continue
        assert all(array.flags.writeable for array in got.values())

    assert_same(reader.decode(writer.encode(USUAL), 0), USUAL)


@given(st.binary(max_size=64))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with pytest.raises(MessageError):
        TensorMessages().decode(b"\1" + data, 0)


def forged(tensors: object, data: bytes = b"") -> bytes:
    """Return a message whose head says what it likes."""
    head = msgspec.msgpack.encode(tensors)
    return b"\1" + len(head).to_bytes(4, "little") + head + data


@pytest.mark.parametrize(
    ("tensors", "data"),
    [
        pytest.param({"x": ("float32", (2**62, 4))}, b"", id="more than there is"),
        pytest.param({"x": ("float32", (2**62, 2**62, 0))}, b"", id="axes that cannot be addressed"),
        pytest.param({"x": ("float32", (2**64 - 1, 0))}, b"", id="an axis that is no length"),
        pytest.param({"x": ("float32", (-1,))}, b"", id="less than nothing"),
        pytest.param({"x": ("bool", (1,))}, b"\2", id="a type that does not come so"),
        pytest.param({"x": ("object", (1,))}, bytes(8), id="a type that is no number"),
        pytest.param({"x": ("float32", (1,) * 9)}, bytes(4), id="too many axes"),
        pytest.param({str(n): ("int8", ()) for n in range(257)}, bytes(257), id="too many tensors"),
        pytest.param({"x": ("int8", (1,))}, b"\0\0", id="something behind"),
    ],
)
def test_a_head_that_lies_is_refused_each_time(tensors: object, data: bytes) -> None:
    reader = TensorMessages()
    for _ in range(2):
        with pytest.raises(MessageError):
            reader.decode(forged(tensors, data), 0)


def test_what_is_no_array_is_written_as_one() -> None:
    writer, reader = TensorMessages(), TensorMessages()
    writer.encode({"x": np.array([1.0, 2.0])})
    given: dict[str, Array] = {"x": [3.0, 4.0]}  # type: ignore[dict-item]  # a caller without types

    assert reader.decode(writer.encode(given), 0)["x"].tolist() == [3.0, 4.0]


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(MessageError, match="Unicode"):
        TensorMessages().encode({"\ud800": np.zeros(1)})

"""Named arrays as bytes, for golden vectors and pipes between processes: no pickle, bounded, versioned."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from muster_models.errors import MessageError

Array = NDArray[np.generic]
MAX_BYTES = 64 * 1024 * 1024
MAX_AXES = 8
MAX_TENSORS = 256
MAX_STRINGS = 1024 * 1024
_NUMERIC = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()  # noqa: SIM905 - a list reads worse
)
# The wire is little-endian. Names of types are slow to ask for, and a prediction crosses a pipe twice.
_DTYPES = {name: np.dtype(name).newbyteorder("<") for name in _NUMERIC}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_NATIVE = {dtype: dtype.newbyteorder("=") for dtype in _DTYPES.values()}


class _Tensor(Struct, frozen=True, array_like=True):
    dtype: str
    shape: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=MAX_AXES)]
    data: bytes | Annotated[list[str], Meta(max_length=MAX_STRINGS)]


class Tensors(Struct, frozen=True):
    """Named tensors as they stand on the wire."""

    tensors: Annotated[dict[str, _Tensor], Meta(max_length=MAX_TENSORS)]
    format: Literal[1] = 1


def pack(arrays: Mapping[str, Array]) -> Tensors:
    """Return arrays in wire form.

    Raises:
        MessageError: An array has a type that has no wire form.
    """
    return Tensors({name: _pack(name, np.asarray(array)) for name, array in arrays.items()})


def unpack(tensors: Tensors) -> dict[str, Array]:
    """Return the arrays of a wire form; they are copies that may be written to.

    Raises:
        MessageError: A type is unknown, or the bytes do not fill the shape.
    """
    return {name: _unpack(name, tensor) for name, tensor in tensors.tensors.items()}


def encode_tensors(arrays: Mapping[str, Array]) -> bytes:
    """Return named arrays as bytes.

    Raises:
        MessageError: An array has a type that has no wire form.
    """
    try:
        return msgspec.msgpack.encode(pack(arrays))
    except UnicodeEncodeError as error:
        raise MessageError(f"tensors: a string is not valid Unicode: {error}") from error


def decode_tensors(data: bytes) -> dict[str, Array]:
    """Parse named arrays.

    Raises:
        MessageError: Too large, damaged, or not of this form.
    """
    if len(data) > MAX_BYTES:
        raise MessageError(f"tensors have at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        return unpack(msgspec.msgpack.decode(data, type=Tensors))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"tensors: {error}") from error


def _pack(name: str, array: Array) -> _Tensor:
    known = _NAMES.get(array.dtype)
    if known is not None:
        return _Tensor(known, array.shape, array.tobytes())
    if array.dtype.kind in "OUS":
        return _Tensor("str", array.shape, [_text(name, value) for value in array.ravel().tolist()])
    if array.dtype.name not in _NUMERIC:
        raise MessageError(f"tensor {name!r}: no wire form for type {array.dtype.name}")
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return _Tensor(array.dtype.name, array.shape, little.tobytes())


def _text(name: str, value: object) -> str:
    match value:
        case str():
            return value
        case bytes():
            return value.decode(errors="replace")
        case _:
            raise MessageError(f"tensor {name!r}: expected strings, got a {type(value).__name__}")


def _unpack(name: str, tensor: _Tensor) -> Array:
    try:
        return _fill(name, tensor)
    except (
        ValueError
    ) as error:  # numpy refuses axes whose product it cannot address, even when there are no values
        raise MessageError(f"tensor {name!r}: {error}") from error


def _fill(name: str, tensor: _Tensor) -> Array:
    count = math.prod(tensor.shape)
    match tensor.data:
        case list() as strings if tensor.dtype == "str" and len(strings) == count:
            return np.array(strings, dtype=object).reshape(tensor.shape)
        case bytes() as data if tensor.dtype in _NUMERIC:
            dtype = _DTYPES[tensor.dtype]
            if len(data) == count * dtype.itemsize:
                return _numbers(data, dtype).reshape(tensor.shape)
            raise MessageError(
                f"tensor {name!r}: {tensor.shape} of {tensor.dtype} does not have {len(data)} bytes"
            )
        case _:
            raise MessageError(f"tensor {name!r}: unknown type {tensor.dtype[:20]!r} or wrong length")


def _numbers(data: bytes, dtype: "np.dtype[np.generic]") -> Array:
    if dtype.kind == "b":  # any byte but 0 and 1 would be a boolean that is neither
        return np.not_equal(np.frombuffer(data, np.uint8), 0)
    return np.frombuffer(data, dtype).astype(_NATIVE[dtype])  # a copy, which may be written to

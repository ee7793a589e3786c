"""The Open Inference Protocol, version 2: tensors as JSON and in its binary extension.

Pure: bytes in, bytes out; sockets belong to ``serve`` and to the client in ``api``.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from numpy.typing import NDArray

from muster_agent.serving.httpwire import HttpError
from muster_models.manifest import TensorSpec
from muster_models.runtime.protocol import type_name

Array = NDArray[np.generic]
HEADER_LENGTH = "inference-header-content-length"
PREDICTION_IDS = "prediction_ids"  # asks for ids as a parameter, and names the tensor that they come in
_LENGTH = struct.Struct("<I")
_DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "str": "BYTES", "object": "BYTES",
}  # fmt: skip
_DTYPES = {
    datatype: np.dtype(name).newbyteorder("<") for name, datatype in _DATATYPES.items() if name != "str"
}
# Which kinds of JSON values may become which kinds of arrays.
_ACCEPTED = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}
# What numpy makes of integers beyond 63 bits: floats, or objects beyond 64.
_WIDENED = {"i": "fO", "u": "fO", "f": "O"}

Shape = Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31)], ...], Meta(max_length=8)]
Parameters = dict[str, bool | int | float | str | None]


class Tensor(Struct, frozen=True, omit_defaults=True):
    """A tensor in a request or a response; its values stand in ``data`` or behind the JSON."""

    name: str
    datatype: str
    shape: Shape
    parameters: Parameters = {}
    data: Raw | UnsetType = UNSET


class Wanted(Struct, frozen=True, omit_defaults=True):
    """An output that is asked for."""

    name: str
    parameters: Parameters = {}


class InferRequest(Struct, frozen=True, omit_defaults=True):
    """What ``infer`` is asked."""

    inputs: Annotated[list[Tensor], Meta(max_length=256)]
    id: str | None = None
    parameters: Parameters = {}
    outputs: Annotated[list[Wanted], Meta(max_length=256)] | None = None


class InferResponse(Struct, frozen=True, omit_defaults=True):
    """What ``infer`` answers."""

    model_name: str
    outputs: list[Tensor]
    model_version: str = ""
    id: str | None = None
    parameters: Parameters = {}


class Failure(Struct, frozen=True):
    """What went wrong; ``reason`` is a code of ours beside the text that the protocol has."""

    error: str
    reason: str = ""


_request = msgspec.json.Decoder(InferRequest)
_response = msgspec.json.Decoder(InferResponse)
_encode = msgspec.json.Encoder().encode
_plain = msgspec.json.Decoder(list[Any])
_floats = msgspec.json.Decoder(list[float])


def parse_request(body: bytes, header_length: str | None) -> tuple[InferRequest, dict[str, Array]]:
    """Return a request and its input tensors by name.

    Raises:
        HttpError: 400; the text says what was expected and what came.
    """
    head, tail = _split(body, header_length)
    try:
        request = _request.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"inference request: {error}") from error
    return request, _tensors(request.inputs, tail)


def parse_response(body: bytes, header_length: str | None) -> dict[str, Array]:
    """Return the output tensors of a response by name.

    Raises:
        HttpError: It is not a response.
    """
    head, tail = _split(body, header_length)
    try:
        response = _response.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"inference response: {error}") from error
    return _tensors(response.outputs, tail)


def binary_request(inputs: Mapping[str, Array], **parameters: bool) -> tuple[bytes, int]:
    """Return the body of a request with all tensors in binary form, and the length of its JSON."""
    tensors, parts = _all_binary(inputs)
    head = _encode(InferRequest(tensors, parameters={"binary_data_output": True, **parameters}))
    return b"".join((head, *parts)), len(head)


def make_response(
    request: InferRequest,
    outputs: Mapping[str, Array],
    *,
    model: str,
    version: str,
    ids: Sequence[str] | None = None,
) -> tuple[bytes, int | None]:
    """Return the body of a response, and the length of its JSON where binary tensors follow it.

    Args:
        ids: Of the rows, where they were asked for: one more tensor, because a parameter holds one value.

    Raises:
        HttpError: 400; an output was asked for that the model does not have, or in a way it cannot be given.
    """
    tensors: list[Tensor] = []
    parts: list[bytes] = []
    wanted = _wanted(request, outputs)
    if ids is not None:
        outputs = {**outputs, PREDICTION_IDS: np.array(ids, dtype=object)}
        wanted.append((PREDICTION_IDS, request.parameters.get("binary_data_output") is True))
    for name, binary in wanted:
        array = outputs[name]
        if binary:
            data = _binary(array)
            parts.append(data)
            tensors.append(_tensor(name, array, parameters={"binary_data_size": len(data)}))
        else:
            tensors.append(_tensor(name, array, data=Raw(_encode(_plain_values(array)))))
    head = _encode(InferResponse(model, tensors, model_version=version, id=request.id))
    return b"".join((head, *parts)), len(head) if parts else None


def describe(spec: TensorSpec) -> dict[str, Any]:
    """Return the metadata of a tensor; -1 stands where any length is accepted."""
    shape = [-1 if length is None else length for length in spec.shape]
    described = {
        "name": spec.name,
        "datatype": _DATATYPES.get(spec.dtype, spec.dtype.upper()),
        "shape": shape,
    }
    return described if spec.quantisation is None else {**described, "quantisation": spec.quantisation}


def dtype_of(datatype: str) -> "np.dtype[np.generic]":
    """Return the type of arrays for a type of the protocol; ``object`` holds text.

    Raises:
        HttpError: 400; the protocol has no such type, or arrays do not hold it.
    """
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        raise bad(f"expected a datatype of {sorted(_DTYPES)}, got {datatype[:16]!r}")
    return dtype


def bad(message: str) -> HttpError:
    """Return the error of a request that nobody could answer."""
    return HttpError(HTTPStatus.BAD_REQUEST, message)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    if not (header_length.isascii() and header_length.isdigit()) or len(header_length) > 10:  # noqa: PLR2004
        raise bad(f"expected Inference-Header-Content-Length in bytes, got {header_length[:40]!r}")
    length = int(header_length)
    if length > len(body):
        raise bad(f"the body has {len(body)} bytes, Inference-Header-Content-Length says {length}")
    return body[:length], body[length:]


def _tensors(tensors: Sequence[Tensor], tail: bytes) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    used = 0
    for tensor in tensors:
        if tensor.name in arrays:
            raise bad(f"tensor {tensor.name!r} is given twice")
        dtype = _DTYPES.get(tensor.datatype)
        if dtype is None:
            raise bad(
                f"tensor {tensor.name!r}: expected a datatype of {sorted(_DTYPES)}, got {tensor.datatype!r}"
            )
        match tensor.parameters.get("binary_data_size"):
            case None:
                arrays[tensor.name] = _from_json(tensor, dtype)
            case int() as size if 0 <= size <= len(tail) - used:
                arrays[tensor.name] = _from_binary(tensor, dtype, tail[used : used + size])
                used += size
            case size:
                raise bad(f"tensor {tensor.name!r}: {size!r} bytes are not left, {len(tail) - used} are")
    if used != len(tail):
        raise bad(f"{len(tail) - used} bytes follow the last tensor")
    return arrays


def _from_binary(tensor: Tensor, dtype: "np.dtype[np.generic]", data: bytes) -> Array:
    count = math.prod(tensor.shape)
    if dtype.kind == "O":
        return _shaped(tensor, np.array(_strings(tensor, data), dtype=object))
    if len(data) != count * dtype.itemsize:
        raise bad(
            f"tensor {tensor.name!r}: {tensor.datatype}{list(tensor.shape)} has"
            f" {count * dtype.itemsize} bytes, got {len(data)}"
        )
    return _shaped(tensor, np.frombuffer(data, dtype))


def _strings(tensor: Tensor, data: bytes) -> list[str]:
    strings: list[str] = []
    at = 0
    while at < len(data):
        end = at + _LENGTH.size
        if end > len(data):
            raise bad(f"tensor {tensor.name!r}: the last string has no length")
        begin, end = end, end + _LENGTH.unpack_from(data, at)[0]
        if end > len(data):
            raise bad(f"tensor {tensor.name!r}: a string is longer than the tensor")
        strings.append(data[begin:end].decode(errors="replace"))
        at = end
    return strings


def _from_json(tensor: Tensor, dtype: "np.dtype[np.generic]") -> Array:
    if tensor.data is UNSET:
        raise bad(f"tensor {tensor.name!r} has neither data nor binary_data_size")
    flat = _flat_floats(tensor.data, dtype) if dtype.kind == "f" else None
    if flat is not None:
        return _shaped(tensor, flat)
    try:
        values = _plain.decode(tensor.data)
        found = np.array(values, dtype=object) if dtype.kind == "O" else np.array(values)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise bad(f"tensor {tensor.name!r}: data: {error}") from error
    if dtype.kind == "O":
        if not all(isinstance(value, str) for value in found.flat):
            raise bad(f"tensor {tensor.name!r}: expected strings")
        return _shaped(tensor, found)
    if found.size == 0:
        return _shaped(tensor, np.empty(0, dtype))
    if found.dtype.kind in _WIDENED.get(dtype.kind, ""):
        found = _large_numbers(tensor, values, dtype)
    if found.dtype.kind not in _ACCEPTED[dtype.kind]:
        raise bad(f"tensor {tensor.name!r}: the data are not {tensor.datatype}")
    with np.errstate(over="ignore"):
        array = found.astype(dtype)
    exact = np.isfinite(array) if dtype.kind == "f" else array == found
    if not exact.all():
        raise bad(f"tensor {tensor.name!r}: a value lies outside {tensor.datatype}")
    return _shaped(tensor, array)


def _flat_floats(data: Raw, dtype: "np.dtype[np.generic]") -> Array | None:
    """Return a flat list of numbers, as most requests have it; None where it takes a closer look."""
    try:
        found = np.array(_floats.decode(data))
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        array: Array = found.astype(dtype)
        # As in OutputCheck: a finite product means that every value is.
        return array if array.size and math.isfinite(array.dot(array)) else None


def _large_numbers(tensor: Tensor, values: list[Any], dtype: "np.dtype[np.generic]") -> Array:
    found = np.array(values, dtype=object).ravel().tolist()
    accepted, widest = ({int, float}, np.float64) if dtype.kind == "f" else ({int}, np.uint64)
    if not all(type(value) in accepted for value in found):
        raise bad(f"tensor {tensor.name!r}: the data are not {tensor.datatype}")
    try:
        return np.array(found, dtype=widest)
    except OverflowError as error:
        raise bad(f"tensor {tensor.name!r}: a value lies outside {tensor.datatype}") from error


def _shaped(tensor: Tensor, array: Array) -> Array:
    if array.size != math.prod(tensor.shape):
        raise bad(
            f"tensor {tensor.name!r}: shape {list(tensor.shape)} has {math.prod(tensor.shape)} values,"
            f" got {array.size}"
        )
    try:
        return array.reshape(tensor.shape)
    except ValueError as error:  # axes whose product cannot be addressed, although there are no values
        raise bad(f"tensor {tensor.name!r}: {error}") from error


def _wanted(request: InferRequest, outputs: Mapping[str, Array]) -> list[tuple[str, bool]]:
    """Return the names of the outputs to send, in order, and whether each is sent in binary form."""
    usual = request.parameters.get("binary_data_output") is True
    if not request.outputs:
        return [(name, usual) for name in outputs]
    for wanted in request.outputs:
        if wanted.name not in outputs:
            raise bad(f"expected an output of {sorted(outputs)}, got {wanted.name!r}")
        if "classification" in wanted.parameters:
            raise bad("the classification extension is not offered")
    return [(wanted.name, bool(wanted.parameters.get("binary_data", usual))) for wanted in request.outputs]


def _all_binary(arrays: Mapping[str, Array]) -> tuple[list[Tensor], list[bytes]]:
    parts = [_binary(array) for array in arrays.values()]
    tensors = [
        _tensor(name, array, parameters={"binary_data_size": len(part)})
        for (name, array), part in zip(arrays.items(), parts, strict=True)
    ]
    return tensors, parts


def _tensor(name: str, array: Array, **about: Any) -> Tensor:
    kind = type_name(array.dtype)
    datatype = _DATATYPES.get(kind)
    if datatype is None:
        raise bad(f"tensor {name!r} has type {kind}, which has no form on the wire")
    return Tensor(name, datatype, array.shape, **about)


def _binary(array: Array) -> bytes:
    if array.dtype.kind in "OUS":
        texts = [_bytes(value) for value in array.ravel().tolist()]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _plain_values(array: Array) -> list[Any]:
    values = array.ravel().tolist()
    return (
        [_bytes(value).decode(errors="replace") for value in values] if array.dtype.kind in "OUS" else values
    )


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()

"""The tensors of an ONNX file: their size, their bytes, and the files that those bytes may come from."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from onnx import TensorProto

from muster_models.errors import ModelFileError, Reason

MAX_TENSOR_BYTES = 1024 * 1024 * 1024
MAX_AXES = 16
MAX_SMALL = 32  # values of an integer tensor that can be a shape
_BITS = {
    "FLOAT": 32, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16, "INT32": 32, "INT64": 64, "BOOL": 8,
    "FLOAT16": 16, "DOUBLE": 64, "UINT32": 32, "UINT64": 64, "COMPLEX64": 64, "COMPLEX128": 128,
    "BFLOAT16": 16, "FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8, "FLOAT8E5M2FNUZ": 8,
    "FLOAT8E8M0": 8, "UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2, "STRING": 8,
}  # fmt: skip
# Types whose values lie in a field of their own when they are not raw; all others share int32_data.
_FIELDS = {
    "FLOAT": "float_data", "COMPLEX64": "float_data", "DOUBLE": "double_data", "COMPLEX128": "double_data",
    "INT64": "int64_data", "UINT32": "uint64_data", "UINT64": "uint64_data", "STRING": "string_data",
}  # fmt: skip
_EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum"})


def check_shape(dims: Iterable[int], kind: int, where: str) -> int:
    """Return the bytes of a shape with a type.

    Raises:
        ModelFileError: A length is negative, the axes are too many, the type is unknown, or it is too large.
    """
    axes = list(dims)
    name = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else str(kind)
    if name not in _BITS:
        raise ModelFileError(f"{where}: unknown type {name}")
    if len(axes) > MAX_AXES or any(axis < 0 for axis in axes):
        raise ModelFileError(f"{where}: expected at most {MAX_AXES} axes of length 0 or more, got {axes[:9]}")
    needed = (math.prod(axes) * _BITS[name] + 7) // 8
    if needed > MAX_TENSOR_BYTES:
        raise ModelFileError(
            f"{where}: expected at most {MAX_TENSOR_BYTES} bytes, {name}{axes} has {needed}", Reason.TOO_LARGE
        )
    return needed


def check_tensor(tensor: TensorProto, where: str, *, folder: Path, names: frozenset[str]) -> None:
    """Refuse a tensor whose bytes do not fill its shape, or come from a file that is not of the version.

    Raises:
        ModelFileError: Says what was found.
    """
    needed = check_shape(tensor.dims, tensor.data_type, where)
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_external(tensor, where, needed=needed, folder=folder, names=names)
    elif tensor.external_data:
        raise ModelFileError(f"{where}: names a file without being marked as external")
    elif tensor.HasField("raw_data"):
        if len(tensor.raw_data) != needed or tensor.data_type == TensorProto.STRING:
            raise ModelFileError(
                f"{where}: {list(tensor.dims)} has {needed} bytes, got {len(tensor.raw_data)}"
            )
    else:
        _check_values(tensor, where)


def _check_values(tensor: TensorProto, where: str) -> None:
    name = TensorProto.DataType.Name(tensor.data_type)
    count = math.prod(tensor.dims)
    if name.startswith("COMPLEX"):
        count *= 2
    elif _BITS[name] < 8:  # noqa: PLR2004 - packed into bytes
        count = (count * _BITS[name] + 7) // 8
    held = len(getattr(tensor, _FIELDS.get(name, "int32_data")))
    if held != count:
        raise ModelFileError(f"{where}: {list(tensor.dims)} has {count} values, got {held}")


def _check_external(
    tensor: TensorProto, where: str, *, needed: int, folder: Path, names: frozenset[str]
) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not entries.keys() <= _EXTERNAL_KEYS or location not in names:
        raise ModelFileError(
            f"{where}: its bytes must come from a file of the version {sorted(names)}, got {location[:80]!r}"
        )
    path = folder / location
    if path.is_symlink() or not path.is_file():
        raise ModelFileError(f"{where}: {location!r} is not a plain file beside the model")
    offset = _number(entries.get("offset", "0"), where)
    length = _number(entries.get("length", str(needed)), where)
    held = path.stat().st_size
    if length != needed or offset + length > held:
        raise ModelFileError(
            f"{where}: needs {needed} bytes, got {length} from byte {offset} of {held} in {location!r}"
        )


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):  # noqa: PLR2004 - below 2^63
        raise ModelFileError(f"{where}: expected a number of bytes, got {text[:40]!r}")
    return int(text)


def integers(tensor: TensorProto) -> tuple[int, ...] | None:
    """Return the values of a small inline int64 tensor, which may be a shape; None of any other."""
    if tensor.data_type != TensorProto.INT64 or math.prod(tensor.dims) > MAX_SMALL:
        return None
    if tensor.HasField("raw_data"):
        return tuple(np.frombuffer(tensor.raw_data, dtype="<i8").tolist())
    return tuple(tensor.int64_data)

"""Named arrays as messages between supervisor and worker; one that looks like the last costs next to nothing.

A call mostly repeats the names, types and shapes of the one before. Numbers therefore travel as a head that
says these, and the bare bytes behind it; whoever has just made or read the same head needs no closer look.
Text and whatever else is no plain number travels in the form of ``muster_models.tensors``. Both ends are on
one machine, so bytes are in its order.
"""

import math
import struct
from collections.abc import Mapping
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from muster_models.errors import MessageError
from muster_models.tensors import MAX_AXES, MAX_TENSORS, decode_tensors, encode_tensors

Array = NDArray[np.generic]
Shape = Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=MAX_AXES)]
# Not booleans: a byte that is neither 0 nor 1 takes a closer look each time.
_DTYPES = {
    name: np.dtype(name)
    for name in (
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    )
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_GENERAL, _PLAIN = b"\0", b"\1"
_LENGTH = struct.Struct("<I")
_MOST_KEPT = 16 * 1024  # bytes of a head; names are as long as somebody wishes
_head = msgspec.msgpack.Decoder(Annotated[dict[str, tuple[str, Shape]], Meta(max_length=MAX_TENSORS)])
# Of each tensor its name, type and shape; and of one that was read its place as well.
_Known = list[tuple[str, "np.dtype[np.generic]", tuple[int, ...]]]
_Placed = list[tuple[str, "np.dtype[np.generic]", tuple[int, ...], int]]


class TensorMessages:
    """Writes and reads the messages of one end of a channel. Thread safe."""

    def __init__(self) -> None:
        # How the last one began, and what that says; of those that were read, with their length.
        self._written: tuple[bytes, _Known] = (b"", [])
        self._read: tuple[bytes, int, _Placed] = (b"", -1, [])

    def encode(self, arrays: Mapping[str, Array]) -> bytes:
        """Return named arrays as bytes.

        Raises:
            MessageError: An array has a type that has no wire form.
        """
        head, known = self._written
        if known and len(arrays) == len(known):
            try:
                parts = [head]
                for name, dtype, shape in known:
                    array = arrays[name]
                    if array.dtype is not dtype or array.shape != shape:
                        break
                    parts.append(array.tobytes())
                else:
                    return b"".join(parts)
            except (AttributeError, KeyError):  # another name, or no array
                pass
        return self._encode({name: np.asarray(array) for name, array in arrays.items()})

    def decode(self, message: bytes, start: int) -> dict[str, Array]:
        """Parse named arrays; they are copies that may be written to.

        Args:
            message: Ends with them.
            start: Where they begin in it.

        Raises:
            MessageError: Damaged, or not of this form.
        """
        head, length, known = self._read
        if len(message) - start != length or not message.startswith(head, start):
            if not message.startswith(_PLAIN, start):
                return decode_tensors(message[start + len(_GENERAL) :])
            known = self._places(message, start)
        arrays: dict[str, Array] = {}
        try:
            for name, dtype, shape, at in known:  # a comprehension would be a call of its own in Python 3.11
                arrays[name] = np.ndarray(shape, dtype, message, start + at).copy()
        except (ValueError, OverflowError) as error:  # axes that cannot be addressed, although they are empty
            raise MessageError(f"tensors: {error}") from error
        return arrays

    def _encode(self, arrays: Mapping[str, Array]) -> bytes:
        if not arrays or not all(array.dtype in _NAMES for array in arrays.values()):
            return _GENERAL + encode_tensors(arrays)
        described = {name: (_NAMES[array.dtype], array.shape) for name, array in arrays.items()}
        try:
            head = msgspec.msgpack.encode(described)
        except UnicodeEncodeError as error:
            raise MessageError(f"tensors: a name is not valid Unicode: {error}") from error
        head = b"".join((_PLAIN, _LENGTH.pack(len(head)), head))
        # The types as these arrays have them, and not equal ones: they are asked for by identity.
        self._written = head, [(name, array.dtype, array.shape) for name, array in arrays.items()]
        return b"".join((head, *(array.tobytes() for array in arrays.values())))

    def _places(self, message: bytes, start: int) -> _Placed:
        """Parse the head of a message, and keep what it says for the next one."""
        begin = start + len(_PLAIN) + _LENGTH.size
        known: _Placed = []
        try:
            at = begin + _LENGTH.unpack_from(message, start + len(_PLAIN))[0]
            end_of_head = at
            for name, (kind, shape) in _head.decode(message[begin:at]).items():
                known.append((name, _DTYPES[kind], shape, at - start))
                at += math.prod(shape) * _DTYPES[kind].itemsize
        except (struct.error, KeyError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise MessageError(f"tensors: {error}") from error
        if at != len(message):
            raise MessageError(f"tensors: expected {at - start} bytes, got {len(message) - start}")
        if end_of_head - start <= _MOST_KEPT:
            self._read = message[start:end_of_head], at - start, known
        return known

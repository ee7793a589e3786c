"""Numbers as bytes: seven bits a byte, lowest first, the high bit set on all but the last (LEB128)."""

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import SketchError

MAX_BYTES = 9  # of one number, which then stays below 2^63
_MORE = 0x80


def encode(values: NDArray[np.int64]) -> bytes:
    """Return non-negative numbers one after the other."""
    groups = np.maximum(
        1, -(-np.frompyfunc(int.bit_length, 1, 1)(values.astype(object)).astype(np.int64) // 7)
    )
    out = np.zeros((len(values), MAX_BYTES), dtype=np.uint8)
    for index in range(MAX_BYTES):
        more = (groups > index + 1).astype(np.uint8) << 7
        out[:, index] = ((values >> (7 * index)) & 0x7F).astype(np.uint8) | more
    held: NDArray[np.uint8] = out[np.arange(MAX_BYTES) < groups[:, None]]
    return held.tobytes()


def decode(data: bytes, count: int) -> NDArray[np.int64]:
    """Return exactly ``count`` numbers.

    Raises:
        SketchError: There are more or fewer, or one has more than nine bytes.
    """
    groups = np.frombuffer(data, dtype=np.uint8).astype(np.int64)
    lasts = np.flatnonzero(groups < _MORE)
    if len(lasts) != count or len(groups) != (lasts[-1] + 1 if count else 0):
        raise SketchError(f"expected {count} counts in {len(data)} bytes, got {len(lasts)}")
    if not count:
        return lasts
    firsts = np.append(0, lasts[:-1] + 1)
    lengths = lasts - firsts + 1
    if lengths.max() > MAX_BYTES:
        raise SketchError(f"a number has at most {MAX_BYTES} bytes, got {lengths.max()}")
    within = np.arange(len(groups)) - np.repeat(firsts, lengths)
    return np.asarray(np.add.reduceat((groups & 0x7F) << (7 * within), firsts))


def decode_first(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at ``at``, and where it ends.

    Raises:
        SketchError: It does not end within nine bytes.
    """
    value = 0
    for shift, byte in zip(range(0, 7 * MAX_BYTES, 7), data[at : at + MAX_BYTES], strict=False):
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value, at
    raise SketchError("a number does not end")

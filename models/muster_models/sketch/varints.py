"""Numbers as bytes: seven bits a byte, lowest first, the high bit set on all but the last (LEB128)."""

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import SketchError

MAX_BYTES = 9  # of one number, which then stays below 2^63
_MORE = 0x80
_LONGER = 1 << np.arange(7, 7 * MAX_BYTES, 7)  # from each of these on a number has one byte more


def encode(values: NDArray[np.int64]) -> bytes:
    """Return non-negative numbers one after the other."""
    if values.max(initial=0) < _MORE:
        return values.astype(np.uint8).tobytes()
    groups = _LONGER.searchsorted(values, side="right") + 1
    places = np.arange(groups.max())
    has = places < groups[:, None]
    out = ((values[:, None] >> (7 * places)) & 0x7F).astype(np.uint8)
    out |= (places + 1 < groups[:, None]).astype(np.uint8) << 7
    held: NDArray[np.uint8] = out[has]
    return held.tobytes()


def encode_one(value: int) -> bytes:
    """Return one non-negative number, as ``encode`` does."""
    out = bytearray()
    while value >= _MORE:
        out.append(value & 0x7F | _MORE)
        value >>= 7
    out.append(value)
    return bytes(out)


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

"""A sketch as bytes: about 30 bytes per column at 1,000 rows, moments included.

Layout: format byte, mode byte, rows as a varint, four half-precision numbers per column that has moments,
then the counts of each column, but for one that the number of rows implies. Counts are the shorter of

- ``RICE``: what differs from the baseline's expectation, zigzagged and Rice coded, with one parameter for
  bins where rows are expected and one for bins where none are;
- ``DEFLATE``: the counts themselves as varints, deflated without a header.

Counts are exact. Moments are rounded to half precision in units of the baseline: they are for people.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.sketch.baseline import Baseline, ColumnBaseline
from muster_models.sketch.window import NO_MOMENTS, Moments, Sketch

FORMAT = 1
RICE = 0
DEFLATE = 1
MAX_BYTES = 256 * 1024
MAX_ROWS = 2**31
MAX_RICE = 31
_VARINT_BYTES = 9
_HALF = np.dtype("<f2")
_HALF_MAX = 65504.0


def encode(sketch: Sketch, baseline: Baseline) -> bytes:
    """Return the bytes of a sketch.

    Raises:
        SketchError: The sketch belongs to another baseline, or holds more than 2^31 rows.
    """
    if sketch.baseline != baseline.digest:
        raise SketchError(f"expected a sketch of baseline {baseline.digest[:12]}, got {sketch.baseline[:12]}")
    if sketch.rows >= MAX_ROWS:
        raise SketchError(f"a sketch holds fewer than {MAX_ROWS} rows, got {sketch.rows}")
    told = _told(baseline)
    counts = np.concatenate((np.zeros(0, dtype=np.int64), *sketch.counts))[told]
    expected = _expected(sketch.rows, baseline)[told]
    rice = _encode_rice(_zigzag(counts - expected), expected > 0)
    plain = _deflate(_encode_varints(counts))
    mode, body = (RICE, rice) if len(rice) <= len(plain) else (DEFLATE, plain)
    head = bytes((FORMAT, mode)) + _encode_varints(np.array([sketch.rows]))
    return head + _encode_moments(sketch, baseline) + body


def decode(data: bytes, baseline: Baseline) -> Sketch:
    """Parse the bytes of a sketch. Time and memory are bounded by the size of the baseline.

    Raises:
        SketchError: Not a sketch of this baseline, damaged, or of another format.
    """
    if len(data) > MAX_BYTES:
        raise SketchError(f"a sketch has at most {MAX_BYTES} bytes, got {len(data)}")
    if len(data) < 3 or data[0] != FORMAT or data[1] not in (RICE, DEFLATE):  # noqa: PLR2004 - shortest head
        raise SketchError(f"expected sketch format {FORMAT}, got {data[:2].hex() or 'nothing'}")
    rows, at = _decode_varint(data, 2)
    if rows >= MAX_ROWS:
        raise SketchError(f"a sketch holds fewer than {MAX_ROWS} rows, got {rows}")
    width = 4 * _HALF.itemsize * sum(_has_moments(column) for column in baseline.columns)
    body = data[at + width :]
    told = _told(baseline)
    if len(data) < at + width:
        raise SketchError(f"expected {width} bytes of moments, got {len(data) - at}")
    flat = np.zeros(len(told), dtype=np.int64)
    if data[1] == RICE:
        expected = _expected(rows, baseline)[told]
        flat[told] = _unzigzag(_decode_rice(body, expected > 0)) + expected
    else:
        length = int(told.sum())
        flat[told] = _decode_varints(_inflate(body, length * _VARINT_BYTES), length)
    counts = _split(flat, rows, baseline)
    halves = np.frombuffer(data[at : at + width], dtype=_HALF).astype(np.float64)
    return Sketch(baseline.digest, rows, counts, _decode_moments(halves, counts, baseline))


def _told(baseline: Baseline) -> NDArray[np.bool_]:
    """Return which counts are sent: all but the largest expected one of each column, which the rows imply."""
    parts = [np.arange(column.bins) != np.argmax(column.counts) for column in baseline.columns]
    return np.concatenate((np.zeros(0, dtype=bool), *parts))


def _split(flat: NDArray[np.int64], rows: int, baseline: Baseline) -> tuple[NDArray[np.int64], ...]:
    ends = np.cumsum([column.bins for column in baseline.columns])[:-1]
    counts = tuple(np.split(flat, ends)) if baseline.columns else ()
    for column, held in zip(baseline.columns, counts, strict=True):
        # Each first, so that the sum of what garbage holds cannot wrap around.
        if held.min() < 0 or held.max() > rows or held.sum() > rows:
            raise SketchError(f"{column.name!r}: counts must be non-negative and add up to {rows} rows")
        held[np.argmax(column.counts)] = rows - held.sum()
    return counts


def _expected(rows: int, baseline: Baseline) -> NDArray[np.int64]:
    """Return the counts that the baseline predicts, in integers so that every machine agrees."""
    parts = [_expected_column(rows, column) for column in baseline.columns]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _expected_column(rows: int, column: ColumnBaseline) -> NDArray[np.int64]:
    # Scaled down so that rows times count stays below 2^62.
    counts = np.asarray(column.counts, dtype=np.int64)
    shift = max(0, column.rows.bit_length() - 31)
    total = max(1, column.rows >> shift)
    return (rows * (counts >> shift) + total // 2) // total


def _zigzag(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return (values << 1) ^ (values >> 63)


def _unzigzag(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return (values >> 1) ^ -(values & 1)


def _encode_rice(values: NDArray[np.int64], dense: NDArray[np.bool_]) -> bytes:
    """Rice code (Rice and Plaunt, 1971): both parameters, then a unary quotient and low bits per value."""
    parameters = _best_parameter(values[dense]), _best_parameter(values[~dense])
    low = np.where(dense, *parameters)
    quotients = values >> low
    lengths = quotients + 1 + low
    if lengths.sum() > 8 * MAX_BYTES:  # hopeless, and the bits would fill memory: deflate is shorter
        return bytes(MAX_BYTES + 1)
    starts = np.cumsum(lengths) - lengths
    bits = np.zeros(int(lengths.sum()), dtype=np.uint8)
    within = np.arange(int(quotients.sum())) - np.repeat(np.cumsum(quotients) - quotients, quotients)
    bits[np.repeat(starts, quotients) + within] = 1
    for bit in range(max(parameters)):
        has = low > bit
        bits[(starts + quotients + 1 + bit)[has]] = ((values >> np.maximum(low - 1 - bit, 0)) & 1)[has]
    return bytes(parameters) + np.packbits(bits).tobytes()


def _best_parameter(values: NDArray[np.int64]) -> int:
    return int(np.argmin([int((values >> k).sum()) + len(values) * (1 + k) for k in range(MAX_RICE)]))


def _decode_rice(data: bytes, dense: NDArray[np.bool_]) -> NDArray[np.int64]:
    if len(data) < 2 or max(data[:2]) >= MAX_RICE:  # noqa: PLR2004 - two parameters
        raise SketchError("the Rice parameters are missing or out of range")
    low = np.where(dense, data[0], data[1]).astype(np.int64)
    bits = np.unpackbits(np.frombuffer(data[2:], dtype=np.uint8))
    zeros = np.flatnonzero(bits == 0)
    # For each position, where the next zero is: what ends a unary quotient that starts there.
    following = np.append(zeros, len(bits))[np.searchsorted(zeros, np.arange(len(bits) + 1))].tolist()
    starts, ends, at = [], [], 0
    for skip in (low + 1).tolist():
        end = following[at]
        starts.append(at)
        ends.append(end)
        at = end + skip
        if at > len(bits):
            raise SketchError(f"expected {len(dense)} counts, the data end early")
    if len(bits) - at > 7 or bits[at:].any():  # noqa: PLR2004 - padding of the last byte
        raise SketchError("there are data behind the last count")
    tail = np.asarray(ends, dtype=np.int64)
    values = tail - np.asarray(starts, dtype=np.int64)
    for bit in range(int(low.max(initial=0))):
        has = low > bit
        values[has] = (values[has] << 1) | bits[(tail + 1 + bit)[has]]
    return values


def _encode_varints(values: NDArray[np.int64]) -> bytes:
    """Seven bits a byte, lowest first, the high bit set on all but the last (LEB128)."""
    groups = np.maximum(
        1, -(-np.frompyfunc(int.bit_length, 1, 1)(values.astype(object)).astype(np.int64) // 7)
    )
    out = np.zeros((len(values), _VARINT_BYTES), dtype=np.uint8)
    for index in range(_VARINT_BYTES):
        more = (groups > index + 1).astype(np.uint8) << 7
        out[:, index] = ((values >> (7 * index)) & 0x7F).astype(np.uint8) | more
    held: NDArray[np.uint8] = out[np.arange(_VARINT_BYTES) < groups[:, None]]
    return held.tobytes()


def _decode_varints(data: bytes, count: int) -> NDArray[np.int64]:
    values, at = np.zeros(count, dtype=np.int64), 0
    for index in range(count):
        values[index], at = _decode_varint(data, at)
    if at != len(data):
        raise SketchError(f"expected {count} counts, there are data behind them")
    return values


def _decode_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _VARINT_BYTES, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte has its high bit clear
            return value, at
    raise SketchError("a number does not end")


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY)
    return packer.compress(data) + packer.flush()


def _inflate(data: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(-15)
    try:
        plain = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise SketchError(f"damaged counts: {error}") from error
    if len(plain) > limit or not unpacker.eof or unpacker.unused_data:
        raise SketchError("damaged counts: wrong length")
    return plain


def _has_moments(column: ColumnBaseline) -> bool:
    return column.kind != "class"


def _scale(column: ColumnBaseline) -> float:
    return column.sd or max(abs(column.mean), 1.0)


def _encode_moments(sketch: Sketch, baseline: Baseline) -> bytes:
    halves: list[float] = []
    for column, moments in zip(baseline.columns, sketch.moments, strict=True):
        if _has_moments(column):
            scale = _scale(column)
            centred = (value - column.mean for value in (moments.mean, moments.low, moments.high))
            mean, low, high = (value / scale for value in centred)
            halves += (mean, moments.sd / scale, low, high)
    clipped = np.clip(np.asarray(halves), -_HALF_MAX, _HALF_MAX)
    return bytes(clipped.astype(_HALF).tobytes())


def _decode_moments(
    halves: NDArray[np.float64], counts: tuple[NDArray[np.int64], ...], baseline: Baseline
) -> tuple[Moments, ...]:
    quads = iter(halves.reshape(-1, 4))
    return tuple(
        _decode_column_moments(next(quads), held, column) if _has_moments(column) else NO_MOMENTS
        for column, held in zip(baseline.columns, counts, strict=True)
    )


def _decode_column_moments(
    quad: NDArray[np.float64], counts: NDArray[np.int64], column: ColumnBaseline
) -> Moments:
    rows = int(counts[:-1].sum())
    if rows == 0 or not np.isfinite(quad).all():
        return NO_MOMENTS
    scale = _scale(column)
    mean, sd, low, high = (float(value) for value in quad)
    return Moments(
        rows,
        column.mean + mean * scale,
        rows * (sd * scale) * (sd * scale),  # a power of a large float is an error, a product is infinite
        column.mean + low * scale,
        column.mean + high * scale,
    )

"""A sketch as bytes: about 30 bytes per column at 1,000 rows, moments included.

Layout: format byte, mode byte, two bytes of the baseline's SHA-256, rows as a varint, four half-precision
numbers per column that has moments, what is told of categories and pairs behind its length, where the
baseline has some, then the counts of each column, but for one that the number of rows implies. The first
format, that of baselines of the first format, has no bytes of the SHA-256. Counts are the shorter of

- ``RICE``: what differs from the baseline's expectation, zigzagged and Rice coded, with one parameter for
  bins where rows are expected and one for bins where none are;
- ``DEFLATE``: the counts themselves as varints, deflated without a header.

Counts are exact. Moments are rounded to half precision in units of the baseline: they are for people.
"""

import functools
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.sketch import extras, rice, varints
from muster_models.sketch.baseline import Baseline, ColumnBaseline
from muster_models.sketch.extras import Extras
from muster_models.sketch.window import NO_MOMENTS, Moments, Sketch

T = TypeVar("T")
Integers = NDArray[np.int64]

FIRST = 1
FORMAT = 2
RICE = 0
DEFLATE = 1
MAX_BYTES = 256 * 1024
MAX_ROWS = 2**31
_MARK_BYTES = 2
_HALF = np.dtype("<f2")
_HALF_MAX = 65504.0
_CENTRED = np.array([1.0, 0.0, 1.0, 1.0])  # mean, sd, low, high: which are told from the reference's mean on
_AT_ONCE = 2**19  # bits, or counts where those are more, of the sketches that are decoded together


@dataclass(frozen=True, eq=False)
class _Layout:
    """What the format takes from a baseline, in arrays over the bins of all columns one after the other.

    Attributes:
        columns: The slice of each column.
        implied: The bin of each column that is not sent: the largest expected one, which the rows imply.
        told: The bins that are sent.
        firsts: Where each column begins in ``told``.
        shares, totals: Reference rows of each told bin and of its column, both below 2^31.
        moving: Which columns have moments.
        absent: The bins of those columns that hold no finite number, one row for each.
        means, units: Where their moments are told from, and in what.
        form: The format byte.
        mark: By which a sketch of another baseline is told.
        has_extras: Something is told beyond counts.
        pairs: Number of pairs.
    """

    columns: tuple[slice, ...]
    implied: Integers
    told: Integers
    firsts: Integers
    shares: Integers
    totals: Integers
    moving: tuple[bool, ...]
    absent: Integers
    means: NDArray[np.float64]
    units: NDArray[np.float64]
    form: int
    mark: bytes
    has_extras: bool
    pairs: int

    @property
    def bins(self) -> int:
        """Bins of all columns."""
        return len(self.told) + len(self.implied)

    @property
    def moment_bytes(self) -> int:
        """Size of all moments in a message."""
        return 4 * _HALF.itemsize * len(self.means)

    def expected(self, rows: Integers) -> Integers:
        """Return the told counts that the baseline predicts, one column for each number of rows.

        In integers, so that every machine agrees; rows times share stays below 2^62.
        """
        totals = self.totals[:, None]
        return np.asarray((rows * self.shares[:, None] + totals // 2) // totals)


@functools.lru_cache(maxsize=256)
def _layout(baseline: Baseline) -> _Layout:
    columns = baseline.columns
    stops = np.cumsum([0, *(column.bins for column in columns)])
    implied = stops[:-1] + np.array([np.argmax(column.counts) for column in columns], dtype=np.int64)
    told = np.delete(np.arange(stops[-1]), implied)
    shares = np.concatenate((np.zeros(0, dtype=np.int64), *(_shares(column) for column in columns)))
    totals = np.array([max(1, column.rows >> _shift(column)) for column in columns], dtype=np.int64)
    moving = tuple(column.kind in {"numeric", "confidence"} for column in columns)
    scaled = [column for column, moves in zip(columns, moving, strict=True) if moves]
    is_first = baseline.format == FIRST
    special = 1 if is_first else 2
    ends = stops[1:][np.array(moving, dtype=bool)]
    return _Layout(
        columns=tuple(slice(int(start), int(stop)) for start, stop in itertools.pairwise(stops)),
        implied=implied,
        told=told,
        firsts=stops[:-1] - np.arange(len(columns)),
        shares=shares[told],
        totals=np.repeat(totals, np.diff(stops))[told],
        moving=moving,
        absent=ends[:, None] - np.arange(special) - 1,
        means=np.array([column.mean for column in scaled], dtype=np.float64),
        units=np.array([column.sd or max(abs(column.mean), 1.0) for column in scaled], dtype=np.float64),
        form=FIRST if is_first else FORMAT,
        mark=b"" if is_first else bytes.fromhex(baseline.digest[: 2 * _MARK_BYTES]),
        has_extras=extras.are_in(baseline),
        pairs=len(baseline.pairs.pairs) if baseline.pairs else 0,
    )


def _shares(column: ColumnBaseline) -> Integers:
    return np.asarray(column.counts, dtype=np.int64) >> _shift(column)


def _shift(column: ColumnBaseline) -> int:
    return max(0, column.rows.bit_length() - 31)


def encode(sketch: Sketch, baseline: Baseline) -> bytes:
    """Return the bytes of a sketch.

    Raises:
        SketchError: The sketch belongs to another baseline, or holds more than 2^31 rows.
    """
    if sketch.baseline != baseline.digest:
        raise SketchError(f"expected a sketch of baseline {baseline.digest[:12]}, got {sketch.baseline[:12]}")
    if sketch.rows >= MAX_ROWS:
        raise SketchError(f"a sketch holds fewer than {MAX_ROWS} rows, got {sketch.rows}")
    layout = _layout(baseline)
    counts = np.concatenate((np.zeros(0, dtype=np.int64), *sketch.counts))[layout.told]
    expected = layout.expected(np.array([sketch.rows]))[:, 0]
    body = rice.encode(_zigzag(counts - expected), expected > 0, most=MAX_BYTES)
    plain = _deflate(varints.encode(counts))
    mode, body = (DEFLATE, plain) if body is None or len(plain) < len(body) else (RICE, body)
    head = bytes((layout.form, mode)) + layout.mark + varints.encode_one(sketch.rows)
    return head + _encode_moments(sketch, layout) + _encode_extras(sketch, baseline, layout) + body


def _encode_extras(sketch: Sketch, baseline: Baseline, layout: _Layout) -> bytes:
    if not layout.has_extras:
        return b""
    told = extras.encode(sketch, baseline)
    return varints.encode_one(len(told)) + told


def decode(data: bytes, baseline: Baseline) -> Sketch:
    """Parse the bytes of a sketch. Time and memory are bounded by the size of the baseline.

    Raises:
        SketchError: Not a sketch of this baseline, damaged, or of another format.
    """
    (sketch,) = decode_all([data], baseline)
    if isinstance(sketch, SketchError):
        raise sketch
    return sketch


def decode_all(encoded: Sequence[bytes], baseline: Baseline) -> list[Sketch | SketchError]:
    """Return the sketch of each, or the error that ``decode`` raises; many at a time cost a fifth."""
    layout = _layout(baseline)
    return _each(encoded, baseline, lambda read: _sketch(read, baseline, layout))


def rows_of_all(encoded: Sequence[bytes], baseline: Baseline) -> list[int | SketchError]:
    """Return the rows in each sketch, or the error that ``decode`` raises, without making the sketches."""
    return _each(encoded, baseline, lambda read: read.rows)


class _Head(NamedTuple):
    """A message taken apart."""

    rows: int
    mode: int
    moments: bytes
    extras: bytes
    body: bytes


class _Read(NamedTuple):
    """A message that was read.

    Attributes:
        counts: Of the bins of all columns.
        extras: None where the baseline has none.
    """

    rows: int
    moments: bytes
    counts: Integers
    extras: Extras | None


def _each(encoded: Sequence[bytes], baseline: Baseline, make: Callable[[_Read], T]) -> list[T | SketchError]:
    layout = _layout(baseline)
    made: list[T | SketchError] = []
    for some in _batches(encoded, layout):
        heads = [_head(data, layout) for data in some]
        sound = [head for head in heads if isinstance(head, _Head)]
        read = _read_all(sound, layout)
        if layout.has_extras:
            read = _with_extras(sound, read, baseline, layout)
        left = iter(read)
        for head in heads:
            one = head if isinstance(head, SketchError) else next(left)
            made.append(one if isinstance(one, SketchError) else make(one))
    return made


def _with_extras(
    heads: Sequence[_Head], read: Sequence[_Read | SketchError], baseline: Baseline, layout: _Layout
) -> list[_Read | SketchError]:
    told = [
        extras.Told(head.extras, one.rows, [one.counts[column] for column in layout.columns])
        for head, one in zip(heads, read, strict=True)
        if not isinstance(one, SketchError)
    ]
    parsed = iter(extras.decode_all(told, baseline))
    return [one if isinstance(one, SketchError) else _completed(one, next(parsed)) for one in read]


def _completed(read: _Read, parsed: Extras | SketchError) -> _Read | SketchError:
    return parsed if isinstance(parsed, SketchError) else read._replace(extras=parsed)


def _batches(encoded: Sequence[bytes], layout: _Layout) -> Iterator[Sequence[bytes]]:
    """Split messages so that decoding some together takes bounded memory."""
    first = size = 0
    for index, data in enumerate(encoded):
        cost = max(8 * min(len(data), MAX_BYTES), len(layout.told) + layout.pairs)
        if size and size + cost > _AT_ONCE:
            yield encoded[first:index]
            first, size = index, 0
        size += cost
    yield encoded[first:]


def _head(data: bytes, layout: _Layout) -> _Head | SketchError:
    try:
        return _take_apart(data, layout)
    except SketchError as error:
        return error


def _take_apart(data: bytes, layout: _Layout) -> _Head:
    if len(data) > MAX_BYTES:
        raise SketchError(f"a sketch has at most {MAX_BYTES} bytes, got {len(data)}")
    if len(data) < 3 or data[0] != layout.form:  # noqa: PLR2004 - shortest head
        raise SketchError(f"expected sketch format {layout.form}, got {data[:1].hex() or 'nothing'}")
    if data[1] not in (RICE, DEFLATE):
        raise SketchError(f"expected counts in mode {RICE} or {DEFLATE}, got {data[1]}")
    begin = 2 + len(layout.mark)
    if data[2:begin] != layout.mark:
        raise SketchError(f"expected a sketch of baseline {layout.mark.hex()}, got {data[2:begin].hex()}")
    rows, at = varints.decode_first(data, begin)
    if rows >= MAX_ROWS:
        raise SketchError(f"a sketch holds fewer than {MAX_ROWS} rows, got {rows}")
    stop = at + layout.moment_bytes
    length, begin = varints.decode_first(data, stop) if layout.has_extras else (0, stop)
    if len(data) < begin + length:
        raise SketchError(f"expected {begin + length} bytes before the counts, got {len(data)}")
    return _Head(rows, data[1], data[at:stop], data[begin : begin + length], data[begin + length :])


def _read_all(heads: Sequence[_Head], layout: _Layout) -> list[_Read | SketchError]:
    """Return the counts of messages, in their order; those in Rice codes are decoded together."""
    coded = [head for head in heads if head.mode == RICE]
    read = iter(_read_rice(coded, layout) if coded else ())
    return [next(read) if head.mode == RICE else _read_deflate(head, layout) for head in heads]


def _read_rice(heads: Sequence[_Head], layout: _Layout) -> list[_Read | SketchError]:
    expected = layout.expected(np.array([head.rows for head in heads]))
    values, problems = rice.decode([head.body for head in heads], expected > 0)
    read = _check(heads, _unzigzag(values) + expected, layout)
    return [
        one if problem is None else SketchError(problem) for one, problem in zip(read, problems, strict=True)
    ]


def _read_deflate(head: _Head, layout: _Layout) -> _Read | SketchError:
    length = len(layout.told)
    try:
        told = varints.decode(_inflate(head.body, length * varints.MAX_BYTES), length)
    except SketchError as error:
        return error
    return _check([head], told[:, None], layout)[0]


def _check(heads: Sequence[_Head], told: Integers, layout: _Layout) -> list[_Read | SketchError]:
    """Return counts with those that the rows imply; an error where they cannot be counts of these rows."""
    rows = np.array([head.rows for head in heads])
    # Each first, so that the sum of what garbage holds cannot wrap around.
    wrong = (told < 0) | (told > rows)
    implied = rows - np.add.reduceat(np.where(wrong, 0, told), layout.firsts, axis=0)
    flat = np.empty((layout.bins, len(heads)), dtype=np.int64)
    flat[layout.told] = told
    flat[layout.implied] = implied
    bad: list[bool] = np.logical_or((implied < 0).any(axis=0), wrong.any(axis=0)).tolist()
    return [
        SketchError(f"the counts of each column must be non-negative and add up to {head.rows} rows")
        if is_bad
        else _Read(head.rows, head.moments, flat[:, index], None)
        for index, (head, is_bad) in enumerate(zip(heads, bad, strict=True))
    ]


def _sketch(read: _Read, baseline: Baseline, layout: _Layout) -> Sketch:
    flat = np.ascontiguousarray(read.counts)
    counts = tuple([flat[column] for column in layout.columns])
    moments = _decode_moments(read, flat, layout)
    if read.extras is None:
        return Sketch(baseline.digest, read.rows, counts, moments)
    return Sketch(baseline.digest, read.rows, counts, moments, read.extras.others, read.extras.pairs)


def _zigzag(values: Integers) -> Integers:
    return (values << 1) ^ (values >> 63)


def _unzigzag(values: Integers) -> Integers:
    return (values >> 1) ^ -(values & 1)


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


def _encode_moments(sketch: Sketch, layout: _Layout) -> bytes:
    held = [moments for moments, moves in zip(sketch.moments, layout.moving, strict=True) if moves]
    told = np.array([(one.mean, one.sd, one.low, one.high) for one in held]).reshape(-1, 4)
    with np.errstate(over="ignore", invalid="ignore"):  # of values near the largest float
        halves = (told - layout.means[:, None] * _CENTRED) / layout.units[:, None]
        return bytes(np.clip(halves, -_HALF_MAX, _HALF_MAX).astype(_HALF).tobytes())


def _decode_moments(read: _Read, flat: Integers, layout: _Layout) -> tuple[Moments, ...]:
    """Return the moments of each column: none for a class, for a column without values, and for nonsense."""
    halves = np.frombuffer(read.moments, dtype=_HALF).astype(np.float64).reshape(-1, 4)
    present = read.rows - flat[layout.absent].sum(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        quads = halves * layout.units[:, None] + layout.means[:, None] * _CENTRED
        quads[:, 1] *= present * quads[:, 1]  # from the deviation to the sum of squares
    has = (present > 0) & np.isfinite(halves).all(axis=1)
    made = (
        Moments(rows, *quad) if held else NO_MOMENTS
        for rows, quad, held in zip(present.tolist(), quads.tolist(), has.tolist(), strict=True)
    )
    return tuple([next(made) if moves else NO_MOMENTS for moves in layout.moving])

"""What a sketch says beyond counts, as bytes: the other values of each category, and the pairs.

A category of which no row held another value takes no byte. Otherwise: the number of counters, each as its
key and rows, then the registers in Rice codes. The pairs are what differs from the reference's products, in
Rice codes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.sketch import rice, varints
from muster_models.sketch.baseline import Baseline, ColumnBaseline
from muster_models.sketch.categories import HEAVY, MAX_NAME, MAX_RANK, NONE, REGISTERS, Others
from muster_models.sketch.pairs import Pairs
from muster_models.sketch.window import Sketch

Integers = NDArray[np.int64]

MAX_BYTES = 64 * 1024
_KEY = "#"  # before the two digits by which a name is known that is not revealed


class Extras(NamedTuple):
    """What is told beyond counts."""

    others: tuple[Others, ...]
    pairs: Integers


def are_in(baseline: Baseline) -> bool:
    """Tell whether sketches of a baseline say more than counts."""
    return bool(baseline.categories or baseline.pairs)


def encode(sketch: Sketch, baseline: Baseline) -> bytes:
    """Return the bytes of a sketch's others and pairs.

    Raises:
        SketchError: The pairs are too far from the reference for this form.
    """
    told = b"".join(
        _encode_others(others, reveal=column.reveal)
        for others, column in zip(sketch.others, baseline.categories, strict=True)
    )
    if baseline.pairs is None:
        return told
    values = sketch.pairs - _expected(baseline, baseline.pairs, sketch.rows)
    coded = rice.encode((values << 1) ^ (values >> 63), np.ones(len(values), dtype=bool), most=MAX_BYTES)
    if coded is None:
        raise SketchError(f"the pairs of {sketch.rows} rows take more than {MAX_BYTES} bytes")
    return told + coded


class Told(NamedTuple):
    """The extras of one sketch as they came.

    Attributes:
        data: Of any origin.
        counts: Of every column, already checked.
    """

    data: bytes
    rows: int
    counts: Sequence[Integers]


def decode_all(told: Sequence[Told], baseline: Baseline) -> list[Extras | SketchError]:
    """Parse others and pairs of many sketches; time and memory are bounded by the size of the data.

    Returns:
        Of each, what it says, or why it is not what ``encode`` writes or these counts can have.
    """
    read = [_read_others(one, baseline) for one in told]
    sound = [
        (one, rest[1]) for one, rest in zip(told, read, strict=True) if not isinstance(rest, SketchError)
    ]
    pairs = iter(_read_pairs([one for one, _ in sound], [rest for _, rest in sound], baseline))
    return [one if isinstance(one, SketchError) else _joined(one[0], next(pairs)) for one in read]


def _joined(others: tuple[Others, ...], pairs: Integers | SketchError) -> Extras | SketchError:
    return pairs if isinstance(pairs, SketchError) else Extras(others, pairs)


def _read_others(told: Told, baseline: Baseline) -> tuple[tuple[Others, ...], bytes] | SketchError:
    """Return the others of every category, and the data behind them."""
    at, others = 0, []
    try:
        for column, held in zip(baseline.columns, told.counts, strict=True):
            if column.kind == "category":
                found, at = _decode_others(told.data, at, int(held[column.ordinary - 1]), column)
                others.append(found)
    except SketchError as error:
        return error
    return tuple(others), told.data[at:]


def _encode_others(others: Others, *, reveal: bool) -> bytes:
    if not others.rows:
        return b""
    parts = [bytes((len(others.heavy),))]
    for name, rows in others.heavy:
        key = _with_length(name.encode()) if reveal else bytes.fromhex(name.removeprefix(_KEY))
        parts.append(key + varints.encode_one(rows))
    registers = np.frombuffer(others.registers, dtype=np.uint8).astype(np.int64)
    coded = rice.encode(registers, np.ones(REGISTERS, dtype=bool), most=MAX_BYTES)
    assert coded is not None  # 64 numbers below 32
    return b"".join(parts) + _with_length(coded)


def _decode_others(data: bytes, at: int, rows: int, column: ColumnBaseline) -> tuple[Others, int]:
    if not rows:
        return NONE, at
    if at >= len(data) or data[at] > HEAVY:
        raise SketchError(f"{column.name!r}: expected at most {HEAVY} counters of other values")
    heavy = []
    amount, at = data[at], at + 1
    for _ in range(amount):
        if column.reveal:
            text, at = _read(data, at, most=4 * MAX_NAME)
            name = _text(text, column)
        else:
            name, at = f"{_KEY}{data[at : at + 1].hex()}", at + 1
        held, at = varints.decode_first(data, at)
        heavy.append((name, held))
    coded, at = _read(data, at, most=MAX_BYTES)
    values, problems = rice.decode([coded], np.ones((REGISTERS, 1), dtype=bool))
    registers = values[:, 0]
    if problems[0] is not None or registers.max() > MAX_RANK or not 0 < np.count_nonzero(registers) <= rows:
        raise SketchError(f"{column.name!r}: damaged registers: {problems[0] or 'not of these rows'}")
    total = sum(held for _, held in heavy)
    in_order = sorted(set(heavy), key=lambda counter: (-counter[1], counter[0]))
    if (
        total > rows
        or in_order != heavy
        or len({name for name, _ in heavy}) < amount
        or (heavy and heavy[-1][1] < 1)
    ):
        raise SketchError(
            f"{column.name!r}: counters of {total} rows in no order, of {rows} that have other values"
        )
    return Others(rows, tuple(heavy), bytes(registers.astype(np.uint8))), at


def _text(data: bytes, column: ColumnBaseline) -> str:
    try:
        name = data.decode()
    except UnicodeDecodeError as error:
        raise SketchError(f"{column.name!r}: a name is not text: {error}") from error
    if len(name) > MAX_NAME or name in column.values:
        raise SketchError(f"{column.name!r}: {name[:MAX_NAME]!r} is not the name of another value")
    return name


def _expected(baseline: Baseline, pairs: Pairs, rows: int) -> Integers:
    """Return the products that the reference predicts; two roundings, which every machine does alike."""
    products = np.array([pair.products for pair in pairs.pairs], dtype=np.float64)
    reference = max(1, baseline.columns[pairs.columns[0].column].rows) if pairs.columns else 1
    return np.asarray(np.rint(products * (rows / reference)).astype(np.int64))


def _read_pairs(
    told: Sequence[Told], data: Sequence[bytes], baseline: Baseline
) -> list[Integers | SketchError]:
    """Return the sums of products of each; what is not one is an error."""
    if baseline.pairs is None or not told:
        none = np.zeros(0, dtype=np.int64)
        return [SketchError(f"{len(rest)} bytes are left over") if rest else none for rest in data]
    pairs = baseline.pairs
    values, problems = rice.decode(data, np.ones((len(pairs.pairs), len(data)), dtype=bool))
    expected = np.stack([_expected(baseline, pairs, one.rows) for one in told], axis=1)
    products = ((values >> 1) ^ -(values & 1)) + expected
    squares = np.array([_squares(pairs, one.counts) for one in told], dtype=np.float64).T
    first, second = pairs.places()
    # Cauchy and Schwarz: what is larger is no sum of products of these counts.
    wrong = (np.square(products, dtype=np.float64) > squares[first] * squares[second]).any(axis=0)
    too_large = "a sum of products is larger than the counts of its columns allow"
    return [
        SketchError(f"pairs: {problem or too_large}") if problem or is_wrong else products[:, index]
        for index, (problem, is_wrong) in enumerate(zip(problems, wrong.tolist(), strict=True))
    ]


def _squares(pairs: Pairs, counts: Sequence[Integers]) -> list[int]:
    """Return the sum of squared scores of each column that is in a pair."""
    return [
        int(counts[paired.column][: len(paired.scores)] @ np.square(paired.scores, dtype=np.int64))
        for paired in pairs.columns
    ]


def _with_length(data: bytes) -> bytes:
    return varints.encode_one(len(data)) + data


def _read(data: bytes, at: int, *, most: int) -> tuple[bytes, int]:
    length, at = varints.decode_first(data, at)
    if length > min(most, len(data) - at):
        raise SketchError(f"expected at most {min(most, len(data) - at)} bytes, got {length}")
    return data[at : at + length], at + length

"""Sketches with categories and pairs as bytes: exact, bounded, and garbage ends in one error."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_models.errors import SketchError
from muster_models.sketch import codec, extras
from muster_models.sketch.axes import Axes
from muster_models.sketch.baseline import Baseline, decode_baseline, make_baseline
from muster_models.sketch.categories import HEAVY, MAX_RANK, Others
from muster_models.sketch.pairs import Pair, Pairs
from muster_models.sketch.rows import Rows
from muster_models.sketch.window import Sketch, empty, merge, sketch_rows
from support.mutation import mutate
from support.sketches import BASELINE, FULL, cells, full_reference, reference

SAMPLE = 20_000  # damaged messages of every run
ALL = 1_000_000  # of the full run
AT_ONCE = 200


def round_trip(sketch: Sketch, baseline: Baseline = FULL) -> Sketch:
    return codec.decode(codec.encode(sketch, baseline), baseline)


def strangers(rows: int) -> Sketch:
    """Return a sketch in which every city and code is one that the baseline does not hold."""
    names = np.array([f"stranger {index % 12}" for index in range(rows)], dtype=object)
    return sketch_rows(Rows(full_reference(rows).numbers, (names, np.full(rows, 99))), FULL)


@given(cells())
def test_counts_pairs_and_others_survive_exactly(rows: Rows) -> None:
    sketch = sketch_rows(rows, FULL)

    assert round_trip(sketch) == sketch
    assert round_trip(sketch).others == sketch.others


@given(cells(), cells())
def test_decoded_sketches_merge_as_the_originals_do(first: Rows, second: Rows) -> None:
    a, b = sketch_rows(first, FULL), sketch_rows(second, FULL)

    assert merge(round_trip(a), round_trip(b)) == merge(a, b)
    assert merge(round_trip(a), round_trip(b)).others == merge(a, b).others


def test_names_leave_the_device_only_where_the_baseline_says_so() -> None:
    rows = full_reference(50)
    secret = np.array(["anna"] * 50, dtype=object)
    sketch = sketch_rows(Rows(rows.numbers, (secret, secret)), FULL)
    data = codec.encode(sketch, FULL)

    assert sketch.others[0].heavy == (("anna", 50),)
    assert [len(name) for name, _ in sketch.others[1].heavy] == [3]  # "#" and two digits
    assert data.count(b"anna") == 1


def test_a_category_without_other_values_takes_no_byte_beyond_its_counts() -> None:
    one = make_baseline(
        full_reference(), {"a": "numeric", "b": "category", "c": "numeric", "d": "category", "e": "numeric"}
    )
    known = sketch_rows(full_reference(100), one)

    assert extras.encode(known, one) == b""


@pytest.mark.parametrize("form", [0, 1, 3, 255])
def test_another_format_is_refused(form: int) -> None:
    data = codec.encode(strangers(10), FULL)

    with pytest.raises(SketchError, match=f"expected sketch format 2, got {form:02x}"):
        codec.decode(bytes((form,)) + data[1:], FULL)


def test_the_sketch_of_another_baseline_is_refused_even_where_it_could_be_read() -> None:
    columns = (msgspec.structs.replace(BASELINE.columns[0], unit="K"), *BASELINE.columns[1:])
    other = Baseline(columns)
    data = codec.encode(sketch_rows(reference(10), BASELINE), BASELINE)

    with pytest.raises(SketchError, match=f"expected a sketch of baseline {other.digest[:4]}, got"):
        codec.decode(data, other)


def forged(heavy: tuple[tuple[str, int], ...] | None, registers: bytes | None) -> bytes:
    """Return the bytes of a sketch whose first category claims something that cannot be."""
    sketch = strangers(20)
    honest = sketch.others[0]
    claimed = Others(20, honest.heavy if heavy is None else heavy, registers or honest.registers)
    return codec.encode(replace(sketch, others=(claimed, sketch.others[1])), FULL)


@pytest.mark.parametrize(
    ("heavy", "registers", "message"),
    [
        ((("a", 21),), None, "counters of 21 rows in no order, of 20"),
        ((("a", 1), ("b", 2)), None, "in no order"),
        ((("a", 2), ("a", 2)), None, "in no order"),
        ((("a", 0),), None, "in no order"),
        ((("berlin", 1),), None, "is not the name of another value"),
        ((("x" * 65, 1),), None, "is not the name of another value"),
        ((("x" * 300, 1),), None, "expected at most"),
        (tuple((f"{index}", 1) for index in range(HEAVY + 1)), None, "at most 8 counters"),
        (None, bytes(64), "damaged registers"),
        (None, bytes([MAX_RANK + 1]) + bytes(63), "damaged registers"),
        (None, bytes([1] * 21 + [0] * 43), "damaged registers"),
    ],
    ids=str,
)
def test_other_values_that_cannot_be_are_refused(
    heavy: tuple[tuple[str, int], ...] | None, registers: bytes | None, message: str
) -> None:
    with pytest.raises(SketchError, match=message):
        codec.decode(forged(heavy, registers), FULL)


def test_products_that_the_counts_do_not_allow_are_refused() -> None:
    sketch = strangers(20)
    data = codec.encode(replace(sketch, pairs=sketch.pairs + 1_000_000), FULL)

    with pytest.raises(SketchError, match="larger than the counts of its columns allow"):
        codec.decode(data, FULL)


def test_pairs_too_far_from_the_reference_for_this_form_are_refused() -> None:
    sketch = replace(strangers(20), pairs=np.full(2, 2**60))

    with pytest.raises(SketchError, match="the pairs of 20 rows take more than"):
        codec.encode(sketch, FULL)


def test_what_is_refused_is_refused_without_making_the_sketch_too() -> None:
    """Ingest asks only for the rows, and must not store what nobody can read later."""
    (answer,) = codec.rows_of_all([forged(None, bytes(64))], FULL)

    assert isinstance(answer, SketchError)


def seeds() -> list[tuple[bytes, Baseline]]:
    """Return sound messages of both formats, in both ways of writing counts."""
    far = [np.eye(1, c.bins, c.ordinary - 1, dtype=np.int64)[0] * 1000 for c in BASELINE.columns]
    lone = Sketch(BASELINE.digest, 1000, tuple(far), empty(BASELINE).moments)
    full = (empty(FULL), strangers(5), strangers(300), sketch_rows(full_reference(100), FULL))
    plain = (empty(BASELINE), lone, sketch_rows(reference(200), BASELINE))
    return [(codec.encode(sketch, FULL), FULL) for sketch in full] + [
        (codec.encode(sketch, BASELINE), BASELINE) for sketch in plain
    ]


def damaged(seed: int) -> Iterator[tuple[bytes, Baseline]]:
    """Yield messages that are damaged, or are not messages at all."""
    chance, sound = random.Random(seed), seeds()
    while True:
        data, baseline = chance.choice(sound)
        match chance.randrange(8):
            case 0:
                yield chance.randbytes(chance.randrange(120)), baseline
            case 1:
                yield data[:4] + chance.randbytes(chance.randrange(120)), baseline
            case _:
                yield mutate(data, chance), baseline


def is_sound(sketch: Sketch, baseline: Baseline) -> bool:
    return (
        [int(held.sum()) for held in sketch.counts] == [sketch.rows] * len(baseline.columns)
        and all(int(held.min()) >= 0 for held in sketch.counts)
        and all(len(other.heavy) <= HEAVY and other.error >= 0 for other in sketch.others)
    )


def survivors(messages: Sequence[tuple[bytes, Baseline]]) -> Iterator[tuple[Sketch, Baseline]]:
    for baseline in (BASELINE, FULL):
        found = codec.decode_all([data for data, of in messages if of is baseline], baseline)
        yield from ((sketch, baseline) for sketch in found if isinstance(sketch, Sketch))


def fuzz(count: int, seed: int) -> int:
    """Decode so many damaged messages, and return how many were still sketches."""
    messages, held = damaged(seed), 0
    for _ in range(count // AT_ONCE):
        for sketch, baseline in survivors(list(islice(messages, AT_ONCE))):
            held += 1
            assert is_sound(sketch, baseline)
            if held % 10 == 0:
                assert round_trip(sketch, baseline) == sketch
    return held


def test_damaged_messages_are_refused_or_still_sketches() -> None:
    assert 0 < fuzz(SAMPLE, seed=1) < SAMPLE / 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_damaged_messages_are_refused_or_still_sketches() -> None:
    assert 0 < fuzz(ALL, seed=2) < ALL / 2


@given(st.integers(0, 2**32))
def test_a_damaged_baseline_is_refused_or_still_one(seed: int) -> None:
    data, chance = FULL.encode(), random.Random(seed)
    for _ in range(5):
        try:
            baseline = decode_baseline(mutate(data, chance))
        except SketchError:
            continue
        numbers = sum(column.kind != "category" for column in baseline.columns)
        names = (np.array(["a", None], dtype=object),) * len(baseline.categories)
        sketch = sketch_rows(Rows(np.zeros((2, numbers)), names), baseline)

        assert decode_baseline(baseline.encode()) == baseline
        assert round_trip(sketch, baseline) == sketch


def with_column(index: int, **changes: object) -> Baseline:
    column = msgspec.structs.replace(FULL.columns[index], **changes)
    return msgspec.structs.replace(FULL, columns=(*FULL.columns[:index], column, *FULL.columns[index + 1 :]))


def with_pairs(*pairs: Pair) -> Baseline:
    assert FULL.pairs is not None
    return msgspec.structs.replace(FULL, pairs=Pairs(FULL.pairs.columns, pairs))


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (with_column(1, values=("a", "a", "b")), "values that differ"),
        (with_column(1, edges=(1.0,)), "no edges"),
        (with_column(1, values=("a",)), "expected 4 counts, got 6"),
        (with_column(0, values=("a",)), "only a category has values"),
        (with_column(0, reveal=True), "only a category"),
        (with_pairs(Pair(0, 0, 1, 1.0)), "pairs: columns 0 and 0 of 3"),
        (with_pairs(Pair(0, 3, 1, 1.0)), "pairs: columns 0 and 3 of 3"),
        (with_pairs(Pair(0, 1, 2**60, 1.0)), "below 2\\^53"),
        (with_pairs(Pair(0, 1, 1, float("nan"))), "finite"),
        (with_pairs(Pair(0, 1, 1, -1.0)), "finite"),
        (msgspec.structs.replace(FULL, axes=(Axes("x", b"", b""),)), "no vectors"),
        (msgspec.structs.replace(FULL, axes=(Axes("x", bytes(8), bytes(12)),)), "no vectors"),
        (msgspec.structs.replace(FULL, axes=(Axes("x", bytes(4), b"\x00\x00\xc0\x7f"),)), "must be finite"),
        (msgspec.structs.replace(FULL, axes=(Axes("x", bytes(80_000), bytes(80_000 * 14)),)), "at most"),
    ],
)
def test_a_baseline_that_contradicts_itself_is_refused(baseline: Baseline, message: str) -> None:
    with pytest.raises(SketchError, match=message):
        decode_baseline(baseline.encode())


def test_the_first_format_has_no_categories() -> None:
    data = msgspec.msgpack.encode(msgspec.structs.replace(FULL, format=1, pairs=None))

    with pytest.raises(SketchError, match="counts, got"):
        decode_baseline(data)


def test_the_others_of_nothing_are_nothing() -> None:
    assert Others().distinct == 0
    assert Others().error == 0

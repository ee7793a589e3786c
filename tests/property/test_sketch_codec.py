"""Sketches as bytes: counts come back exactly, garbage ends in one error, the size is as promised."""

import random
import time
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.sketch import codec
from muster_models.sketch.baseline import MAX_BYTES, Baseline, decode_baseline, make_baseline
from muster_models.sketch.window import Sketch, empty, merge, sketch_rows
from support.mutation import mutate
from support.sketches import BASELINE, CLASSES, KINDS, Rows, matrices, reference

SECONDS = 1.0
MARK = bytes.fromhex(BASELINE.digest[:4])
HEADS = tuple(bytes((codec.FORMAT, mode)) + MARK for mode in (codec.RICE, codec.DEFLATE))


def round_trip(sketch: Sketch, baseline: Baseline = BASELINE) -> Sketch:
    return codec.decode(codec.encode(sketch, baseline), baseline)


@given(matrices())
def test_counts_survive_exactly(rows: Rows) -> None:
    sketch = sketch_rows(rows, BASELINE)

    assert round_trip(sketch) == sketch


@given(st.integers(0, 2**30), st.integers(0, 2**32))
def test_counts_of_any_size_survive_exactly(rows: int, seed: int) -> None:
    """Also those that no honest device would send: all rows in bins where none are expected."""
    chance = np.random.default_rng(seed)
    counts = tuple(
        chance.multinomial(rows, chance.dirichlet(np.full(column.bins, 0.05))) for column in BASELINE.columns
    )
    sketch = Sketch(BASELINE.digest, rows, counts, empty(BASELINE).moments)

    assert round_trip(sketch) == sketch


@given(matrices(), matrices())
def test_decoded_sketches_merge_as_the_originals_do(first: Rows, second: Rows) -> None:
    a, b = sketch_rows(first, BASELINE), sketch_rows(second, BASELINE)

    assert merge(round_trip(a), round_trip(b)) == merge(a, b)


@given(matrices())
def test_what_was_decoded_encodes_to_the_same_bytes(rows: Rows) -> None:
    data = codec.encode(sketch_rows(rows, BASELINE), BASELINE)

    assert codec.encode(codec.decode(data, BASELINE), BASELINE)[:2] == data[:2]
    assert codec.decode(data, BASELINE) == round_trip(codec.decode(data, BASELINE))


def test_moments_survive_to_half_precision() -> None:
    rows = reference(1_000, seed=8)
    sketch = sketch_rows(rows, BASELINE)

    for before, after, column in zip(
        sketch.moments, round_trip(sketch).moments, BASELINE.columns, strict=True
    ):
        if column.kind == "class":
            continue
        assert after.rows == before.rows
        assert after.mean == pytest.approx(before.mean, abs=0.002 * column.sd)
        assert after.sd == pytest.approx(before.sd, rel=0.002)
        assert after.low == pytest.approx(before.low, abs=0.005 * column.sd)
        assert after.high == pytest.approx(before.high, abs=0.005 * column.sd)


def test_a_sketch_of_nothing_survives() -> None:
    assert round_trip(empty(BASELINE)) == empty(BASELINE)


def test_a_baseline_without_columns_has_a_sketch() -> None:
    none = Baseline(())
    sketch = sketch_rows(np.zeros((5, 0)), none)

    assert round_trip(sketch, none) == sketch


def test_a_sketch_of_another_baseline_is_refused() -> None:
    other = make_baseline(reference(seed=4), KINDS, classes=CLASSES)

    with pytest.raises(SketchError, match="expected a sketch of baseline"):
        codec.encode(sketch_rows(reference(5), other), BASELINE)


def test_more_rows_than_the_format_holds_are_refused() -> None:
    sketch = empty(BASELINE)

    with pytest.raises(SketchError, match="fewer than 2147483648 rows"):
        codec.encode(Sketch(sketch.baseline, 2**31, sketch.counts, sketch.moments), BASELINE)


def decodes(data: bytes) -> Sketch | None:
    """Return the sketch of some bytes, or None where they are refused."""
    try:
        return codec.decode(data, BASELINE)
    except SketchError:
        return None


@given(matrices(), st.integers(0, 2**32))
def test_damaged_bytes_are_refused_or_still_a_sketch_of_the_baseline(rows: Rows, seed: int) -> None:
    data, chance = codec.encode(sketch_rows(rows, BASELINE), BASELINE), random.Random(seed)
    for _ in range(20):
        sketch = decodes(mutate(data, chance))
        if sketch is not None:
            assert [int(held.sum()) for held in sketch.counts] == [sketch.rows] * len(KINDS)
            assert min(int(held.min()) for held in sketch.counts) >= 0
            assert round_trip(sketch) == sketch


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_still_a_sketch(data: bytes) -> None:
    for head in (b"", *HEADS):
        sketch = decodes(head + data)

        assert sketch is None or sketch.baseline == BASELINE.digest


@pytest.mark.parametrize(
    "data", [b"", b"\x02", b"\x03\x00" + MARK, b"\x02\x09" + MARK, b"\x02\x00" + MARK + b"\xff" * 20]
)
def test_bytes_of_no_known_form_are_refused(data: bytes) -> None:
    with pytest.raises(SketchError):
        codec.decode(data, BASELINE)


HEAD = HEADS[1] + b"\x05"
MOMENTS = bytes(8 * sum(column.kind != "class" for column in BASELINE.columns))


def packed(plain: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(plain) + packer.flush()


@pytest.mark.parametrize(
    "data",
    [
        HEAD + MOMENTS + packed(bytes(50_000_000)),  # 50 kB that unpack to 50 MB
        HEADS[0] + b"\x05" + MOMENTS + b"\x00\x00" + b"\xff" * 250_000,
        HEADS[0] + b"\x05" + MOMENTS + b"\x1e\x1e" + bytes(250_000),
        HEAD + MOMENTS + packed(b"\xff" * 5_000),
        HEADS[0] + bytes(codec.MAX_BYTES),
    ],
    ids=["deflate bomb", "one endless number", "too many bits", "numbers that do not end", "too large"],
)
def test_hostile_bytes_are_refused_soon(data: bytes) -> None:
    started = time.perf_counter()
    with pytest.raises(SketchError):
        codec.decode(data, BASELINE)

    assert time.perf_counter() - started < SECONDS


@given(st.integers(0, 2**32))
def test_a_damaged_baseline_is_refused_or_still_one(seed: int) -> None:
    data, chance = BASELINE.encode(), random.Random(seed)
    for _ in range(5):
        try:
            baseline = decode_baseline(mutate(data, chance))
        except SketchError:
            continue

        assert decode_baseline(baseline.encode()).digest == baseline.digest
        assert len(sketch_rows(np.zeros((2, len(baseline.columns))), baseline).counts) == len(
            baseline.columns
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": (1,) * 3}, "expected .* counts, got 3"),
        ({"edges": (1.0, 1.0)}, "counts"),
        ({"edges": (2.0, 1.0), "counts": (1,) * 5}, "edges must be finite and ascending"),
        ({"edges": (0.0, float("nan")), "counts": (1,) * 5}, "edges must be finite and ascending"),
        ({"edges": (0.0, float("inf")), "counts": (1,) * 5}, "edges must be finite and ascending"),
        ({"edges": (0.0,), "counts": (0, 0, 0, 0)}, "not all zero"),
        ({"edges": (0.0,), "counts": (-1, 2, 3, 0)}, "non-negative"),
        ({"edges": (0.0,), "counts": (2**50, 0, 0, 0)}, "counts must"),
        ({"mean": float("nan")}, "mean and sd must be finite"),
        ({"sd": -1.0}, "mean and sd must be finite"),
        ({"kind": "text"}, "Invalid enum value"),
    ],
    ids=str,
)
def test_a_baseline_that_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    column = msgspec.structs.replace(BASELINE.columns[0], **changes)

    with pytest.raises(SketchError, match=message):
        decode_baseline(Baseline((column,)).encode())


def test_a_baseline_too_large_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(SketchError, match="at most"):
        decode_baseline(bytes(MAX_BYTES + 1))


def mixed(rows: int, seed: int) -> NDArray[np.float64]:
    """Return twenty columns as instruments give them: normal, skewed, heavy-tailed, rounded, mostly zero."""
    chance = np.random.default_rng(seed)
    columns = []
    for _ in range(4):
        columns += [
            chance.normal(20, 5, rows),
            chance.lognormal(0, 1, rows),
            chance.standard_t(3, rows),
            np.round(chance.normal(1013, 8, rows), 1),
            np.where(chance.random(rows) < 0.8, 0.0, chance.gamma(2, size=rows)),
        ]
    return np.column_stack(columns)


@pytest.mark.parametrize("shift", [0.0, 0.5], ids=["as the reference", "drifted"])
def test_a_window_of_a_thousand_rows_takes_at_most_thirty_bytes_a_feature(shift: float) -> None:
    kinds = {f"f{index}": KINDS["plain"] for index in range(20)}
    baseline = make_baseline(mixed(20_000, seed=1), kinds)
    sizes = [
        len(codec.encode(sketch_rows(mixed(1_000, seed=seed) + shift, baseline), baseline)) / len(kinds)
        for seed in range(2, 12)
    ]

    assert np.mean(sizes) <= (30 if shift == 0 else 36)


@given(st.lists(matrices(), min_size=1, max_size=12), st.integers(0, 2**32), st.integers(1, 40_000))
def test_sketches_read_together_are_those_read_alone(many: list[Rows], seed: int, at_once: int) -> None:
    """Also beside damaged ones, and however they are split into pieces of bounded memory."""
    chance = random.Random(seed)
    sound = [codec.encode(sketch_rows(rows, BASELINE), BASELINE) for rows in many]
    encoded = [*sound, *(mutate(data, chance) for data in sound), b""]
    chance.shuffle(encoded)
    alone = [decodes(data) for data in encoded]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_AT_ONCE", at_once)
        together = codec.decode_all(encoded, BASELINE)
        rows = codec.rows_of_all(encoded, BASELINE)

    assert [None if isinstance(one, SketchError) else one for one in together] == alone
    assert [None if isinstance(one, SketchError) else one.moments for one in together] == [
        None if one is None else one.moments for one in alone
    ]
    assert [str(one) for one in rows] == [
        str(one) if isinstance(one, SketchError) else str(one.rows) for one in together
    ]


def test_nothing_to_read_is_nothing_read() -> None:
    assert codec.decode_all([], BASELINE) == []
    assert codec.rows_of_all([], BASELINE) == []

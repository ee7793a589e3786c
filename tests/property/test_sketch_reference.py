"""Every kind of column at once, held exactly against the slow and obvious way."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muster_models.sketch.categories import HEAVY
from muster_models.sketch.rows import Rows, concatenate
from muster_models.sketch.window import Sketch, empty, merge, sketch_rows
from support.sketch_reference import Slow, sketch_slowly
from support.sketches import FULL, cells

Everything = tuple[object, ...]


def sketch(rows: Rows) -> Sketch:
    return sketch_rows(rows, FULL)


def exact(made: Sketch) -> Everything:
    """Return what is exact however rows are split."""
    others = [(other.rows, other.registers) for other in made.others]
    return (made.rows, [held.tolist() for held in made.counts], others, made.pairs.tolist())


def as_exact(slow: Slow, rows: int) -> Everything:
    others = [(held.total(), registers) for held, registers in zip(slow.others, slow.registers, strict=True)]
    return (rows, slow.counts, others, slow.pairs)


def counters_hold(made: Sketch, slow: Slow) -> bool:
    """Tell whether every counter of other values keeps its promise. Only the first category reveals names."""
    shown, held = made.others[0], slow.others[0]
    counters = dict(shown.heavy)
    return (
        len(shown.heavy) <= HEAVY
        and shown.error * (HEAVY + 1) <= shown.rows
        and all(
            counters.get(name, 0) <= rows <= counters.get(name, 0) + shown.error
            for name, rows in held.items()
        )
        and counters.keys() <= held.keys()
    )


@given(cells())
def test_a_sketch_is_that_of_the_slow_and_obvious_way(rows: Rows) -> None:
    made, slow = sketch(rows), sketch_slowly(rows, FULL)

    assert exact(made) == as_exact(slow, len(rows))
    assert counters_hold(made, slow)


@given(st.lists(cells(max_rows=20), min_size=1, max_size=5))
def test_a_merge_is_the_sketch_of_all_rows_in_the_slow_and_obvious_way(parts: list[Rows]) -> None:
    made = empty(FULL)
    for part in parts:
        made = merge(made, sketch(part))
    slow = sketch_slowly(concatenate(parts), FULL)

    assert exact(made) == as_exact(slow, sum(map(len, parts)))
    assert counters_hold(made, slow)


@given(cells(), cells(), cells())
def test_merging_is_associative_and_commutative_in_all_that_is_exact(a: Rows, b: Rows, c: Rows) -> None:
    first, second, third = sketch(a), sketch(b), sketch(c)

    assert exact(merge(merge(first, second), third)) == exact(merge(third, merge(second, first)))


@given(cells(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows: Rows, chance: random.Random) -> None:
    order = list(range(len(rows)))
    chance.shuffle(order)
    shuffled = Rows(rows.numbers[order], tuple(column[order] for column in rows.categories))

    assert exact(sketch(shuffled)) == exact(sketch(rows))
    assert sketch(shuffled).others == sketch(rows).others


@given(cells())
def test_the_empty_sketch_is_the_identity(rows: Rows) -> None:
    made = sketch(rows)

    for merged in (merge(made, empty(FULL)), merge(empty(FULL), made)):
        assert merged == made
        assert merged.others == made.others


@given(st.integers(0, 2**32), st.integers(1, 400))
def test_counters_keep_their_promise_over_many_merges_of_skewed_values(seed: int, values: int) -> None:
    """Also with far more values than counters, which small examples seldom have."""
    chance = np.random.default_rng(seed)
    names = np.array([f"value {index}" for index in range(values)], dtype=object)
    shares = 1 / np.arange(1, values + 1) ** chance.uniform(0, 2)
    parts = []
    for _ in range(int(chance.integers(1, 8))):
        held = chance.choice(names, 200, p=shares / shares.sum())
        parts.append(Rows(np.zeros((200, 3)), (held, np.zeros(200, dtype=np.int64))))
    made = empty(FULL)
    for part in parts:
        made = merge(made, sketch(part))

    assert counters_hold(made, sketch_slowly(concatenate(parts), FULL))


@given(st.integers(0, 2**32), st.integers(1, 20_000))
def test_the_number_of_other_values_is_within_four_standard_errors(seed: int, values: int) -> None:
    names = np.array([f"{seed} {index}" for index in range(values)], dtype=object)
    rows = Rows(np.zeros((values, 3)), (names, np.zeros(values, dtype=np.int64)))

    assert abs(sketch(rows).others[0].distinct - values) <= 4 * 0.13 * values + 1

"""Laws of sketches: counts are exact, and merging is addition in any order over any split."""

import copy
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.sketch.baseline import decode_baseline, make_baseline
from muster_models.sketch.edges import BINS, anchored_edges
from muster_models.sketch.rows import Rows as Cells
from muster_models.sketch.window import Sketch, empty, merge, sketch_rows
from support.sketch_reference import count_slowly
from support.sketches import BASELINE, KINDS, Rows, matrices, reference, typed_matrices

NAMES = list(KINDS)
OTHER = make_baseline(reference(seed=4), KINDS, classes=4)


def sketch(rows: Rows) -> Sketch:
    return sketch_rows(rows, BASELINE)


def lists(counts: tuple[NDArray[np.int64], ...]) -> list[list[int]]:
    return [held.tolist() for held in counts]


def bits(made: Sketch) -> tuple[object, ...]:
    """Return everything of a sketch, so that a change of any part shows."""
    return (made.baseline, made.rows, lists(made.counts), str(made.moments))


@given(matrices())
def test_counts_are_those_of_the_slow_and_obvious_way(rows: Rows) -> None:
    assert lists(sketch(rows).counts) == count_slowly(Cells(rows.astype(np.float64)), BASELINE)


@given(typed_matrices())
def test_counts_do_not_depend_on_the_type_that_holds_a_value(rows: Rows) -> None:
    assert lists(sketch(rows).counts) == count_slowly(Cells(rows.astype(np.float64)), BASELINE)


@given(arrays_of.arrays(np.float32, st.integers(1, 30).map(lambda rows: (rows, 4))))
def test_a_32_bit_value_is_counted_where_it_would_be_as_64_bits(rows: Rows) -> None:
    assert sketch(rows) == sketch(rows.astype(np.float64))


@given(matrices())
def test_every_row_is_counted_once_in_every_column(rows: Rows) -> None:
    made = sketch(rows)

    assert made.rows == len(rows)
    assert [int(held.sum()) for held in made.counts] == [len(rows)] * len(KINDS)


@given(matrices(), matrices())
def test_merging_is_the_sketch_of_all_rows_together(first: Rows, second: Rows) -> None:
    assert merge(sketch(first), sketch(second)) == sketch(np.concatenate([first, second]))


@given(matrices(), matrices(), matrices())
def test_merging_is_associative(first: Rows, second: Rows, third: Rows) -> None:
    a, b, c = sketch(first), sketch(second), sketch(third)

    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(matrices(), matrices())
def test_merging_is_commutative(first: Rows, second: Rows) -> None:
    a, b = sketch(first), sketch(second)

    assert merge(a, b) == merge(b, a)
    assert merge(a, b).rows == a.rows + b.rows


@given(matrices())
def test_the_empty_sketch_changes_nothing_moments_included(rows: Rows) -> None:
    made = sketch(rows)

    assert bits(merge(made, empty(BASELINE))) == bits(made)
    assert bits(merge(empty(BASELINE), made)) == bits(made)
    assert sketch(rows[:0]) == empty(BASELINE)


@given(matrices(), matrices())
def test_merging_leaves_both_sketches_as_they_were(first: Rows, second: Rows) -> None:
    a, b = sketch(first), sketch(second)
    before = copy.deepcopy((bits(a), bits(b)))

    merge(a, b)

    assert (bits(a), bits(b)) == before


@given(matrices(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: Rows, chance: random.Random) -> None:
    order = list(range(len(rows)))
    chance.shuffle(order)

    assert sketch(rows[order]) == sketch(rows)


@given(matrices(), st.lists(st.integers(0, 60), max_size=5))
def test_how_rows_are_split_over_windows_does_not_matter(rows: Rows, cuts: list[int]) -> None:
    total = empty(BASELINE)
    for part in np.split(rows, sorted(min(cut, len(rows)) for cut in cuts)):
        total = merge(total, sketch(part))

    assert total == sketch(rows)


ordinary = arrays_of.arrays(
    np.float64, st.integers(1, 40).map(lambda rows: (rows, 4)), elements=st.floats(-1e6, 1e6)
)


@given(ordinary, ordinary)
def test_moments_of_a_merge_are_those_of_all_rows_together(first: Rows, second: Rows) -> None:
    merged = merge(sketch(first), sketch(second)).moments
    rows = np.concatenate([first, second])

    for index, moments in enumerate(merged):
        column = rows[:, index].astype(np.float64)
        assert moments.rows == len(rows)
        assert moments.mean == pytest.approx(column.mean(), rel=1e-9, abs=1e-6)
        assert moments.sd == pytest.approx(column.std(), rel=1e-6, abs=1e-3)
        assert (moments.low, moments.high) == (column.min(), column.max())


@given(matrices())
def test_moments_are_those_of_the_finite_values(rows: Rows) -> None:
    for index, moments in enumerate(sketch(rows).moments):
        finite = rows[:, index].astype(np.float64)
        finite = finite[np.isfinite(finite)]
        assert moments.rows == len(finite)
        if len(finite):
            assert (moments.low, moments.high) == (finite.min(), finite.max())


def one_column(*held: float) -> NDArray[np.float64]:
    """Return rows whose first column holds the values given, the others what the reference holds."""
    rows = reference(len(held)).astype(np.float64)
    rows[:, 0] = held
    return rows


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (float("nan"), -1),
        (float("-inf"), -2),
        (float("inf"), -2),
        (-1e308, 0),
        (1e308, -3),
    ],
)
def test_what_is_no_ordinary_number_has_its_place(value: float, place: int) -> None:
    counts = sketch(one_column(value)).counts[0]

    assert counts[place] == 1
    assert counts.sum() == 1


def test_zero_and_minus_zero_fall_into_one_bin_and_a_denormal_beside_it() -> None:
    tied = BASELINE.columns[NAMES.index("tied")]
    rows = reference(4).astype(np.float64)
    rows[:, NAMES.index("tied")] = [0.0, -0.0, 5e-324, -5e-324]

    counts = sketch(rows).counts[NAMES.index("tied")]
    zero = np.searchsorted(tied.edges, 0.0, side="right")

    assert counts[zero] == 2
    assert counts[zero - 1] == 1
    assert counts[zero + 1] == 1


def test_a_class_has_the_bin_of_its_number() -> None:
    rows = reference(4).astype(np.float64)
    rows[:, NAMES.index("prediction:class")] = [0, 1, 3, 3]

    assert sketch(rows).counts[NAMES.index("prediction:class")].tolist() == [0, 1, 1, 0, 2, 0, 0, 0]


@pytest.mark.parametrize(
    "column",
    [
        [7.0] * 50,
        [0.0] * 50,
        [float("nan")] * 50,
        [float("inf")] * 3 + [1.0] * 3,
        [3.0],
        [0.0, 5e-324],
        [1e300, -1e300, 0.0],
        [-1.7e308, 1.7e308],
    ],
    ids=["constant", "zero", "missing", "infinite", "one row", "denormal", "huge", "the whole range"],
)
def test_a_baseline_of_awkward_values_counts_its_own_rows_as_it_was_measured(column: list[float]) -> None:
    rows = np.array(column)[:, None]

    baseline = make_baseline(rows, {"x": "numeric"})
    made = sketch_rows(rows, baseline)

    assert decode_baseline(baseline.encode()) == baseline
    assert tuple(made.counts[0].tolist()) == baseline.columns[0].counts
    assert lists(made.counts) == count_slowly(Cells(rows), baseline)


@given(arrays_of.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e300, 1e300)))
def test_edges_ascend_and_hold_every_reference_value_between_them(column: NDArray[np.float64]) -> None:
    edges = anchored_edges(column)

    assert (edges[1:] > edges[:-1]).all()
    assert edges[0] <= column.min()
    assert edges[-1] > column.max()
    assert len(edges) <= 2 * (BINS + 1) + 9


@given(st.integers(0, 2**32), st.integers(200, 2_000))
def test_no_bin_of_a_continuous_reference_holds_more_than_its_share(seed: int, rows: int) -> None:
    column = np.random.default_rng(seed).normal(size=(rows, 1))

    counts = make_baseline(column, {"x": "numeric"}).columns[0].counts

    assert max(counts) <= rows / BINS + 1


@given(arrays_of.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e6, 1e6)))
def test_scores_have_mean_zero_and_variance_one_under_the_reference(column: NDArray[np.float64]) -> None:
    baseline = make_baseline(column[:, None], {"x": "numeric"}).columns[0]
    scores, weights = baseline.scores(), np.array(baseline.counts) / len(column)
    gram = scores.T @ (weights[:, None] * scores)
    # A component that the reference cannot tell from the ones before it is zero.
    told = np.diag(gram) > 0.5

    np.testing.assert_allclose(weights @ scores, 0, atol=1e-6)
    np.testing.assert_allclose(gram[np.ix_(told, told)], np.eye(told.sum()), atol=1e-5)
    np.testing.assert_allclose(np.diag(gram)[~told], 0, atol=1e-5)


def test_sketches_of_different_baselines_do_not_merge() -> None:
    with pytest.raises(SketchError, match="cannot merge baseline"):
        merge(sketch(reference(3)), sketch_rows(reference(3), OTHER))


@pytest.mark.parametrize("rows", [np.zeros((2, 3)), np.zeros(4), np.zeros((1, 4, 1))])
def test_rows_of_another_width_are_refused(rows: Rows) -> None:
    with pytest.raises(SketchError, match="expected rows of 4 columns, got shape"):
        sketch(rows)


@pytest.mark.parametrize("rows", [np.zeros((0, 4)), np.zeros((3, 2))])
def test_a_baseline_needs_rows_of_its_columns(rows: Rows) -> None:
    with pytest.raises(SketchError, match="expected rows of 4 columns, got shape"):
        make_baseline(rows, KINDS)

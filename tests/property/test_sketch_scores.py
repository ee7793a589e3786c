"""Scores and distances of every kind of column: what the detector relies on, and what people are shown."""

from itertools import combinations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.sketch import statistics
from muster_models.sketch.baseline import COMPONENTS, Baseline, ColumnBaseline, decode_baseline, make_baseline
from muster_models.sketch.correlation import (
    correlation_z,
    correlations,
    pair_names,
    pair_scores,
    pair_scores_of,
    reference_correlations,
)
from muster_models.sketch.pairs import MAX_PAIRS
from muster_models.sketch.rows import Rows
from muster_models.sketch.window import empty, merge, sketch_rows
from support.sketches import BASELINE, FULL, cells, full_reference

Numbers = NDArray[np.float64]


def category(*counts: int) -> ColumnBaseline:
    """Return a category with so many reference rows per value and, last, of other values."""
    values = tuple(f"v{index}" for index in range(len(counts) - 1))
    return ColumnBaseline("c", "category", (), (*counts, 0, 0), 0.0, 0.0, values=values)


def zipf(bins: int, rows: int = 10_000) -> ColumnBaseline:
    shares = 1 / np.arange(1, bins + 1)
    return category(*(rows * shares / shares.sum()).round().astype(int).tolist())


def gram(column: ColumnBaseline) -> Numbers:
    weights = np.array(column.counts) / column.rows
    return np.asarray(column.scores().T @ (weights[:, None] * column.scores()))


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60).filter(any))
def test_scores_of_a_category_have_mean_zero_and_variance_one_or_are_zero(counts: list[int]) -> None:
    column = category(*counts)
    weights = np.array(column.counts) / column.rows
    told = np.diag(gram(column)) > 0.5

    assert column.scores().shape == (column.bins, COMPONENTS)
    np.testing.assert_allclose(weights @ column.scores(), 0, atol=1e-6)
    np.testing.assert_allclose(gram(column)[np.ix_(told, told)], np.eye(told.sum()), atol=1e-5)
    np.testing.assert_allclose(np.diag(gram(column))[~told], 0, atol=1e-5)


@given(st.integers(2, 5), st.integers(0, 2**32))
def test_with_up_to_five_bins_the_scores_see_every_change(bins: int, seed: int) -> None:
    """The squared score means add up to the chi-squared distance: nothing is left that they cannot see."""
    column, chance = zipf(bins), np.random.default_rng(seed)
    expected = np.array(column.counts[: column.ordinary]) / column.rows
    shares = chance.dirichlet(np.ones(bins))
    means = shares @ column.scores()[: column.ordinary]

    assert means @ means == pytest.approx((np.square(shares - expected) / expected).sum())


def seen(column: ColumnBaseline, at: int) -> float:
    """Return the part of the chi-squared distance that the scores see when one value grows."""
    expected = np.array(column.counts[: column.ordinary]) / column.rows
    shares = expected * 0.98
    shares[at] += 0.02
    means = shares @ column.scores()[: column.ordinary]
    return float(means @ means / (np.square(shares - expected) / expected).sum())


def test_of_thirty_values_the_scores_see_the_three_most_frequent_and_little_of_the_rest() -> None:
    """The figures of docs/baselines.md."""
    part = [seen(zipf(31), at) for at in range(31)]

    assert part[:3] == pytest.approx([1, 1, 1])
    assert part[3] == pytest.approx(0.34, abs=0.01)
    assert part[15] == pytest.approx(0.03, abs=0.01)


def test_the_first_score_of_a_category_grows_when_rows_go_from_frequent_to_rare_values() -> None:
    scores = zipf(31).scores()[:31]

    assert (np.diff(scores[:, 0]) > 0).all()
    assert [scores[at, at + 1] > 0 for at in range(3)] == [True] * 3


def test_the_bin_of_other_values_has_a_leg_of_its_own() -> None:
    assert category(5, 3, 2).tail_bins().tolist() == [False, False, True, True, False]


def test_infinite_values_lie_outside_unless_the_reference_held_some() -> None:
    column = make_baseline(np.arange(50.0)[:, None], {"x": "numeric"}).columns[0]
    counts = list(column.counts)
    counts[column.ordinary] = 1
    with_some = msgspec.structs.replace(column, counts=tuple(counts))

    assert (column.infinite, with_some.infinite) == (column.ordinary, column.ordinary)
    assert column.tail_bins()[column.ordinary]
    assert not with_some.tail_bins()[column.ordinary]
    assert not column.tail_bins()[-1]


def test_two_classes_have_scores() -> None:
    column = make_baseline(np.array([[0.0]] * 6 + [[1.0]] * 4), {"k": "class"}, classes=2).columns[0]

    assert gram(column)[0, 0] == pytest.approx(1)


def test_the_effect_of_a_category_is_the_value_whose_share_moved_most() -> None:
    column = category(50, 30, 20)
    at, moved = statistics.moved_most(np.array([20, 60, 20, 0, 0]), column)

    assert statistics.bin_name(column, at) == "v0"
    assert moved == pytest.approx(-0.3)
    assert statistics.linf(np.array([20, 60, 20, 0, 0]), column) == pytest.approx(0.3)
    assert statistics.ks(np.array([20, 60, 20, 0, 0]), column) == 0
    assert statistics.wasserstein(np.array([20, 60, 20, 0, 0]), column) == 0


@pytest.mark.parametrize("column", [*BASELINE.columns, *FULL.columns], ids=lambda column: column.name)
def test_every_distance_is_nothing_where_nothing_moved_and_something_where_all_did(
    column: ColumnBaseline,
) -> None:
    same = np.array(column.counts)
    moved = np.zeros(column.bins, dtype=np.int64)
    moved[-1] = 1000

    for distance in (statistics.psi, statistics.js, statistics.chi2, statistics.linf):
        assert distance(same, column) == pytest.approx(0, abs=1e-9)
        assert distance(moved, column) > 0.5


def test_pearsons_statistic_is_about_one_without_drift() -> None:
    column, chance = zipf(20), np.random.default_rng(1)
    shares = np.array(column.counts) / column.rows
    drawn = []
    for _ in range(300):
        reference = tuple(chance.multinomial(10_000, shares).tolist())
        window = chance.multinomial(2000, shares)
        drawn.append(statistics.chi2(window, msgspec.structs.replace(column, counts=reference)))

    assert np.mean(drawn) == pytest.approx(1, abs=0.05)


def test_bins_have_names_for_people() -> None:
    number, (*_, klass) = BASELINE.columns[0], BASELINE.columns
    city = FULL.columns[1]

    assert statistics.bin_name(number, 0) == f"x < {number.edges[0]:.4g}"
    assert statistics.bin_name(number, 1) == f"{number.edges[0]:.4g} ≤ x < {number.edges[1]:.4g}"
    assert statistics.bin_name(number, len(number.edges)) == f"{number.edges[-1]:.4g} ≤ x"
    assert [statistics.bin_name(number, number.bins - k) for k in (2, 1)] == ["infinite", "missing"]
    assert [statistics.bin_name(city, at) for at in range(city.bins)] == [
        "berlin", "lyon", "oslo", "other", "infinite", "missing",
    ]  # fmt: skip
    assert statistics.bin_name(klass, 1) == "0"


COLUMNS = ("a", "b", "c", "d", "e")
PAIRS = tuple(combinations(COLUMNS, 2))
MIXES = np.random.default_rng(1).normal(size=(2, len(COLUMNS)))


def draw(rows: int, chance: np.random.Generator) -> Numbers:
    """Return rows with two common causes: normal, skewed, heavy-tailed, rounded, with many zeros."""
    plain = chance.normal(size=(rows, 2)) @ MIXES + chance.normal(size=(rows, len(COLUMNS)))
    a, b, c, d, e = plain.T
    return np.column_stack([a, np.exp(b), np.sinh(c), np.round(d), np.maximum(e, 0)])


PAIRED = make_baseline(
    draw(20_000, np.random.default_rng(2)), dict.fromkeys(COLUMNS, "numeric"), paired=PAIRS
)


def z_values(windows: int, rows: int, seed: int) -> Numbers:
    chance = np.random.default_rng(seed)
    return np.array([correlation_z(sketch_rows(draw(rows, chance), PAIRED), PAIRED) for _ in range(windows)])


@pytest.mark.parametrize("rows", [100, 1000])
def test_without_drift_the_statistic_of_a_pair_is_close_to_a_standard_normal(rows: int) -> None:
    z = z_values(600, rows, seed=rows)

    # What all windows share is the error of the reference: at 1,000 of 20,000 rows at most 0.22 each.
    assert z.std(axis=0) == pytest.approx(np.ones(len(PAIRS)), abs=0.15)
    assert np.abs(z.mean(axis=0)).max() < 0.75
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.05, abs=0.025)


def test_a_column_that_stops_moving_with_the_others_shows_in_its_pairs_alone() -> None:
    chance = np.random.default_rng(5)
    rows = draw(1000, chance)
    chance.shuffle(rows[:, 0])
    z = np.abs(correlation_z(sketch_rows(rows, PAIRED), PAIRED))
    touched = np.array([first == "a" for first, _ in PAIRS])

    assert z[touched].max() > 8
    assert z[~touched].max() < 4


def test_a_column_that_moves_alone_does_not_show_in_its_pairs() -> None:
    rows = draw(1000, np.random.default_rng(6))
    rows[:, 0] = rows[:, 0] * 1.3 + 0.5

    assert np.abs(correlation_z(sketch_rows(rows, PAIRED), PAIRED)).max() < 4


def test_the_reference_has_its_own_correlations_and_scores_of_nothing_are_zero() -> None:
    own = sketch_rows(draw(20_000, np.random.default_rng(2)), PAIRED)

    assert correlations(own, PAIRED) == pytest.approx(reference_correlations(PAIRED))
    assert pair_scores(own, PAIRED) == pytest.approx(np.zeros(len(PAIRS)))
    assert pair_scores(empty(PAIRED), PAIRED).tolist() == [0.0] * len(PAIRS)


def test_many_sketches_have_the_scores_that_each_has_alone() -> None:
    chance = np.random.default_rng(8)
    many = [empty(PAIRED), *(sketch_rows(draw(rows, chance), PAIRED) for rows in (1, 2, 50, 300))]
    alone = np.stack([pair_scores(sketch, PAIRED) for sketch in many])

    np.testing.assert_allclose(pair_scores_of(many, PAIRED), alone)
    assert pair_scores_of([], PAIRED).shape == (0, len(PAIRS))
    assert pair_scores_of([empty(BASELINE)], BASELINE).shape == (1, 0)


def test_the_correlation_of_a_column_that_stands_still_is_nothing() -> None:
    rows = draw(100, np.random.default_rng(7))
    rows[:, 0] = np.nan

    assert correlations(sketch_rows(rows, PAIRED), PAIRED)[:4].tolist() == [0.0] * 4


@given(cells(), cells())
def test_pairs_of_a_merge_are_those_of_all_rows(first: Rows, second: Rows) -> None:
    merged = merge(sketch_rows(first, FULL), sketch_rows(second, FULL))

    assert np.isfinite(pair_scores(merged, FULL)).all()
    assert np.abs(correlations(merged, FULL)).max() <= 1 + 1e-9


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0, -0.0, 5e-324])
def test_a_pair_with_a_column_that_says_nothing_scores_nothing(value: float) -> None:
    rows = np.column_stack([np.arange(60.0), np.full(60, value)])
    baseline = make_baseline(rows, {"a": "numeric", "b": "numeric"}, paired=[("a", "b")])
    sketch = sketch_rows(rows[::-1] + 1, baseline)

    assert decode_baseline(baseline.encode()) == baseline
    assert reference_correlations(baseline).tolist() == [0.0]
    assert pair_scores(sketch, baseline).tolist() == [0.0]


def test_pairs_have_names_and_a_baseline_without_has_none() -> None:
    assert pair_names(FULL) == ("plain with prediction:value", "tied with plain")
    assert pair_names(BASELINE) == ()
    for values in (correlations, pair_scores, correlation_z):
        assert values(empty(BASELINE), BASELINE).tolist() == []
    assert reference_correlations(BASELINE).tolist() == []


@pytest.mark.parametrize(
    ("paired", "message"),
    [
        ([("plain", "plain")], "two different numbers"),
        ([("plain", "city")], "got \\['city'\\]"),
        ([("plain", "nothing")], "got \\['nothing'\\]"),
        ([("plain", "tied")] * (MAX_PAIRS + 1), f"at most {MAX_PAIRS} pairs, got {MAX_PAIRS + 1}"),
    ],
)
def test_pairs_that_cannot_be_are_refused(paired: list[tuple[str, str]], message: str) -> None:
    kinds = {column.name: column.kind for column in FULL.columns}

    with pytest.raises(SketchError, match=message):
        make_baseline(full_reference(), kinds, paired=paired)


def test_a_baseline_of_the_first_format_has_no_bin_for_infinite_values() -> None:
    new = make_baseline(np.arange(50.0)[:, None], {"x": "numeric"})
    column = new.columns[0]
    counts = (*column.counts[: column.ordinary], column.counts[-1])
    old = Baseline((msgspec.structs.replace(column, counts=counts),), format=1)
    rows = np.array([[-np.inf], [np.inf], [np.inf], [np.nan], [7.0]])

    assert old.columns[0].infinite is None
    assert sketch_rows(rows, new).counts[0][[0, -3, -2, -1]].tolist() == [0, 0, 3, 1]
    assert sketch_rows(rows, old).counts[0][[0, -2, -1]].tolist() == [1, 2, 1]

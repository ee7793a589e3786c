"""Differential privacy: the law of the noise, exactly, and that nothing but noisy counts is told."""

import itertools
import math
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.codec import decode, encode
from muster_models.sketch.privacy import (
    DELTA,
    Words,
    compose,
    noise,
    noise_variance,
    privatise,
    project,
    thresholds,
)
from muster_models.sketch.rows import Rows
from muster_models.sketch.window import merge, sketch_rows

EPSILONS = (0.1, 0.5, 1.0, 3.0)
ROWS = 400
BASELINE = make_baseline(np.random.default_rng(1).normal(size=(2000, 2)), {"a": "numeric", "b": "numeric"})


def words(seed: int) -> Words:
    chance = np.random.default_rng(seed)
    return lambda count: chance.integers(0, 2**64, count, dtype=np.uint64)


def law(epsilon: float) -> dict[int, Fraction]:
    """Return the exact probability of every number that is drawn, over all 2^64 words."""
    made = thresholds(epsilon).tolist()
    found = {0: Fraction(made[0], 2**63)}
    for magnitude, (low, high) in enumerate(itertools.pairwise([*made, 2**63]), 1):
        found[magnitude] = found[-magnitude] = Fraction(high - low, 2**64)
    return found


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_the_law_of_the_words_is_the_two_sided_geometric_one(epsilon: float) -> None:
    held = law(epsilon)

    alpha = math.exp(-epsilon / 2)
    assert sum(held.values()) == 1
    for number in range(-15, 16):
        assert float(held[number]) == pytest.approx(
            (1 - alpha) / (1 + alpha) * alpha ** abs(number), rel=1e-9
        )
    assert float(sum(p * z * z for z, p in held.items())) == pytest.approx(noise_variance(epsilon), rel=1e-6)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_two_counts_that_differ_by_one_row_are_hardly_told_apart(epsilon: float) -> None:
    held = law(epsilon)
    bound = Fraction(math.exp(epsilon / 2) * (1 + 1e-6))

    beyond = sum(p for z, p in held.items() if not p <= bound * held.get(z + 1, Fraction(0)))
    assert beyond <= Fraction(DELTA)


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
@pytest.mark.parametrize(
    ("counts", "neighbour"), [((2, 1, 0), (1, 2, 0)), ((3, 0, 0), (2, 0, 1)), ((1, 1, 1), (0, 1, 2))]
)
def test_whatever_is_told_of_a_column_is_at_most_e_to_the_epsilon_times_as_likely_for_a_neighbour(
    epsilon: float, counts: tuple[int, ...], neighbour: tuple[int, ...]
) -> None:
    """Every output of the whole mechanism, projection included, over all noise of up to 14."""
    held, reach = law(epsilon), 14
    told: list[dict[tuple[int, ...], float]] = []
    for column in (counts, neighbour):
        chances: dict[tuple[int, ...], float] = defaultdict(float)
        for noisy in itertools.product(range(-reach, reach + 1), repeat=3):
            probability = math.prod(float(held[z - c]) for z, c in zip(noisy, column, strict=True))
            chances[tuple(project(np.array(noisy), 3).tolist())] += probability
        told.append(chances)

    first, second = told
    missed = 1 - min(sum(first.values()), sum(second.values()))  # what lies beyond the reach
    for output in first.keys() | second.keys():
        assert first[output] <= math.exp(epsilon) * (second[output] + missed) + 1e-12
        assert second[output] <= math.exp(epsilon) * (first[output] + missed) + 1e-12


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_numbers_that_are_drawn_follow_the_law(epsilon: float) -> None:
    drawn = noise(epsilon, words(3)(200_000))

    assert float(drawn.mean()) == pytest.approx(0.0, abs=5 * math.sqrt(noise_variance(epsilon) / 200_000))
    assert float(drawn.var()) == pytest.approx(noise_variance(epsilon), rel=0.05)


@given(counts=st.lists(st.integers(-50, 500), min_size=1, max_size=60), rows=st.integers(0, 5000))
def test_projected_counts_are_counts_of_the_rows_and_as_near_as_whole_numbers_can_be(
    counts: list[int], rows: int
) -> None:
    noisy = np.array(counts, dtype=np.int64)
    told = project(noisy, rows)

    assert told.min() >= 0
    assert told.sum() == rows
    if noisy.min() >= 0 and noisy.sum() == rows:
        assert told.tolist() == counts
    moved = told - noisy
    filled = told > 0
    # Nothing is nearer: all bins that hold rows moved alike, and empty ones wanted no more than that.
    assert not filled.any() or moved[filled].max() - moved[filled].min() <= 2
    assert not filled.any() or (moved[~filled] >= moved[filled].min() - 2).all()


def moved_within_bins(rows: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return other rows with the same counts: every value anywhere in its bin."""
    chance = np.random.default_rng(seed)
    made = rows.copy()
    for at, column in enumerate(BASELINE.columns):
        edges = np.concatenate([[column.edges[0] - 1], column.edges, [column.edges[-1] + 1]])
        place = np.searchsorted(np.array(column.edges), rows[:, at], side="right")
        low, high = edges[place], edges[place + 1]
        made[:, at] = low + (high - low) * chance.uniform(0, 0.999, len(rows))
    return made


@given(seed=st.integers(0, 2**32 - 1), epsilon=st.sampled_from(EPSILONS))
def test_what_is_told_is_a_function_of_the_counts_alone(seed: int, epsilon: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(ROWS, 2))
    first, second = (sketch_rows(one, BASELINE) for one in (rows, moved_within_bins(rows, seed)))

    told = [encode(privatise(one, BASELINE, epsilon, words(seed)), BASELINE) for one in (first, second)]

    assert first == second
    assert told[0] == told[1]
    assert encode(first, BASELINE) != encode(second, BASELINE)  # moments tell them apart without privacy


@given(seed=st.integers(0, 2**32 - 1), epsilon=st.sampled_from(EPSILONS), rows=st.integers(0, 300))
def test_what_is_told_is_encoded_decoded_and_merged_like_any_sketch(
    seed: int, epsilon: float, rows: int
) -> None:
    held = sketch_rows(np.random.default_rng(seed).normal(size=(rows, 2)), BASELINE)
    told = privatise(held, BASELINE, epsilon, words(seed))

    back = decode(encode(told, BASELINE), BASELINE)
    both = merge(back, back)

    assert back == told
    assert (back.rows, both.rows) == (rows, 2 * rows)
    assert [int(counts.sum()) for counts in both.counts] == [2 * rows] * 2
    assert {moments.rows for moments in back.moments} == {0}


def test_of_other_values_only_their_noisy_number_is_told() -> None:
    names = np.array(["red"] * 300 + ["green"] * 100, dtype=object)
    baseline = make_baseline(
        Rows(np.zeros((400, 0)), (names,)), {"colour": "category"}, reveal=["colour"], values={"colour": 2}
    )
    seen = np.array(["red"] * 200 + ["a-name-of-one-person"] * 100, dtype=object)
    sketch = sketch_rows(Rows(np.zeros((300, 0)), (seen,)), baseline)

    told = encode(privatise(sketch, baseline, 1.0, words(1)), baseline)

    assert b"a-name-of-one-person" in encode(sketch, baseline)
    assert b"a-name-of-one-person" not in told
    (others,) = decode(told, baseline).others
    assert others.heavy == ()
    assert abs(others.rows - 100) < 30


def test_pairs_are_refused_and_so_is_an_epsilon_that_is_none() -> None:
    rows = np.random.default_rng(1).normal(size=(500, 2))
    paired = make_baseline(rows, {"a": "numeric", "b": "numeric"}, paired=[("a", "b")])

    with pytest.raises(SketchError, match="pairs cannot be told"):
        privatise(sketch_rows(rows, paired), paired, 1.0, words(1))
    for epsilon in (0.0, -1.0, 1e-9):
        with pytest.raises(ValueError, match="expected an epsilon above"):
            thresholds(epsilon)


def test_losses_add_up_and_the_advanced_bound_is_smaller_for_many_small_ones() -> None:
    one, many = compose(1.0, 20, 1), compose(0.01, 20, 288)

    assert one.basic == 20.0
    assert many.basic == pytest.approx(57.6)
    told = 20 * 288
    assert many.advanced == pytest.approx(
        math.sqrt(2 * told * math.log(1e6)) * 0.01 + told * 0.01 * math.expm1(0.01)
    )
    assert many.advanced < many.basic

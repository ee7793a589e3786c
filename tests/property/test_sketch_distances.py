"""Distances of a batch of sketches are those of each sketch by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from muster_models.sketch import statistics
from muster_models.sketch.baseline import Baseline, ColumnBaseline, make_baseline
from muster_models.sketch.distances import BLOCK, distances
from muster_models.sketch.rows import Rows

CHANCE = np.random.default_rng(1)
NUMERIC = make_baseline(CHANCE.normal(size=(3000, 1)), {"x": "numeric"})
INFLATED = make_baseline(
    np.where(CHANCE.random((3000, 1)) < 0.6, 0.0, CHANCE.gamma(2, size=(3000, 1))), {"x": "numeric"}
)
CLASSES = make_baseline(CHANCE.integers(0, 5, size=(500, 1)), {"x": "class"}, classes=5)
CONFIDENCE = make_baseline(CHANCE.beta(5, 2, size=(500, 1)), {"x": "confidence"}, classes=4)


GAPPED = make_baseline(
    np.where(CHANCE.random((900, 1)) < 0.2, np.nan, CHANCE.normal(size=(900, 1))), {"x": "numeric"}
)
BOUNDED = make_baseline(np.floor(CHANCE.random((900, 1)) * 3), {"x": "numeric"})
NAMES = make_baseline(
    Rows(np.zeros((900, 0)), (CHANCE.choice(np.array(["a", "b", "c"], dtype=object), 900),)),
    {"x": "category"},
)
BASELINES = {
    "numbers": NUMERIC,
    "zeros": INFLATED,
    "classes": CLASSES,
    "confidence": CONFIDENCE,
    "gaps": GAPPED,
    "few values": BOUNDED,
    "names": NAMES,
}


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 5000), spread=st.sampled_from([0.05, 5.0]))
def test_a_batch_has_the_distances_of_its_members(
    baseline: Baseline, seed: int, rows: int, spread: float
) -> None:
    (column,) = baseline.columns
    counts = _counts(column, seed, rows, spread=spread)

    found = distances(counts, column)

    for at, one in enumerate(counts):
        assert found.psi[at] == pytest.approx(statistics.psi(one, column), rel=1e-4, abs=1e-5)
        assert found.ks[at] == pytest.approx(statistics.ks(one, column), abs=1e-5)
        assert found.js[at] == pytest.approx(statistics.js(one, column), abs=1e-5)


def _counts(column: ColumnBaseline, seed: int, rows: int, *, spread: float) -> NDArray[np.int64]:
    """Return the counts of three sketches, over all bins or over a few of them."""
    chance = np.random.default_rng(seed)
    shares = chance.dirichlet(np.full(column.bins, spread), size=3)
    return np.asarray(chance.multinomial(rows, shares))


def test_no_sketch_has_no_distance() -> None:
    (column,) = NUMERIC.columns
    found = distances(np.zeros((0, column.bins), dtype=np.int64), column)

    assert (len(found.psi), len(found.ks), len(found.js)) == (0, 0, 0)


@pytest.mark.parametrize("sketches", [BLOCK, BLOCK + 1, 2 * BLOCK + 7])
def test_a_batch_of_several_blocks_has_the_distances_of_each_block(sketches: int) -> None:
    (column,) = GAPPED.columns
    counts = np.concatenate([_counts(column, seed, 40, spread=1.0) for seed in range(sketches // 3 + 1)])[
        :sketches
    ]
    found, last = distances(counts, column), distances(counts[-5:], column)

    assert len(found.psi) == sketches
    assert found.psi[-5:] == pytest.approx(last.psi, abs=1e-6)
    assert found.ks[-5:] == pytest.approx(last.ks, abs=1e-6)
    assert found.js[-5:] == pytest.approx(last.js, abs=1e-5)


def test_rows_that_are_all_missing_lie_apart_from_all_values() -> None:
    (column,) = NUMERIC.columns
    counts = np.zeros((1, column.bins), dtype=np.int64)
    counts[0, -1] = 10
    found = distances(counts, column)

    assert (found.ks[0], found.js[0]) == (1.0, pytest.approx(1.0, abs=1e-6))


def test_a_few_values_among_very_many_missing_ones_keep_their_distance() -> None:
    (column,) = NUMERIC.columns
    few = np.zeros(column.bins, dtype=np.int64)
    few[[10, 20]] = 3
    many = few.copy()
    many[-1] = 10_000_000

    assert distances(many[None], column).ks[0] == pytest.approx(distances(few[None], column).ks[0], rel=1e-4)


def test_a_fleet_of_a_billion_rows_that_leaves_most_bins_empty_has_distances() -> None:
    (column,) = NUMERIC.columns
    counts = np.concatenate([_counts(column, seed, 10**9, spread=0.05) for seed in range(20)])
    found = distances(counts, column)

    for at, one in enumerate(counts):
        assert found.psi[at] == pytest.approx(statistics.psi(one, column), rel=0.15)
        assert found.ks[at] == pytest.approx(statistics.ks(one, column), abs=1e-5)
        assert found.js[at] == pytest.approx(statistics.js(one, column), abs=1e-5)

"""Distances of a batch of sketches are those of each sketch by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from muster_models.sketch import statistics
from muster_models.sketch.baseline import Baseline, ColumnBaseline, make_baseline
from muster_models.sketch.distances import distances

CHANCE = np.random.default_rng(1)
NUMERIC = make_baseline(CHANCE.normal(size=(3000, 1)), {"x": "numeric"})
INFLATED = make_baseline(
    np.where(CHANCE.random((3000, 1)) < 0.6, 0.0, CHANCE.gamma(2, size=(3000, 1))), {"x": "numeric"}
)
CLASSES = make_baseline(CHANCE.integers(0, 5, size=(500, 1)), {"x": "class"}, classes=5)
CONFIDENCE = make_baseline(CHANCE.beta(5, 2, size=(500, 1)), {"x": "confidence"}, classes=4)


@pytest.mark.parametrize(
    "baseline", [NUMERIC, INFLATED, CLASSES, CONFIDENCE], ids=["numbers", "zeros", "classes", "confidence"]
)
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

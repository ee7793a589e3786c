"""Which calls that failed lacked something that a feature reads."""

import numpy as np
import pytest

from muster_agent.measure.gaps import Array, Gaps
from muster_models.manifest import FeatureSpec

NAN, INF = float("nan"), float("inf")
CELLS = Gaps([FeatureSpec("first", "x", column=0), FeatureSpec("third", "x", column=2)])
WHOLE = Gaps([FeatureSpec("brightness", "x", summary="brightness"), FeatureSpec("first", "x", column=0)])
TWO = Gaps([FeatureSpec("city", "city", column=0, kind="category"), FeatureSpec("trip", "trip", column=0)])


def floats(*rows: list[float]) -> dict[str, Array]:
    return {"x": np.array(rows, np.float32)}


@pytest.mark.parametrize(
    ("gaps", "inputs", "rows"),
    [
        (CELLS, floats([1, 2, 3], [4, 5, 6]), 0),
        (CELLS, floats([1, 2, 3], [4, 5, NAN]), 2),
        (CELLS, floats([1, 2, INF]), 1),
        (CELLS, floats([1, NAN, 3]), 0),  # a column that no feature reads
        (WHOLE, floats([1, NAN, 3]), 1),
        (CELLS, {"x": np.array([[[1, 2], [NAN, 4]]])}, 1),  # columns are of the flattened row
        (TWO, {"city": np.array([[None]], object), "trip": np.zeros((1, 1))}, 1),
        (TWO, {"city": np.array([[NAN]], object), "trip": np.zeros((1, 1))}, 1),
        (TWO, {"city": np.array([[""]], object), "trip": np.zeros((1, 1))}, 0),
        (TWO, {"city": np.array([["oslo"]]), "trip": np.array([[NAN]])}, 1),
    ],
)
def test_a_call_is_counted_where_a_feature_lacks_its_value(
    gaps: Gaps, inputs: dict[str, Array], rows: int
) -> None:
    assert gaps.rows(inputs) == rows


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"x": np.float32(NAN)},
        floats([NAN]),
        {"x": np.zeros((0, 3))},
        {"x": [[NAN, 1.0, 2.0]]},
        {"x": np.array([[NAN, 1.0, 2.0]]).astype("datetime64[s]")},
        {"x": np.array([[np.zeros(2), None, 3]], object)},
    ],
    ids=["no input", "no batch axis", "too narrow", "no row", "a list", "times", "arrays in a row"],
)
def test_what_no_feature_can_be_read_from_counts_as_nothing(inputs: dict[str, Array]) -> None:
    assert CELLS.rows(inputs) == 0


def test_inputs_of_different_lengths_count_as_nothing() -> None:
    assert TWO.rows({"city": np.array([[None]] * 2, object), "trip": np.zeros((1, 1))}) == 0

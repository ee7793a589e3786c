"""A baseline of the fleet: its counts are sums of what was sketched, and it sees what a real one sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_models.errors import SketchError
from muster_models.manifest import ClassOutput, FeatureSpec, ValueOutput
from muster_models.publish.baselines import of_ranges
from muster_models.publish.source import Declaration, Range
from muster_models.sketch.baseline import Baseline, decode_baseline, make_baseline
from muster_models.sketch.codec import decode, encode
from muster_models.sketch.fleet import MIN_ROWS, of_fleet
from muster_models.sketch.histogram import count_values
from muster_models.sketch.statistics import ks, psi
from muster_models.sketch.window import sketch_rows

ROWS = 2000


def declared(low: float = -10.0, high: float = 10.0) -> Declaration:
    return Declaration(
        model="toy",
        version="1.0.0",
        runtime="onnx",
        file="model.onnx",
        prediction=ValueOutput("y"),
        features=(FeatureSpec("first", "x", 0, unit="mm"), FeatureSpec("colour", "c", 0, kind="category")),
        ranges=(
            Range("first", low, high),
            Range("prediction:value", 0.0, 1.0),
            Range("colour", values=("red", "green")),
        ),
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    centre=st.floats(-12, 12),
    spread=st.sampled_from([0.0, 1e-3, 0.1, 1.0, 5.0]),
    broken=st.floats(0, 0.5),
)
def test_every_new_bin_holds_exactly_the_rows_that_lie_in_it(
    seed: int, centre: float, spread: float, broken: float
) -> None:
    chance = np.random.default_rng(seed)
    values = chance.normal(centre, spread, ROWS)
    values[chance.random(ROWS) < broken] = np.nan
    values[:3] = np.inf
    before = make_baseline(np.linspace(-10, 10, 300)[:, None], {"first": "numeric"})

    made = of_fleet(sketch_rows(values[:, None], before), before).baseline

    (column,) = made.columns
    assert column.counts == tuple(count_values(values, np.array(column.edges)).tolist())
    assert decode_baseline(made.encode()) == made
    assert made.origin == "fleet"


def test_a_provisional_baseline_then_windows_then_a_real_one_that_sees_a_shift() -> None:
    chance = np.random.default_rng(4)
    before = of_ranges(number_only())
    rows = np.column_stack([chance.normal(2.0, 1.0, ROWS), chance.uniform(0, 1, ROWS)])
    sent = decode(encode(sketch_rows(rows, before), before), before)

    made = of_fleet(sent, before).baseline

    again = np.column_stack([chance.normal(2.0, 1.0, ROWS), chance.uniform(0, 1, ROWS)])
    moved = again + np.array([0.5, 0.0])
    first = made.columns[0]
    still, shifted = (sketch_rows(one, made).counts[0] for one in (again, moved))
    assert psi(still, first) < 0.05 < psi(shifted, first)
    assert ks(still, first) < 0.08 < ks(shifted, first)
    assert abs(first.mean - 2.0) < 0.1


def number_only() -> Declaration:
    return Declaration(
        model="toy",
        version="1.0.0",
        runtime="onnx",
        file="model.onnx",
        prediction=ValueOutput("y"),
        features=(FeatureSpec("first", "x", 0),),
        ranges=(Range("first", -10.0, 10.0), Range("prediction:value", 0.0, 1.0)),
    )


def test_a_provisional_baseline_holds_every_column_and_says_what_it_is() -> None:
    made = of_ranges(declared())

    assert [column.name for column in made.columns] == ["first", "colour", "prediction:value"]
    assert made.origin == "declared"
    assert decode_baseline(made.encode()) == made
    first = made.columns[0]
    assert first.tail_bins()[: first.ordinary].sum() == 10
    counted = count_values(np.array([-10.0, 10.0, -10.1, 10.1]), np.array(first.edges))
    assert counted[~first.tail_bins()].sum() == 2


def test_classes_have_their_fixed_bins_without_any_range() -> None:
    made = of_ranges(
        Declaration(
            model="toy",
            version="1.0.0",
            runtime="onnx",
            file="model.onnx",
            prediction=ClassOutput("y", ("left", "right")),
        )
    )

    real = make_baseline(np.array([[0.5, 1.0]]), {"c": "confidence", "k": "class"}, classes=2)
    assert [one.edges for one in made.columns] == [one.edges for one in real.columns]
    assert [len(one.counts) for one in made.columns] == [len(one.counts) for one in real.columns]


def test_too_few_rows_and_rows_of_another_baseline_are_refused() -> None:
    before = of_ranges(number_only())
    few = sketch_rows(np.zeros((MIN_ROWS - 1, 2)), before)
    other = Baseline(before.columns)

    with pytest.raises(SketchError, match=f"at least {MIN_ROWS} rows, got {MIN_ROWS - 1}"):
        of_fleet(few, before)
    with pytest.raises(SketchError, match="expected a sketch of baseline"):
        of_fleet(sketch_rows(np.zeros((MIN_ROWS, 2)), other), before)


def test_a_range_that_is_far_too_wide_is_called_coarse() -> None:
    before = of_ranges(number_only())
    chance = np.random.default_rng(1)
    rows = np.column_stack([chance.normal(0, 0.05, ROWS), chance.uniform(0, 1, ROWS)])

    limits = of_fleet(sketch_rows(rows, before), before).limits

    assert any(one.startswith("coarse") and one.endswith(": first") for one in limits)

"""Integers that stand for real numbers: both ways, saturating, per tensor and per channel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_models.errors import PredictionError, Reason
from muster_models.manifest import Quantisation, TensorSpec
from muster_models.quantised import as_integers, as_real, measured, on_grid, real

SPEC = TensorSpec("q", "int8", (None,), Quantisation((0.5,), (-10,)))
PER_CHANNEL = TensorSpec("q", "uint8", (None, 2), Quantisation((0.5, 2.0), (0, 100), 1))


def floats(*values: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.array(values, np.float32)


def test_real_numbers_become_the_nearest_integers_and_saturate() -> None:
    answer = as_integers(floats(0, 0.5, 0.74, 0.25, 0.75, 1e9, -1e9), SPEC)

    # Halfway goes to the even number of steps: 0.5 to 0, and 1.5 to 2.
    assert answer.tolist() == [-10, -9, -9, -10, -8, 127, -128]
    assert answer.dtype == np.int8


def test_integers_become_real_numbers() -> None:
    answer = as_real(np.array([-10, -9, 127], np.int8), SPEC)

    assert answer.tolist() == [0, 0.5, 68.5]
    assert answer.dtype == np.float32


def test_channels_have_their_own_steps() -> None:
    numbers = np.array([[1, 2], [3, -8]], np.float32)

    integers = as_integers(numbers, PER_CHANNEL)

    assert integers.tolist() == [[2, 101], [6, 96]]
    assert as_real(integers, PER_CHANNEL).tolist() == numbers.tolist()


def test_channels_that_are_not_there_are_refused() -> None:
    with pytest.raises(PredictionError, match="expected 2 values in axis 1, got"):
        as_real(np.zeros((1, 3), np.uint8), PER_CHANNEL)


def test_nan_stands_for_no_integer_and_infinity_for_the_last() -> None:
    with pytest.raises(PredictionError, match="NaN has no int8 form") as caught:
        as_integers(floats(np.nan), SPEC)

    assert caught.value.reason is Reason.NOT_FINITE
    assert as_integers(floats(np.inf, -np.inf), SPEC).tolist() == [127, -128]


def test_what_is_measured_of_nan_stays_nan_beside_numbers_on_the_grid() -> None:
    found = on_grid(floats(np.nan, 0.3), SPEC)

    assert np.isnan(found[0])
    assert found[1] == on_grid(floats(0.3), SPEC)[0]


def test_what_is_not_quantised_stays_what_it_is() -> None:
    plain = TensorSpec("x", "float32", (None,))
    numbers, steps = floats(0.3), np.array([3], np.int8)

    assert as_integers(numbers, plain) is numbers
    assert as_integers(steps, SPEC) is steps
    assert as_real(numbers, SPEC) is numbers
    assert real([plain, SPEC], {"x": numbers, "q": steps})["x"] is numbers


@given(st.lists(st.floats(-1e6, 1e6), max_size=20), st.floats(1e-6, 1e3), st.integers(-128, 127))
def test_what_is_measured_is_the_same_whichever_form_a_caller_passed(
    values: list[float], scale: float, zero: int
) -> None:
    spec = TensorSpec("q", "int8", (None,), Quantisation((scale,), (zero,)))
    numbers = np.array(values)
    integers = as_integers(numbers, spec)

    assert as_integers(as_real(integers, spec), spec).tolist() == integers.tolist()
    assert on_grid(numbers, spec).tolist() == measured([spec], {"q": integers})["q"].tolist()

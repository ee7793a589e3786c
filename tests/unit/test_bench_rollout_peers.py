"""What others do, restated: each against examples that are computed by hand."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from rollouts.fleet import LEVEL, MOMENTS, baseline
from rollouts.looks import Arm, Look, Word
from rollouts.peers import argo, azure, flagger, hawkbit, kayenta, trained

from muster_models.wire import LATENCY_EDGES_MS


# What one canary and one control of 1,000 calls look like; predictions all in the bin of the level.
def arm(*, errors: int = 0, calls: int = 1000, level: float = LEVEL, slow: int = 0) -> Arm:
    column = baseline().columns[0]
    values = np.zeros(column.bins, dtype=np.int64)
    values[int(np.searchsorted(column.edge_array(), level, side="right"))] = calls
    latency = np.zeros(len(LATENCY_EDGES_MS) + 1, dtype=np.int64)
    latency[3], latency[-1] = calls - slow, slow
    return Arm(calls, errors, values, latency, lambda: np.random.default_rng(1))


def looks(*canaries: Arm | None, group: int = 10, failed: int = 0, given: int = 0) -> list[Look]:
    finished = group - failed
    return [Look(canary, arm(), group, failed, finished, given or group, failed) for canary in canaries]


@pytest.mark.parametrize(
    ("group", "failed", "finished", "expected"),
    [
        (10, 6, 0, Word.STOP),  # 60 % of failures
        (10, 5, 0, Word.WAIT),  # 50 % are not more than 50 %
        (10, 5, 5, Word.GO),
        (10, 0, 5, Word.GO),  # half of them are enough
        (10, 0, 4, Word.WAIT),
        (2, 1, 1, Word.GO),
        (1, 1, 0, Word.STOP),
    ],
)
def test_hawkbit_counts_failures_against_all_targets_of_the_group(
    group: int, failed: int, finished: int, expected: Word
) -> None:
    assert hawkbit.judge([Look(None, None, group, failed, finished, group, failed)], 9) == expected


@pytest.mark.parametrize(
    ("given", "failed", "windows", "expected"),
    [
        (100, 10, 1, Word.STOP),
        (100, 9, 1, Word.WAIT),  # fewer than ten
        (300, 10, 1, Word.WAIT),  # less than 5 %
        (5, 5, 1, Word.WAIT),  # all of five are fewer than ten
        (5, 5, 3, Word.GO),
    ],
)
def test_azure_needs_both_a_number_and_a_share(given: int, failed: int, windows: int, expected: Word) -> None:
    assert azure.judge([Look(None, None, given, failed, 0, given, failed)] * windows, 3) == expected


@pytest.mark.parametrize(
    ("canary", "expected"),
    [
        (arm(errors=10), True),
        (arm(errors=11), False),  # below 99 %
        (arm(level=LEVEL + 0.2), True),
        (arm(level=LEVEL + 0.4), False),
        (arm(slow=10), True),
        (arm(slow=11), False),  # P99 above 500 ms
        (None, False),  # no value is a failed check
    ],
)
def test_flagger_checks_fixed_ranges(canary: Arm | None, expected: bool) -> None:  # noqa: FBT001 - a table
    assert flagger.passes(canary) == expected


def test_flagger_goes_back_at_the_fifth_failed_check_and_advances_on_passed_ones_only() -> None:
    good, bad = arm(), arm(errors=50)

    assert flagger.judge(looks(bad, good, bad, good, bad, bad), 4) == Word.WAIT
    assert flagger.judge(looks(bad, good, bad, good, bad, bad, bad), 4) == Word.STOP
    assert flagger.judge(looks(bad, good, good, good, good), 4) == Word.GO


def test_argo_aborts_at_the_fourth_failed_measurement_of_one_metric() -> None:
    slow, far = arm(errors=51), arm(level=LEVEL + 0.4)

    assert argo.judge(looks(slow, slow, slow, far, far, far), 9) == Word.WAIT
    assert argo.judge(looks(slow, slow, slow, slow), 9) == Word.STOP
    assert argo.judge(looks(arm(errors=50), arm()), 2) == Word.GO


def test_argo_aborts_after_more_than_four_errors_in_a_row() -> None:
    assert argo.judge(looks(*[None] * 4), 9) == Word.WAIT
    assert argo.judge(looks(*[None] * 5), 9) == Word.STOP
    assert argo.judge(looks(None, None, arm(), None, None, None), 9) == Word.WAIT


def test_kayentas_interval_of_four_against_four_is_all_of_their_differences() -> None:
    """Sorted they are 6 to 9, 16 to 19, 26 to 29 and 36 to 39; all 16 won is 2.165 standard errors."""
    canary, control = np.array([10.0, 20.0, 30.0, 40.0]), np.array([1.0, 2.0, 3.0, 4.0])

    for quantile in (1.96, kayenta.QUANTILE):
        found = kayenta.interval(canary, control, quantile)

        assert (found.low, found.high, found.estimate) == (6.0, 39.0, 22.5)


def crossing(canary: np.ndarray[Any, Any], control: np.ndarray[Any, Any], quantile: float) -> float:
    """Return where the rank statistic crosses a quantile, by halving and by ranks counted pair by pair."""
    low, high = float(canary.min() - control.max()), float(canary.max() - control.min())
    size = len(canary) * len(control)
    spread = math.sqrt(size / 12 * (len(canary) + len(control) + 1))
    for _ in range(60):
        at = (low + high) / 2
        moved = canary - at
        wins = sum(float((one > control).sum()) + float((one == control).sum()) / 2 for one in moved)
        score = (wins - size / 2 - 0.5 * np.sign(wins - size / 2)) / spread
        low, high = (at, high) if score > quantile else (low, at)
    return (low + high) / 2


def test_kayentas_interval_is_where_the_statistic_crosses_its_quantiles() -> None:
    chance = np.random.default_rng(5)
    canary, control = chance.normal(1, 1, 23), chance.normal(0, 1, 31)
    found = kayenta.interval(canary, control)

    assert math.isclose(found.low, crossing(canary, control, kayenta.QUANTILE), abs_tol=1e-9)
    assert math.isclose(found.high, crossing(canary, control, -kayenta.QUANTILE), abs_tol=1e-9)
    assert found.low < found.estimate < found.high


@pytest.mark.parametrize(
    ("canary", "control", "direction", "expected"),
    [
        ([11, 12, 13, 14, 15], [1, 2, 3, 4, 5], "increase", True),
        ([11, 12, 13, 14, 15], [1, 2, 3, 4, 5], "either", True),
        ([1, 2, 3, 4, 5], [11, 12, 13, 14, 15], "increase", False),  # low, which does not count there
        ([1, 2, 3, 4, 5], [11, 12, 13, 14, 15], "either", True),
        ([1, 3, 5, 7, 9], [2, 4, 6, 8, 10], "either", False),
        ([1, 2, 3], [3, 2, 1], "either", False),  # the same values
        ([4, 4, 4], [4, 4], "either", False),  # one value
        ([11, 11, 11, 11], [1, 1, 1, 1], "either", True),  # tied, but apart: there it adds noise to tell
        # All higher by about 6, but the interval reaches below a quarter of that.
        ([1.2, 9, 10, 11, 12], [1, 2, 3, 4, 5], "increase", False),
    ],
)
def test_kayenta_classifies_a_metric(
    canary: list[float],
    control: list[float],
    direction: kayenta.Direction,
    expected: bool,  # noqa: FBT001 - a table
) -> None:
    assert kayenta.fails(np.array(canary, float), np.array(control, float), direction) == expected


def test_kayenta_is_asked_from_fifty_points_on_and_fails_without_data() -> None:
    far, none = looks(*[arm(level=LEVEL + 2)] * 5), looks(*[None] * 5)

    assert MOMENTS * 5 >= kayenta.POINTS > MOMENTS * 4
    assert [kayenta.judge(far[:count], 9) for count in (4, 5)] == [Word.WAIT, Word.STOP]
    assert [kayenta.judge(none[:count], 9) for count in (4, 5)] == [Word.WAIT, Word.STOP]
    assert kayenta.judge(looks(*[arm()] * 5), 5) == Word.GO


def test_the_moments_of_a_window_have_its_mean_and_its_failed_calls() -> None:
    whole = arm(errors=30, calls=1201)
    predictions, failing = whole.moments()

    assert len(predictions) == len(failing) == MOMENTS
    assert np.allclose(predictions, whole.mean)
    assert math.isclose(failing.mean(), 30 / 1201, rel_tol=0.01)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        # D = 0.5 of 16 and 16: (√8 + 0.12 + 0.11 / √8) 0.5 = 1.4937, 2 e^(-2 · 2.231) = 0.0231
        ([16, 0], [8, 8], 0.0231),
        ([8, 8], [8, 8], 1.0),
        ([1000, 0], [0, 1000], 0.0),
    ],
)
def test_ks_has_the_asymptotic_probability(one: list[int], other: list[int], expected: float) -> None:
    assert math.isclose(trained.probability(np.array(one), np.array(other)), expected, abs_tol=1e-4)


def test_ks_against_training_data_stops_at_the_first_window_that_differs() -> None:
    column = baseline().columns[0]
    same = dataclasses.replace(arm(), values=np.array(column.counts))

    assert trained.judge(looks(same, same), 2) == Word.GO
    assert trained.judge(looks(same, arm()), 9) == Word.STOP

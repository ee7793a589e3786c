"""The cost dial: what a budget buys, held against what the detector and the codec really do."""

import numpy as np
import pytest
from numpy.typing import NDArray

from muster_controller.domain.drift.cost import (
    LENGTHS,
    Catch,
    Fleet,
    Plan,
    describe,
    judge,
    make_plan,
)
from muster_controller.domain.drift.detector import DriftConfig, DriftState, observe
from muster_models.errors import RequestError
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.codec import encode
from muster_models.sketch.privacy import noise_variance, privatise
from muster_models.sketch.size import sketch_bytes, typical_baseline
from muster_models.sketch.window import sketch_rows
from support.windows import window

COLUMNS = 6
BASELINE = make_baseline(
    np.random.default_rng(1).normal(size=(20_000, COLUMNS)), {str(at): "numeric" for at in range(COLUMNS)}
)
CONFIG = DriftConfig(calibration_windows=24, round_seconds=1.0)
DEVICES = tuple(f"device-{at}" for at in range(12))


def law(rows: float) -> float:
    return 300 + sketch_bytes(typical_baseline(COLUMNS), rows)


def plan(budget: float, *, rows_per_day: float = 10_000, devices: int = 50) -> Plan:
    return make_plan(budget, Fleet(COLUMNS, rows_per_day, devices, devices // 5), CONFIG, law)


def caught(plan: Plan, level: str, shift: float) -> Catch:
    return next(one for one in plan.catches if (one.level, one.shift) == (level, shift))


def normal(chance: np.random.Generator, rows: int, shift: float = 0.0) -> NDArray[np.float64]:
    values = chance.normal(size=(rows, COLUMNS))
    values[:, 0] += shift
    return values


def windows_until_noticed(seed: int, *, rows: int, shift: float, drifted: tuple[str, ...]) -> int | None:
    """Return after how many drifted windows the real detector has an alarm."""
    chance = np.random.default_rng(seed)
    state = DriftState.new(BASELINE)
    for index in range(24 + 60):
        moved = shift if index >= 24 else 0.0
        seen = [
            window(
                device,
                float(index),
                manifest="a" * 64,
                sketch=sketch_rows(normal(chance, rows, moved if device in drifted else 0.0), BASELINE),
                baseline=BASELINE,
            )
            for device in DEVICES
        ]
        # A round is closed one round later: a call judges the windows of the call before.
        state, signals = observe(state, seen, BASELINE, CONFIG, groups={}, now=index + 1.0)
        if signals:
            return index - 24
    return None


@pytest.mark.parametrize(
    ("rows", "shift", "level"),
    [(1000, 0.25, "device"), (200, 0.5, "device"), (200, 0.25, "device"), (200, 0.1, "fleet")],
)
def test_the_stated_delay_is_that_of_the_real_detector(rows: int, shift: float, level: str) -> None:
    drifted = DEVICES if level == "fleet" else DEVICES[:1]
    found = [windows_until_noticed(seed, rows=rows, shift=shift, drifted=drifted) for seed in range(5)]
    fleet = Fleet(COLUMNS, 86_400.0 * rows, len(DEVICES), group=1, groups=0)

    stated = describe(1.0, 1.0, fleet, law)
    catches = judge(stated, fleet, CONFIG).catches

    windows = [one for one in found if one is not None]
    assert len(windows) == len(found)
    (expected,) = [one.windows for one in catches if (one.level, one.shift) == (level, shift)]
    assert expected is not None
    assert abs(float(np.median(windows)) - expected) <= max(2, 0.35 * expected)


def test_a_larger_budget_never_notices_later() -> None:
    hours = [caught(plan(budget), "device", 0.25).hours for budget in (600, 1500, 5_000, 50_000, 500_000)]

    known = [hour for hour in hours if hour is not None]
    assert known == sorted(known, reverse=True)
    assert len(set(known)) > 2


def test_a_plan_stays_within_its_budget_and_its_windows_divide_a_day() -> None:
    for budget in (500, 2_000, 20_000, 200_000):
        found = plan(budget).reporting

        assert found.bytes_per_day <= budget
        assert found.window_seconds in LENGTHS
        assert 86_400 % found.window_seconds == 0


def test_more_devices_see_a_smaller_shift_together_and_a_group_lies_between() -> None:
    found = plan(20_000)
    smallest = [one.shift for one in found.smallest if one.days == 7.0]

    assert None not in smallest
    assert smallest == sorted((one for one in smallest if one is not None), reverse=True)
    assert len(smallest) == 3


def test_what_no_budget_of_one_window_a_day_pays_for_is_refused_with_the_least_it_takes() -> None:
    with pytest.raises(
        RequestError, match=r"6 columns take at least \d+ bytes a day in one window, got a .* 100"
    ):
        plan(100)


def test_a_device_that_answers_nothing_catches_nothing() -> None:
    found = plan(20_000, rows_per_day=0)

    assert found.reporting.rows == 0
    assert {one.windows for one in found.catches} == {None}
    assert {one.shift for one in found.smallest} == {None}


def test_the_rate_of_false_alarms_and_the_time_to_begin_follow_the_length_of_a_window() -> None:
    found = plan(2_000)

    days = found.reporting.window_seconds / 86_400
    assert found.false_alarm_days == pytest.approx(2000 * days)
    assert found.calibration_days == pytest.approx(24 * days)


@pytest.mark.parametrize("rows", [30, 333, 1000, 7000])
def test_the_length_of_a_sketch_is_known_within_a_tenth(rows: int) -> None:
    chance = np.random.default_rng(5)
    real = [len(encode(sketch_rows(normal(chance, rows), BASELINE), BASELINE)) for _ in range(20)]

    assert sketch_bytes(BASELINE, rows) == pytest.approx(float(np.mean(real)), rel=0.1)


def test_noise_on_the_counts_delays_as_much_as_it_adds_to_the_variance() -> None:
    epsilon, rows = 0.5, 500
    chance = np.random.default_rng(8)

    def words(count: int) -> NDArray[np.uint64]:
        return chance.integers(0, 2**64, count, dtype=np.uint64)

    scores = BASELINE.columns[0].scores()[:, 0]
    told = [
        privatise(sketch_rows(normal(chance, rows), BASELINE), BASELINE, epsilon, words) for _ in range(200)
    ]
    means = [one.counts[0] @ scores / rows for one in told]
    added = noise_variance(epsilon) * float(np.square(scores).sum())
    stated = 1 / rows + added / rows**2

    # Bins that stay empty under noise are projected back to it: somewhat less than stated.
    assert 0.4 * stated < float(np.var(means)) < 1.1 * stated
    quiet, noisy = (Fleet(COLUMNS, 86_400.0 * rows, 50, count_noise=one) for one in (0.0, added))
    without, with_noise = (
        caught(judge(describe(1.0, 1.0, one, law), one, CONFIG), "device", 0.25) for one in (quiet, noisy)
    )
    assert without.windows is not None
    assert with_noise.windows is not None
    assert with_noise.windows > without.windows

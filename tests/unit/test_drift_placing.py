"""Windows that come twice, in disorder, too early, too late or for too long: none is added up unseen."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from muster_controller.domain.drift.detector import DriftConfig, DriftState, decode_state, observe
from muster_controller.domain.facts import WindowFacts
from muster_models.errors import SketchError
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.window import merge, sketch_rows
from support.windows import window

CONFIG = DriftConfig(calibration_windows=3, round_seconds=10.0, history_seconds=1000.0)
BASELINE = make_baseline(np.random.default_rng(0).normal(size=(500, 1)), {"level": "numeric"})
OTHER = make_baseline(np.random.default_rng(1).normal(size=(500, 1)), {"level": "numeric"})
NAMES = ("a", "b", "c", "d")
NOW = 3_000_000.0


def made(start: float, *, device: str = "a", seconds: float = 10.0, shift: float = 0.0) -> WindowFacts:
    rows = np.random.default_rng([int(start), ord(device[-1])]).normal(shift, size=(100, 1))
    sketch = sketch_rows(rows, BASELINE)
    return window(device, start, seconds=seconds, manifest="0" * 64, sketch=sketch, baseline=BASELINE)


def take(*windows: WindowFacts, state: DriftState | None = None, now: float = NOW) -> DriftState:
    before = DriftState.new(BASELINE) if state is None else state
    return observe(before, windows, BASELINE, CONFIG, groups={}, now=now)[0]


def rows_of(state: DriftState) -> float:
    """Return how many rows are in the state, wherever they are."""
    watched = state.parts["data"]
    held = sum(entry.measure.rows for round_ in watched.open.values() for entry in round_.values())
    return held + float(watched.levels.rows.sum())


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        (made(NOW - 10), "again"),
        (made(NOW - 10, seconds=8.0), "overlapping"),
        (made(NOW - 14), "overlapping"),
        (made(NOW + 30), "ahead"),
        (made(NOW - 2_592_000), "stale"),
    ],
    ids=["the same twice", "a part twice", "a clock set back", "from the future", "from last month"],
)
def test_what_must_not_be_added_up_is_left_out_and_counted(later: WindowFacts, reason: str) -> None:
    state = take(later, state=take(made(NOW - 10)))

    assert rows_of(state) == 100
    assert state.counted == {reason: 1}


def test_windows_in_disorder_are_each_taken_once() -> None:
    windows = [made(NOW - 10 * index) for index in (2, 4, 1, 3, 4)]
    state = take(*windows)

    assert rows_of(state) == 400
    assert state.counted == {"again": 1, "late": 3}


def test_what_is_older_than_all_that_is_remembered_is_left_out() -> None:
    state = take(*(made(NOW - 10 * index) for index in range(20, 0, -1)))
    before = rows_of(state)
    state = take(made(NOW - 210), state=state)

    assert rows_of(state) == before
    assert state.counted["disordered"] == 1


def test_two_short_windows_of_one_round_are_one_measure() -> None:
    state = take(made(NOW - 10, seconds=4.0), made(NOW - 6, seconds=6.0))

    assert rows_of(state) == 200
    assert state.counted == {}


def test_what_was_counted_is_in_the_store() -> None:
    state = take(made(NOW - 10), made(NOW - 10))

    assert decode_state(state.encode()).counted == {"again": 1}
    assert decode_state(state.encode()).spans == {"a": ((NOW - 10, NOW),)}


def test_a_window_of_another_baseline_is_refused_whole() -> None:
    rows = np.zeros((10, 1))
    foreign = replace(made(NOW - 10), sketch=sketch_rows(rows, OTHER))

    with pytest.raises(SketchError, match="windows of baseline"):
        take(made(NOW - 20), foreign)


def test_a_window_that_others_were_merged_into_is_one_round_by_all_its_rows() -> None:
    """Under pressure a device merges windows; their round is that of the middle of their time."""
    sketches = [made(NOW - 100 + 10 * index).sketch for index in range(5)]
    first, *rest = [sketch for sketch in sketches if sketch is not None]
    whole = first
    for sketch in rest:
        whole = merge(whole, sketch)
    merged = replace(made(NOW - 100, seconds=50.0), sketch=whole, calls=whole.rows)
    still_open, closed = take(merged, now=NOW - 60.1), take(merged, now=NOW - 50)

    assert list(still_open.parts["data"].open) == [(NOW - 75) // 10]
    assert closed.parts["data"].levels.rounds.tolist() == [1]
    assert closed.parts["data"].levels.rows.tolist() == [500]
    assert closed.counted == {"late": 1}


def noise_of(rows: int) -> Mapping[str, float]:
    """Return the final evidence about a small shift that one device reports in so many rows a window."""
    state = DriftState.new(BASELINE)
    chance = np.random.default_rng(5)
    for index in range(8):
        shift = 0.3 if index >= 5 else 0.0
        windows = []
        for name in NAMES:
            values = chance.normal(shift if name == "a" else 0.0, size=(rows, 1))
            windows.append(
                window(
                    name,
                    10.0 * index,
                    seconds=10.0,
                    manifest="0" * 64,
                    sketch=sketch_rows(values, BASELINE),
                    baseline=BASELINE,
                )
            )
        state, _ = observe(state, windows, BASELINE, CONFIG, groups={}, now=10.0 * (index + 2))
    bank = state.parts["data"].banks["device"]
    return {name: float(bank.scores[at].max()) for at, name in enumerate(bank.names)}


def test_more_rows_are_more_evidence() -> None:
    few, many = noise_of(100), noise_of(1000)

    assert many["a"] > 100 * few["a"]
    assert max(many[name] for name in NAMES[1:]) < many["a"] / 100

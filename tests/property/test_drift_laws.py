"""Laws of drift detection: the middle without some, what crosses together, and that order does not matter."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from muster_controller.domain.drift.detector import DriftConfig, DriftState, observe
from muster_controller.domain.drift.incidents import reach
from muster_controller.domain.drift.peers import PEERS, Middle
from muster_controller.domain.facts import WindowFacts
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.window import sketch_rows
from support.windows import window

Store = NDArray[np.float32]
ROWS = st.floats(-100, 100, width=32)
BASELINE = make_baseline(np.random.default_rng(0).normal(size=(500, 2)), {"one": "numeric", "two": "numeric"})
NAMES = tuple(f"device-{index}" for index in range(6))
GROUPS = {name: (f"site={index // 3}", "hardware=pi") for index, name in enumerate(NAMES)}
CONFIG = DriftConfig(calibration_windows=4, round_seconds=1.0)


@given(st.data())
def test_the_middle_without_a_group_is_the_median_of_the_others(data: st.DataObject) -> None:
    devices = data.draw(st.integers(1, 12))
    moved: Store = data.draw(arrays(np.float32, (devices, 2, 3), elements=ROWS))
    chosen = data.draw(arrays(np.bool_, devices))
    members = data.draw(st.lists(st.integers(0, devices - 1), unique=True, max_size=devices))
    middle = Middle.of(moved, chosen)
    outside = chosen & ~np.isin(np.arange(devices), members)
    (found,) = middle.medians_without([np.array(members, dtype=np.intp)])

    if outside.sum() >= PEERS:
        assert np.allclose(found, np.median(moved[outside], axis=0), atol=1e-4)
    else:
        assert not found.any()
    if chosen.any():
        assert np.allclose(middle.median()[0], np.median(moved[chosen], axis=0), atol=1e-4)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=40), st.floats(10, 1e4))
def test_what_crosses_together_is_what_the_slow_rule_says(values: list[float], run_length: float) -> None:
    ordered = sorted(values, reverse=True)
    most = max(
        (i for i in range(1, len(ordered) + 1) if ordered[i - 1] >= run_length * len(ordered) / i), default=0
    )
    bound = reach([np.array(values)], run_length)

    assert sum(value >= bound for value in values) >= most
    if most == 0:
        assert max(values) < bound


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=40), st.floats(10, 1e4))
def test_nothing_crosses_while_the_mean_of_all_detectors_is_below_the_run_length(
    values: list[float], run_length: float
) -> None:
    """That is why the first alarm, while nothing drifts, comes after the run length or later on average."""
    if any(value >= reach([np.array(values)], run_length) for value in values):
        assert np.mean(values) >= run_length * (1 - 1e-9)


def rounds(seed: int, count: int) -> list[list[WindowFacts]]:
    chance = np.random.default_rng(seed)

    def made(name: str, index: int) -> WindowFacts:
        rows = chance.normal(2.0 if index >= 6 and name < "device-3" else 0.0, size=(60, 2))
        sketch = sketch_rows(rows, BASELINE)
        return window(name, float(index), manifest="0" * 64, sketch=sketch, baseline=BASELINE)

    return [[made(name, index) for name in NAMES] for index in range(count)]


@settings(max_examples=20)
@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_within_a_round_and_the_number_of_looks_make_no_difference(
    seed: int, shuffle: object
) -> None:
    """Windows one by one, in any order within a round, are judged as all of them at once."""
    assert hasattr(shuffle, "shuffle")
    once, apart = DriftState.new(BASELINE), DriftState.new(BASELINE)
    for index, windows in enumerate(rounds(seed, 10)):
        once, together = observe(once, windows, BASELINE, CONFIG, groups=GROUPS, now=index + 1.0)
        mixed = list(windows)
        shuffle.shuffle(mixed)
        for one in mixed:
            apart, singly = observe(apart, [one], BASELINE, CONFIG, groups=GROUPS, now=index + 1.0)
        found = [(signal.level, signal.subject, signal.state) for signal in singly]

        assert found == [(signal.level, signal.subject, signal.state) for signal in together]

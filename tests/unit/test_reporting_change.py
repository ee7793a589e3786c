"""Devices are told to report differently: drift goes on."""

import numpy as np
import pytest

from muster_controller.domain.drift.detector import DriftConfig, DriftState, Signal, observe
from muster_controller.domain.facts import WindowFacts
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.window import sketch_rows
from support.windows import window

BASELINE = make_baseline(np.random.default_rng(1).normal(size=(5000, 2)), {"a": "numeric", "b": "numeric"})
DEVICES = ("berlin-1", "berlin-2", "oslo-1", "oslo-2")


def windows_of(begin: float, seconds: float, seed: int, *, shift: float = 0.0) -> list[WindowFacts]:
    chance = np.random.default_rng(seed)
    return [
        window(
            device,
            begin,
            seconds=seconds,
            manifest="a" * 64,
            sketch=sketch_rows(chance.normal([shift, 0.0], 1.0, (300, 2)), BASELINE),
            baseline=BASELINE,
        )
        for device in DEVICES
    ]


@pytest.mark.parametrize(("before", "after"), [(300.0, 3600.0), (3600.0, 300.0)], ids=["longer", "shorter"])
def test_drift_goes_on_from_its_levels_when_windows_get_another_length(before: float, after: float) -> None:
    state, now, seed = DriftState.new(BASELINE), 0.0, 0
    config = DriftConfig(calibration_windows=12, round_seconds=before)
    for _ in range(20):
        seed, now = seed + 1, now + before
        state, signals = observe(
            state, windows_of(now - before, before, seed), BASELINE, config, groups={}, now=now
        )
        assert signals == []

    config = DriftConfig(calibration_windows=12, round_seconds=after)
    begin = now
    found: list[Signal] = []
    for _ in range(12):
        seed, now = seed + 1, now + after
        state, found = observe(
            state, windows_of(now - after, after, seed, shift=1.0), BASELINE, config, groups={}, now=now
        )

    (signal,) = found
    assert (signal.level, signal.feature, signal.state) == ("fleet", "a", "firing")
    assert begin - before <= signal.since
    assert all(index <= now // after + 2 for part in state.parts.values() for index in part.open)

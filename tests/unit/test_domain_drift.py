"""Alarms of a small fleet: one per cause, at the level that explains it."""

import functools
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from muster_controller.domain.drift.detector import (
    DriftConfig,
    DriftState,
    Signal,
    decode_state,
    observe,
    retire,
)
from muster_controller.domain.facts import WindowFacts
from muster_models.errors import SketchError
from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.window import Sketch, sketch_rows
from support.windows import DEVICES, GROUPS, Digits, window

OLD, NEW = "a" * 64, "b" * 64
CONFIG = DriftConfig(calibration_windows=12, round_seconds=1.0)
BERLIN = ("berlin-1", "berlin-2")


@functools.lru_cache
def version(name: str = "1.1.0") -> Digits:
    return Digits(name)


@dataclass
class Fleet:
    """Eight devices that see real digits through instruments of their own."""

    seed: int = 0
    config: DriftConfig = CONFIG
    gain: dict[str, float] = field(default_factory=dict)  # what drift multiplies the instrument by
    broken: dict[str, float] = field(default_factory=dict)  # share of rows whose first column is missing
    names: tuple[str, ...] = DEVICES
    manifests: dict[str, str] = field(default_factory=dict)
    rows: tuple[int, int] = (60, 200)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.chance = np.random.default_rng(self.seed)
        self.own = {name: round(1 + 0.03 * self.chance.standard_normal(), 2) for name in DEVICES}
        self.sizes = {name: int(self.chance.integers(*self.rows)) for name in DEVICES}
        self.state = DriftState.new(self.baseline)
        self.told: dict[tuple[str, str, float], list[Signal]] = {}

    @property
    def baseline(self) -> Baseline:
        return version().baseline

    def window(self, name: str) -> WindowFacts:
        gain = round(self.own[name] * self.gain.get(name, 1.0), 4)
        matrix = version().matrix(gain)
        rows = matrix[self.chance.integers(len(matrix), size=self.sizes[name])].copy()
        rows[self.chance.random(len(rows)) < self.broken.get(name, 0.0), 0] = np.nan
        return window(
            name,
            self.now,
            manifest=self.manifests.get(name, OLD),
            sketch=sketch_rows(rows, self.baseline),
            baseline=self.baseline,
        )

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            windows = [self.window(name) for name in self.names]
            self.now += 1
            self.see(windows)

    def see(self, windows: list[WindowFacts]) -> None:
        self.state, signals = observe(
            self.state, windows, self.baseline, self.config, groups=GROUPS, now=self.now
        )
        for signal in signals:
            self.told.setdefault((signal.level, signal.subject, signal.since), []).append(signal)

    @property
    def fired(self) -> list[Signal]:
        """The newest word on every alarm that ever fired."""
        return [said[-1] for said in self.told.values() if any(s.fired_at is not None for s in said)]


def drifted(devices: Collection[str], factor: float = 0.7, *, seed: int = 0, after: int = 15) -> Fleet:
    fleet = Fleet(seed)
    fleet.run(40)
    fleet.gain = dict.fromkeys(devices, factor)
    fleet.run(after)
    return fleet


@pytest.mark.parametrize("seed", range(5))
def test_a_dim_light_at_one_site_is_one_alarm_about_that_site(seed: int) -> None:
    fleet = drifted(BERLIN, seed=seed)
    (alarm,) = fleet.fired

    assert (alarm.level, alarm.subject, alarm.state, alarm.kind) == (
        "group", "site=berlin", "firing", "data-drift",
    )  # fmt: skip
    assert alarm.evidence["devices"] == list(BERLIN)
    assert alarm.fired_at is not None
    assert alarm.fired_at <= 40 + 15


def test_a_site_whose_devices_never_share_a_round_ends_as_one_alarm_with_its_evidence() -> None:
    fleet = Fleet()
    others = tuple(name for name in DEVICES if name not in BERLIN)
    for number in range(110):
        fleet.names = (BERLIN[number % 2], *others)
        fleet.gain = dict.fromkeys(BERLIN, 0.7) if number >= 60 else {}
        fleet.run(1)
    (alarm,) = [alarm for alarm in fleet.fired if alarm.state == "firing"]

    assert (alarm.level, alarm.subject) == ("group", "site=berlin")
    assert alarm.feature in {feature["feature"] for feature in alarm.evidence["features"]}


@pytest.mark.parametrize("seed", range(6))
def test_a_site_that_drifted_accuses_nobody_else_when_devices_change_their_version(seed: int) -> None:
    """Its detector still tells of a level that its devices have learned anew by then."""
    chance = np.random.default_rng(seed)
    reference = np.random.default_rng(0).normal(size=(2000, 2))
    baseline = make_baseline(reference, {"level": "numeric", "other": "numeric"})
    state, fired = DriftState.new(baseline), set()
    for now in range(71):
        switched = BERLIN[:1] + DEVICES[4:5] if now < 41 else DEVICES
        windows = [
            window(
                name,
                float(now),
                manifest=NEW if now >= 35 and name in switched else OLD,
                sketch=sketch_rows(
                    chance.normal((float(now >= 20 and name in BERLIN), 0.0), size=(200, 2)), baseline
                ),
                baseline=baseline,
            )
            for name in DEVICES
        ]
        state, signals = observe(state, windows, baseline, CONFIG, groups=GROUPS, now=float(now + 1))
        fired |= {(signal.level, signal.subject) for signal in signals if signal.fired_at is not None}

    assert fired == {("group", "site=berlin")}


def test_an_alarm_lists_its_features_strongest_first() -> None:
    (alarm,) = drifted(BERLIN).fired
    features = alarm.evidence["features"]
    names = [feature["feature"] for feature in features]

    assert {"brightness", "contrast", "sharpness", "prediction:confidence"} <= set(names)
    assert (alarm.feature, alarm.effect, alarm.unit) == (names[0], features[0]["effect"], "sd")
    assert [abs(f["effect"]) for f in features] == sorted((abs(f["effect"]) for f in features), reverse=True)
    assert alarm.effect < -1


@pytest.mark.parametrize("seed", range(3))
def test_one_bad_device_is_one_alarm_about_that_device(seed: int) -> None:
    (alarm,) = drifted(BERLIN[:1], seed=seed).fired

    assert (alarm.level, alarm.subject) == ("device", "berlin-1")


@pytest.mark.parametrize("seed", range(3))
def test_a_shift_everywhere_is_one_alarm_about_the_fleet(seed: int) -> None:
    (alarm,) = drifted(DEVICES, 0.9, seed=seed).fired

    assert (alarm.level, alarm.subject) == ("fleet", "all")


def test_two_sites_are_two_alarms() -> None:
    alarms = drifted(DEVICES[:4], 0.8).fired

    assert sorted(alarm.subject for alarm in alarms) == ["site=berlin", "site=lyon"]


def test_a_site_and_a_device_elsewhere_are_told_apart() -> None:
    alarms = drifted(("berlin-2", "lyon-1", "lyon-2")).fired

    assert sorted(alarm.subject for alarm in alarms) == ["berlin-2", "site=lyon"]


def test_missing_values_are_a_matter_of_data_quality() -> None:
    fleet = Fleet()
    fleet.run(20)
    fleet.broken = {"oslo-1": 0.3}
    fleet.run(12)
    (alarm,) = fleet.fired

    assert (alarm.subject, alarm.kind, alarm.feature, alarm.unit) == (
        "oslo-1", "data-quality", "brightness", "share",
    )  # fmt: skip
    assert alarm.effect == pytest.approx(0.3, abs=0.1)


def test_answers_that_move_while_inputs_do_not_are_prediction_drift() -> None:
    fleet = Fleet()
    fleet.run(20)
    own = version()

    def dull(name: str) -> WindowFacts:
        facts = Fleet.window(fleet, name)
        matrix = own.matrix(fleet.own[name])[: fleet.sizes[name]].copy()
        matrix[:, -2] = np.clip(matrix[:, -2] - 0.3, 0.1, 1.0)
        matrix[:, :-2] = np.nan
        return replace(facts, sketch=_with_inputs_of(facts, sketch_rows(matrix, own.baseline)))

    for _ in range(12):
        windows = [dull(name) if name == "oslo-1" else fleet.window(name) for name in DEVICES]
        fleet.now += 1
        fleet.see(windows)
    (alarm,) = fleet.fired

    assert (alarm.subject, alarm.kind, alarm.feature) == (
        "oslo-1",
        "prediction-drift",
        "prediction:confidence",
    )


def _with_inputs_of(facts: WindowFacts, answers: Sketch) -> Sketch:
    assert facts.sketch is not None
    return replace(facts.sketch, counts=(*facts.sketch.counts[:-2], *answers.counts[-2:]))


def test_an_alarm_is_resolved_when_the_cause_is_gone() -> None:
    fleet = drifted(BERLIN)
    fleet.gain = {}
    fleet.run(60)
    (alarm,) = fleet.fired

    assert alarm.state == "resolved"
    assert alarm.resolved_at is not None
    assert fleet.state.parts["data"].incidents == ()


def test_silence_does_not_resolve_an_alarm() -> None:
    fleet = drifted(BERLIN)
    fleet.names = DEVICES[2:]
    fleet.run(60)
    (alarm,) = fleet.fired

    assert alarm.state == "firing"


def test_devices_that_run_another_version_are_retired_with_their_alarms() -> None:
    fleet = drifted(BERLIN)
    state, signals = retire(fleet.state, BERLIN, fleet.baseline, now=fleet.now)

    assert [(signal.subject, signal.state) for signal in signals] == [("site=berlin", "resolved")]
    assert set(state.parts["data"].levels.names) == set(DEVICES) - set(BERLIN)
    assert state.parts["data"].incidents == ()


def test_a_new_version_on_the_same_baseline_is_calibrated_anew() -> None:
    fleet = Fleet()
    fleet.run(20)
    fleet.manifests = dict.fromkeys(DEVICES, NEW)
    fleet.gain = dict.fromkeys(DEVICES, 0.9)
    fleet.run(40)

    assert fleet.fired == []


def test_small_windows_are_added_up_until_they_can_be_tested() -> None:
    fleet = Fleet(rows=(10, 12))
    fleet.run(12)
    few = fleet.state.parts["data"].levels.rounds.max(initial=0)
    fleet.run(40)

    assert few == 3
    assert fleet.state.parts["data"].levels.rounds.max() == 12
    assert fleet.state.parts["data"].levels.rows.min() >= 12 * 30


def test_a_device_with_a_wrong_clock_keeps_no_round_open() -> None:
    fleet = Fleet()
    for _ in range(20):
        windows = [fleet.window(name) for name in DEVICES]
        wrong = replace(windows[0], start=windows[0].start + 1e6, end=windows[0].end + 1e6)
        fleet.now += 1
        fleet.see([wrong, *windows[1:]])

    assert len(fleet.state.parts["data"].open) <= 3
    assert fleet.fired == []


def test_a_backlog_is_judged_round_by_round() -> None:
    fleet = drifted(BERLIN, after=0)
    windows: list[WindowFacts] = []
    for _ in range(15):
        windows += [fleet.window(name) for name in DEVICES]
        fleet.now += 1
    fleet.see(windows)
    fleet.gain = dict.fromkeys(BERLIN, 0.7)
    backlog: list[WindowFacts] = []
    for _ in range(15):
        backlog += [fleet.window(name) for name in DEVICES]
        fleet.now += 1
    fleet.see(backlog)

    assert [alarm.subject for alarm in fleet.fired] == ["site=berlin"]


def test_one_device_alone_is_judged_by_its_own_past() -> None:
    fleet = Fleet(names=("berlin-1",))
    fleet.run(30)
    fleet.gain = {"berlin-1": 0.7}
    fleet.run(15)
    (alarm,) = fleet.fired

    assert (alarm.level, alarm.subject) == ("device", "berlin-1")


def test_a_state_survives_the_store_and_goes_on_alike() -> None:
    kept, stored = Fleet(seed=3), Fleet(seed=3)
    for fleet in (kept, stored):
        fleet.run(30)
        fleet.gain = dict.fromkeys(BERLIN, 0.7)
    for _ in range(15):
        kept.run(1)
        stored.state = decode_state(stored.state.encode())
        stored.run(1)

    assert kept.told == stored.told
    assert decode_state(stored.state.encode()).encode() == stored.state.encode()


def test_observing_leaves_the_old_state_as_it_was() -> None:
    fleet = drifted(BERLIN, after=3)
    before, encoded = fleet.state, fleet.state.encode()
    fleet.run(5)
    retire(fleet.state, BERLIN, fleet.baseline, now=fleet.now)

    assert before.encode() == encoded


@pytest.mark.parametrize("damage", [b"", b"x", b"\x78\x9c", b"\x00" * 100])
def test_damaged_bytes_are_refused(damage: bytes) -> None:
    with pytest.raises(SketchError):
        decode_state(damage)


def test_torn_bytes_are_refused() -> None:
    encoded = drifted(BERLIN, after=3).state.encode()
    for end in range(0, len(encoded) - 1, len(encoded) // 50):
        with pytest.raises(SketchError):
            decode_state(encoded[:end])


def test_windows_of_another_baseline_are_refused() -> None:
    fleet = Fleet()
    foreign = replace(Fleet().window("oslo-1"), sketch=version("1.0.0").sketch(1.0, 50, fleet.chance))

    with pytest.raises(SketchError, match="windows of baseline"):
        fleet.see([foreign])
    with pytest.raises(SketchError, match="drift of baseline"):
        observe(fleet.state, [], version("1.0.0").baseline, CONFIG, groups=GROUPS, now=0.0)

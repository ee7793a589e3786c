"""Kinds, groups of several labels, how calls went, and what an alarm says."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from muster_controller.domain.drift.detector import DriftConfig, DriftState, Signal, observe
from muster_controller.domain.drift.groups import groups_of
from muster_controller.domain.drift.sentence import say
from muster_controller.domain.drift.units import in_milliseconds, in_own_unit
from muster_controller.domain.facts import WindowFacts
from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.rows import Rows
from muster_models.sketch.window import sketch_rows
from muster_models.wire import LATENCY_EDGES_MS
from support.windows import window

NUMBERS = make_baseline(
    np.random.default_rng(0).normal(5.0, 2.0, size=(2000, 2)), {"level": "numeric", "other": "numeric"},
    units={"level": "K"},
)  # fmt: skip
CONFIG = DriftConfig(calibration_windows=8, round_seconds=1.0)
LABELS = {
    f"device-{index:02d}": {"site": f"site-{index // 6}", "hardware": ("pi", "nano", "zero")[index % 3]}
    for index in range(30)
}
GROUPS = {device: groups_of(labels, ("site", "hardware")) for device, labels in LABELS.items()}
Rule = Callable[[str, int], float]


def nothing(_device: str, _index: int) -> float:
    return 0.0


@dataclasses.dataclass
class Course:
    """Thirty devices over some rounds, and every alarm as it was last told."""

    shift: Rule = nothing  # of the level, in its own unit
    errors: Rule = nothing  # share of the calls
    slower: Rule = nothing  # bins of latency
    rounds: int = 20
    rows: int = 150
    told: dict[tuple[str, str, str], Signal] = dataclasses.field(default_factory=dict)

    def run(self, seed: int = 0) -> dict[tuple[str, str, str], Signal]:
        chance, state = np.random.default_rng(seed), DriftState.new(NUMBERS)
        for index in range(self.rounds):
            windows = [self.window(device, index, chance) for device in LABELS]
            state, signals = observe(state, windows, NUMBERS, CONFIG, groups=GROUPS, now=index + 1.0)
            fired = [signal for signal in signals if signal.fired_at is not None]
            self.told |= {(signal.kind, signal.level, signal.subject): signal for signal in fired}
        return self.told

    def window(self, device: str, index: int, chance: np.random.Generator) -> WindowFacts:
        rows = chance.normal(5.0, 2.0, size=(self.rows, 2))
        rows[:, 0] += self.shift(device, index)
        facts = window(
            device, float(index), manifest="0" * 64, sketch=sketch_rows(rows, NUMBERS), baseline=NUMBERS,
            errors=int(chance.binomial(self.rows, 0.01 + self.errors(device, index))),
        )  # fmt: skip
        latency = np.zeros(len(LATENCY_EDGES_MS) + 1, dtype=int)
        bins = np.clip(np.rint(chance.normal(6 + self.slower(device, index), 1.0, size=self.rows)), 0, 15)
        np.add.at(latency, bins.astype(int), 1)
        return dataclasses.replace(facts, latency=tuple(latency.tolist()))


def on(amount: float, **labels: str) -> Rule:
    """Return a change of devices with these labels from the twelfth round on."""

    def rule(device: str, index: int) -> float:
        wanted = all(LABELS[device][name] == value for name, value in labels.items())
        return amount if index >= 12 and wanted else 0.0

    return rule


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({"site": "site-2"}, ("group", "site=site-2")),
        ({"hardware": "nano"}, ("group", "hardware=nano")),
        ({}, ("fleet", "all")),
    ],
    ids=["a site", "a kind of hardware", "everywhere"],
)
def test_of_several_labels_that_group_is_named_which_moved(
    labels: Mapping[str, str], name: tuple[str, str], seed: int
) -> None:
    assert set(Course(shift=on(1.0, **labels)).run(seed)) == {("data-drift", *name)}


def test_devices_that_share_two_labels_are_no_group() -> None:
    """Two of six of a site: no group explains them, so each is named."""
    told = Course(shift=on(2.0, site="site-1", hardware="zero")).run()

    assert {subject for _, _, subject in told} == {"device-08", "device-11"}


def test_a_device_without_a_label_is_in_no_group_of_it() -> None:
    assert groups_of({"site": "berlin", "rack": "7"}, ("site", "hardware")) == ("site=berlin",)


def test_calls_that_take_longer_are_a_matter_of_performance_alone() -> None:
    told = Course(slower=on(2.0, site="site-3")).run()
    ((name, alarm),) = told.items()
    lead = alarm.evidence["features"][0]

    assert name == ("performance", "group", "site=site-3")
    assert (alarm.feature, lead["own_unit"]) == ("latency", "ms")
    assert lead["after"] / lead["before"] == pytest.approx(4.0, rel=0.35)


@pytest.mark.parametrize("bins", [0.5, -2.0], ids=["half as slow again", "four times as fast"])
def test_calls_that_take_a_little_longer_or_less_long_are_nothing_to_tell(bins: float) -> None:
    told = Course(slower=on(bins, site="site-3")).run()

    assert told == {}


def test_calls_that_fail_are_one_too() -> None:
    ((name, alarm),) = Course(errors=on(0.2, site="site-0")).run().items()

    assert name == ("performance", "group", "site=site-0")
    assert (alarm.feature, alarm.unit) == ("errors", "share")
    assert alarm.effect == pytest.approx(0.2, abs=0.08)


def test_two_causes_of_two_kinds_are_two_alarms() -> None:
    told = Course(shift=on(1.5, site="site-0"), slower=on(2.5, site="site-0")).run()

    assert set(told) == {("data-drift", "group", "site=site-0"), ("performance", "group", "site=site-0")}


def test_nothing_that_changes_raises_nothing() -> None:
    assert Course(rounds=60).run() == {}


def test_an_effect_is_told_in_its_own_unit_too() -> None:
    ((_, alarm),) = Course(shift=on(1.0, site="site-2"), rounds=30).run().items()
    lead = alarm.evidence["features"][0]

    assert lead["own_unit"] == "K"
    assert lead["before"] == pytest.approx(5.0, abs=0.3)
    assert lead["after"] == pytest.approx(6.0, abs=0.3)
    assert alarm.evidence["began"] in {11.0, 12.0, 13.0}


def test_the_middle_latency_is_read_between_the_edges_of_its_bins() -> None:
    before, after = in_milliseconds(normal=0.0, effect=0.5)

    assert LATENCY_EDGES_MS[0] < before < after < LATENCY_EDGES_MS[-1]


def test_a_spread_has_no_value_before_and_after() -> None:
    column = NUMBERS.columns[0]

    assert in_own_unit(column, "scale", normal=0.0, effect=0.3) is None
    assert in_own_unit(column, "missing", normal=0.1, effect=0.2) == pytest.approx((0.1, 0.3))


@functools.lru_cache
def cities() -> Baseline:
    return make_baseline(
        Rows(np.random.default_rng(1).normal(size=(900, 2)), (names(900, seed=2),)),
        {"one": "numeric", "two": "numeric", "city": "category"},
        paired=[("one", "two")],
    )


def names(count: int, *, seed: int, new: float = 0.0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    drawn = chance.choice(np.array(["berlin", "lyon", "oslo"], dtype=object), size=count, p=[0.6, 0.3, 0.1])
    drawn[chance.random(count) < new] = "zürich"
    return drawn


def kinds(*, new: float = 0.0, correlation: float = 0.0, infinite: float = 0.0) -> set[tuple[str, str, str]]:
    """Return kind, subject and feature of every alarm when one device of six changes after ten rounds."""
    baseline, chance = cities(), np.random.default_rng(3)
    state, fired = DriftState.new(baseline), set[tuple[str, str, str]]()
    for index in range(22):
        windows = []
        for at in range(6):
            now = index >= 10 and at == 0
            numbers = chance.normal(size=(300, 2))
            if now:
                numbers[:, 1] = correlation * numbers[:, 0] + (1 - correlation**2) ** 0.5 * numbers[:, 1]
                numbers[chance.random(300) < infinite, 0] = np.inf
            rows = Rows(numbers, (names(300, seed=1000 * index + at, new=new if now else 0.0),))
            sketch = sketch_rows(rows, baseline)
            windows.append(
                window(f"device-{at}", float(index), manifest="0" * 64, sketch=sketch, baseline=baseline)
            )
        state, signals = observe(state, windows, baseline, CONFIG, groups={}, now=index + 1.0)
        fired |= {(one.kind, one.subject, one.feature) for one in signals if one.fired_at is not None}
    return fired


def test_a_name_that_the_baseline_did_not_hold_is_a_matter_of_data_quality() -> None:
    (alarm,) = kinds(new=0.2)

    assert alarm[1:] == ("device-0", "city")


def test_infinite_values_are_a_matter_of_data_quality() -> None:
    assert kinds(infinite=0.2) == {("data-quality", "device-0", "one")}


def test_a_correlation_that_no_column_shows_is_data_drift() -> None:
    assert kinds(correlation=0.8) == {("data-drift", "device-0", "one with two")}


def test_a_sentence_says_what_moved_by_how_much_on_whom_and_since_when() -> None:
    evidence = {
        "devices": [f"device-{index}" for index in range(12)],
        "features": [
            {"feature": "brightness", "leg": "location", "unit": "sd", "before": 0.42, "after": 0.35},
            {"feature": "contrast", "leg": "location", "unit": "sd"},
            {"feature": "prediction:confidence", "leg": "location", "unit": "sd"},
        ],
    }  # fmt: skip
    said = say(
        level="group", subject="site=berlin", feature="brightness", effect=-0.8, unit="sd", since="14:00",
        evidence=evidence,
    )  # fmt: skip

    assert said == (
        "brightness fell by 0.8 sd (from 0.42 to 0.35) on 12 devices of site berlin "
        "since 14:00; so did contrast; predictions moved with it"
    )


@pytest.mark.parametrize(
    ("level", "feature", "unit", "leg", "said"),
    [
        ("device", "level", "share", "missing", "missing values of level rose by 30 % of the rows on a"),
        (
            "group",
            "x",
            "share",
            "outside",
            "values of x beyond its baseline rose by 30 % of the rows on 1 device of a",
        ),
        ("device", "errors", "share", "missing", "failed calls rose by 30 % of the calls on a"),
        ("device", "level", "sd", "scale", "spread of level rose by 0.3 sd on a"),
    ],
)
def test_every_leg_has_words(level: str, feature: str, unit: str, leg: str, said: str) -> None:
    evidence = {"devices": ["a"], "features": [{"leg": leg, "unit": unit}]}
    found = say(
        level=level, subject="a", feature=feature, effect=0.3, unit=unit, since="noon", evidence=evidence
    )

    assert found == f"{said} since noon"

"""A sensor breaks before a model that has no answer without it: one alarm, of the sensor and of no calls."""

import dataclasses

import numpy as np
import pytest

from muster_controller.domain.drift.detector import DriftConfig, DriftState, Signal, observe
from muster_controller.domain.drift.groups import groups_of
from muster_controller.domain.drift.sentence import say
from muster_controller.domain.facts import WindowFacts
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.features import VALUE, Column
from muster_models.sketch.window import sketch_rows
from muster_models.wire import LATENCY_EDGES_MS

KINDS: dict[str, Column] = dict.fromkeys(("humidity", "pressure", "wind", VALUE), "numeric")
BASELINE = make_baseline(np.random.default_rng(0).normal(size=(2000, len(KINDS))), KINDS)
DEVICES = tuple(f"{site}-{number}" for site in ("oslo", "porto", "lyon") for number in range(4))
GROUPS = {device: groups_of({"site": device.partition("-")[0]}, ("site",)) for device in DEVICES}
CONFIG = DriftConfig(calibration_windows=8, round_seconds=1.0)
BROKEN, ROUNDS, BEGINS = "porto-2", 30, 12
NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class Ill:
    """What is wrong with the device from some round on.

    Attributes:
        gaps: Share of its rows in which humidity is missing.
        batch: Rows of a call; one that lacks a value has no answer at all.
        sample: Share of its calls that are sketched.
        crashes: Share of its calls that fail whatever their rows hold.
        wide: It is the whole site.
    """

    gaps: float = 0.3
    batch: int = 1
    sample: float = 1.0
    crashes: float = 0.0
    wide: bool = False

    def is_about(self, device: str) -> bool:
        return device == BROKEN or (self.wide and device.startswith("porto"))


def window(device: str, index: int, ill: Ill, chance: np.random.Generator) -> WindowFacts:
    """Return a window as a recorder makes it."""
    is_ill = index >= BEGINS and ill.is_about(device)
    calls = 200 // ill.batch
    rows = chance.normal(size=(calls, ill.batch, len(KINDS)))
    if is_ill:
        rows[..., 0] = np.where(chance.random((calls, ill.batch)) < ill.gaps, NAN, rows[..., 0])
    lacks = np.isnan(rows[..., 0]).any(axis=1)
    crashed = ~lacks & (chance.random(calls) < (ill.crashes if is_ill else 0.0) + 0.01)
    rows[lacks, :, -1] = NAN
    kept = ~crashed & (chance.random(calls) < ill.sample)
    latency = np.zeros(len(LATENCY_EDGES_MS) + 1, dtype=int)
    np.add.at(latency, chance.integers(4, 8, calls), 1)
    return WindowFacts(
        device,
        "0" * 64,
        start=float(index),
        end=index + 1.0,
        calls=calls,
        errors=int((lacks | crashed).sum()),
        latency=tuple(latency.tolist()),
        sketch=sketch_rows(rows[kept].reshape(-1, len(KINDS)), BASELINE),
        baseline=BASELINE,
    )


def told(ill: Ill, seed: int) -> dict[tuple[str, str, str], Signal]:
    """Return every alarm of any state, as it was last told."""
    chance, state = np.random.default_rng(seed), DriftState.new(BASELINE)
    found: dict[tuple[str, str, str], Signal] = {}
    for index in range(ROUNDS):
        windows = [window(device, index, ill, chance) for device in DEVICES]
        state, signals = observe(state, windows, BASELINE, CONFIG, groups=GROUPS, now=index + 1.0)
        found |= {(signal.kind, signal.level, signal.subject): signal for signal in signals}
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "ill",
    [Ill(), Ill(gaps=1.0), Ill(gaps=0.1, batch=20), Ill(batch=20), Ill(sample=0.3), Ill(gaps=0.06)],
    ids=["some rows", "every row", "one row of a batch", "every batch", "sampled", "few rows"],
)
def test_a_sensor_that_breaks_is_one_alarm_about_its_feature_and_none_about_calls(
    ill: Ill, seed: int
) -> None:
    ((name, alarm),) = told(ill, seed).items()

    assert name == ("data-quality", "device", BROKEN)
    assert (alarm.state, alarm.feature, alarm.unit) == ("firing", "humidity", "share")
    assert alarm.effect == pytest.approx(ill.gaps, abs=0.12)


def test_the_sensors_of_a_whole_site_are_one_alarm_too() -> None:
    ((name, alarm),) = told(Ill(wide=True), 0).items()

    assert name == ("data-quality", "group", "site=porto")
    assert alarm.feature == "humidity"


def test_the_sentence_names_the_sensor_and_says_that_calls_failed_with_it() -> None:
    (alarm,) = told(Ill(batch=20), 0).values()
    sentence = say(
        level=alarm.level,
        subject=alarm.subject,
        feature=alarm.feature,
        effect=alarm.effect,
        unit=alarm.unit,
        since="14:00",
        evidence=alarm.evidence,
    )

    assert sentence.startswith("missing values of humidity rose by")
    assert sentence.endswith("% of the rows on porto-2 since 14:00; calls failed with it")


@pytest.mark.parametrize("seed", range(3))
def test_calls_that_fail_for_another_reason_beside_it_are_an_alarm_of_their_own(seed: int) -> None:
    found = told(Ill(crashes=0.4), seed)

    assert set(found) == {("data-quality", "device", BROKEN), ("performance", "device", BROKEN)}
    assert found["performance", "device", BROKEN].feature == "errors"


@pytest.mark.parametrize("seed", range(2))
def test_calls_that_fail_with_whole_inputs_stay_a_matter_of_performance(seed: int) -> None:
    ((name, alarm),) = told(Ill(gaps=0.0, crashes=0.3), seed).items()

    assert name == ("performance", "device", BROKEN)
    assert alarm.feature == "errors"


def test_after_the_sensor_is_mended_nothing_is_told_of_its_calls() -> None:
    chance, state = np.random.default_rng(5), DriftState.new(BASELINE)
    kinds: set[str] = set()
    states: list[str] = []
    for index in range(BEGINS + 10 + 30):
        ill = Ill() if index < BEGINS + 10 else Ill(gaps=0.0)
        windows = [window(device, index, ill, chance) for device in DEVICES]
        state, signals = observe(state, windows, BASELINE, CONFIG, groups=GROUPS, now=index + 1.0)
        kinds |= {signal.kind for signal in signals}
        states += [signal.state for signal in signals]

    assert kinds == {"data-quality"}
    assert states[-1] == "resolved"

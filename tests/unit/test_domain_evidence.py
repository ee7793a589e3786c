"""What is compared, and what a verdict rests on."""

from dataclasses import replace

import numpy as np
import pytest

from muster_controller.domain.facts import DeviceFacts, WindowFacts
from muster_controller.domain.rollouts.judging import gauges
from muster_controller.domain.rollouts.judging.evidence import Gate, Verdict
from muster_controller.domain.rollouts.judging.gauges import Lens, Reading
from muster_controller.domain.rollouts.machine import RolloutPhase
from muster_controller.domain.rollouts.outcome import Outcome, has_returned, outcome_of
from muster_controller.domain.rollouts.planning.conditions import Limits, Margins
from muster_models.errors import Reason
from muster_models.manifest import ClassOutput
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.features import VALUE
from muster_models.sketch.reference import measure_reference
from muster_models.sketch.rows import Rows
from muster_models.sketch.window import sketch_rows
from muster_models.wire import Phase
from support.rollouts import NEW, OLD, World, answer_with, make_plan
from support.windows import DEVICES, Digits, window


@pytest.mark.parametrize(
    ("current", "target", "phase", "reason", "outcome"),
    [
        (OLD, None, Phase.IDLE, None, Outcome.WAITING),
        (OLD, NEW, Phase.DOWNLOADING, None, Outcome.WAITING),
        (NEW, NEW, Phase.PROBATION, None, Outcome.TRIAL),
        (NEW, NEW, Phase.COMMITTED, None, Outcome.RUNNING),
        (NEW, None, Phase.IDLE, None, Outcome.RUNNING),
        (OLD, NEW, Phase.ROLLED_BACK, Reason.CRASHED, Outcome.FAULT),
        (OLD, NEW, Phase.REJECTED, Reason.WRONG_OUTPUT, Outcome.FAULT),
        (OLD, NEW, Phase.FAILED, None, Outcome.FAULT),
        (OLD, NEW, Phase.FAILED, Reason.NO_SPACE, Outcome.HINDERED),
        (OLD, NEW, Phase.FAILED, Reason.DOWNLOAD_FAILED, Outcome.HINDERED),
        (OLD, NEW, Phase.ROLLED_BACK, Reason.ORDERED, Outcome.WAITING),
        (NEW, OLD, Phase.FAILED, Reason.CRASHED, Outcome.RUNNING),
        (None, NEW, Phase.FAILED, Reason.HUNG, Outcome.FAULT),
    ],
)
def test_the_outcome_on_a_device(
    current: str | None, target: str | None, phase: Phase, reason: Reason | None, outcome: Outcome
) -> None:
    device = DeviceFacts("berlin-1", current=current, target=target, phase=phase, reason=reason)

    assert outcome_of(NEW, device) is outcome


@pytest.mark.parametrize(
    ("device", "returned"),
    [
        (DeviceFacts("a", seen=20, current=OLD), True),
        (DeviceFacts("a", seen=10, current=OLD), False),
        (DeviceFacts("a", seen=None, current=OLD), False),
        (DeviceFacts("a", seen=20, current=NEW), False),
        (DeviceFacts("a", seen=20, current=OLD, target=NEW, phase=Phase.ACTIVATING), False),
        (DeviceFacts("a", seen=20, current=OLD, target=NEW, phase=Phase.ROLLED_BACK), True),
        (DeviceFacts("a", seen=20, current=OLD, target=OLD, phase=Phase.COMMITTED), True),
    ],
)
def test_a_device_has_returned_when_it_says_so_after_the_rollback_began(
    device: DeviceFacts, *, returned: bool
) -> None:
    assert has_returned(NEW, device, since=10) is returned


def test_readings_add_up_to_the_reading_of_all_rows() -> None:
    rows = np.random.default_rng(0).random(100)
    parts = [Reading(len(part), float(part.mean()), float(part.var())) for part in (rows[:30], rows[30:])]
    total = parts[0] + parts[1]

    assert total.rows == 100
    assert total.mean == pytest.approx(rows.mean())
    assert total.variance == pytest.approx(rows.var())


@pytest.mark.parametrize("name", ["1.0.0", "1.1.0", "1.2.0"])
def test_versions_with_other_bins_are_read_in_the_same_unit(name: str) -> None:
    version = Digits(name)
    matrix = version.matrix(1.0)
    readings = gauges.read(
        window(
            "a", 0.0, manifest=NEW, sketch=sketch_rows(matrix, version.baseline), baseline=version.baseline
        ),
        Lens(),
    )
    shares = np.bincount(matrix[:, -1].astype(int), minlength=10) / len(matrix)

    assert readings["confidence"].mean == pytest.approx(matrix[:, -2].mean(), abs=0.005)
    assert [readings[f"class {i}"].mean for i in range(10)] == pytest.approx(shares)


def value_window(values: object, *, like: object, manifest: str = NEW) -> WindowFacts:
    baseline = make_baseline(np.asarray(like).reshape(-1, 1), {VALUE: "numeric"})
    sketch = sketch_rows(np.asarray(values).reshape(-1, 1), baseline)
    return window("a", 0.0, manifest=manifest, sketch=sketch, baseline=baseline)


def test_a_predicted_number_is_read_in_units_of_the_incumbent_whatever_the_bins() -> None:
    chance = np.random.default_rng(0)
    incumbent, candidate = chance.normal(10, 5, 2000), chance.normal(12, 7, 2000)
    scale = gauges.scale_of(value_window(incumbent, like=incumbent, manifest=OLD))
    values = chance.normal(15, 5, 1000)
    one, other = (
        gauges.read(value_window(values, like=like), Lens(scale=scale))["value mean"].mean
        for like in (incumbent, candidate)
    )

    assert one == pytest.approx((values.mean() - incumbent.mean()) / incumbent.std(), abs=0.03)
    assert other == pytest.approx(one, abs=0.03)


def test_of_many_classes_those_that_the_baseline_counts_apart_are_read_by_their_number() -> None:
    prediction = ClassOutput("y", tuple(map(str, range(100))))
    scores = np.eye(100, dtype=np.float32)[np.repeat([70, 3], [60, 40])]
    baseline = measure_reference((), prediction, inputs={}, outputs={"y": scores})
    rows = Rows(np.full((4, 1), 0.9), (np.array([3.0, 70.0, 70.0, 99.0]),))
    readings = gauges.read(
        window("a", 0.0, manifest=NEW, sketch=sketch_rows(rows, baseline), baseline=baseline), Lens()
    )

    assert {name: reading.mean for name, reading in readings.items() if name.startswith("class")} == {
        "class 70": 0.5,
        "class 3": 0.25,
    }


def test_an_infinite_prediction_is_as_bad_as_a_missing_one() -> None:
    seen = value_window([1.0, np.inf, -np.inf, np.nan], like=np.arange(50.0))

    assert gauges.missing_predictions(seen) == (3, 4)
    assert gauges.read(seen, Lens())["missing"].mean == 0.75


def test_a_window_without_rows_says_nothing() -> None:
    silent = window("a", 0.0, manifest=NEW, sketch=None, baseline=None)

    assert gauges.read(silent, Lens()) == {}
    assert gauges.missing_predictions(silent) == (0, 0)


def test_missing_predictions_are_counted() -> None:
    facts = value_window([1.0, np.nan, 2.0, np.nan], like=[1.0, 2.0])

    assert gauges.missing_predictions(facts) == (2, 4)
    assert gauges.read(facts, Lens())["missing"].mean == 0.5


def judged(world: World, name: str) -> Gate:
    assert world.state.evidence is not None
    return next(gate for gate in world.state.evidence.gates if gate.name == name)


def changed(version: Digits, **changes: float) -> World:
    """Return a world where the candidate is the incumbent but for some calls."""
    same = answer_with({OLD: version, NEW: version})

    def answer(device: str, manifest: str, start: float, chance: np.random.Generator) -> WindowFacts | None:
        facts = same(device, manifest, start, chance)
        if facts is None or manifest == OLD:
            return facts
        latency = list(facts.latency)
        if "slower_bins" in changes:
            by = int(changes["slower_bins"])
            latency = [0] * by + latency[:-by]
        return replace(facts, errors=int(facts.calls * changes.get("errors", 0.0)), latency=latency)

    world = World(make_plan(), answer)
    world.run_before(12)
    world.start()
    return world


def test_failed_calls_are_unhealthy_against_the_control() -> None:
    world = changed(Digits("1.1.0"), errors=0.08)
    world.tick(30)

    assert world.state.phase is RolloutPhase.ROLLED_BACK
    assert judged(world, "errors").verdict is Verdict.UNHEALTHY
    assert judged(world, "failed calls").verdict is Verdict.HEALTHY


def test_many_failed_calls_are_unhealthy_whatever_the_control_does() -> None:
    world = changed(Digits("1.1.0"), errors=0.5)
    world.tick(30)

    assert world.state.phase is RolloutPhase.ROLLED_BACK
    assert judged(world, "failed calls").verdict is Verdict.UNHEALTHY


def test_slow_calls_are_unhealthy() -> None:
    world = changed(Digits("1.1.0"), slower_bins=5)
    world.tick(30)

    assert judged(world, "latency").verdict is Verdict.UNHEALTHY


@pytest.mark.parametrize("slow_rounds", [1, 2])
def test_a_hiccup_after_the_change_is_no_reason_to_go_back(slow_rounds: int) -> None:
    version = Digits("1.1.0")
    good = answer_with({OLD: version, NEW: version})
    answered: dict[str, int] = {}

    def answer(device: str, manifest: str, start: float, chance: np.random.Generator) -> WindowFacts | None:
        facts = good(device, manifest, start, chance)
        if facts is None or manifest == OLD:
            return facts
        answered[device] = answered.get(device, 0) + 1
        hiccup = [0] * (len(facts.latency) - 1) + [facts.calls]
        return replace(facts, latency=hiccup) if answered[device] <= slow_rounds else facts

    world = World(make_plan(), answer)
    world.run_before(12)
    world.start()
    world.tick(80)

    assert world.state.phase is RolloutPhase.COMPLETED


def test_what_is_slower_by_a_fraction_of_a_millisecond_is_healthy() -> None:
    world = changed(Digits("1.1.0"), slower_bins=1)
    world.tick(60)

    assert world.state.phase is RolloutPhase.COMPLETED


def test_a_version_that_answers_nothing_is_a_number_is_never_healthy() -> None:
    version = Digits("1.1.0")
    good = answer_with({OLD: version, NEW: version})

    def answer(device: str, manifest: str, start: float, chance: np.random.Generator) -> WindowFacts | None:
        facts = good(device, manifest, start, chance)
        if facts is None or manifest == OLD:
            return facts
        rows = version.matrix(1.0)[:80].copy()
        rows[:, -2:] = np.nan
        return replace(facts, sketch=sketch_rows(rows, version.baseline))

    world = World(make_plan(limits={"missing": 1.0}, margins={"missing": 1.0}), answer)
    world.run_before(12)
    world.start()
    world.tick(60)

    assert world.state.stage == 0
    assert judged(world, "confidence").detail == "not seen in both arms"


def test_a_regression_that_is_off_by_a_degree_is_found() -> None:
    chance = np.random.default_rng(1)
    like = chance.normal(12, 4, 3000)

    def answer(device: str, manifest: str, start: float, chance: np.random.Generator) -> WindowFacts | None:
        weather = 12 + 3 * np.sin(start / 20) + 0.5 * DEVICES.index(device)
        values = chance.normal(weather + (3.0 if manifest == NEW else 0.0), 2.0, 100)
        facts = value_window(values, like=like + (2.0 if manifest == NEW else 0.0), manifest=manifest)
        return replace(facts, device=device, start=start, end=start + 1)

    world = World(make_plan(), answer)
    world.run_before(12)
    world.start()
    world.tick(30)

    assert world.state.phase is RolloutPhase.ROLLED_BACK
    assert judged(world, "value").verdict is Verdict.UNHEALTHY


def test_default_margins_and_limits_are_positive() -> None:
    defaults = [getattr(one, name) for one in (Margins(), Limits()) for name in one.__struct_fields__]
    numbers = [value for value in defaults if isinstance(value, int | float)]

    assert len(numbers) >= 12
    assert min(numbers) > 0

"""Every gate of a rollout: what it catches, what it lets pass, and that silence is never health."""

from typing import Any

import msgspec
import numpy as np
import pytest

from muster_controller.domain.facts import LabelFacts, WindowFacts
from muster_controller.domain.rollouts.judging.evidence import Gate, Verdict
from muster_controller.domain.rollouts.judging.gates import NOT_BOTH, shares
from muster_controller.domain.rollouts.judging.gauges import Lens, read, slow_bins
from muster_controller.domain.rollouts.judging.judge import is_prepared
from muster_controller.domain.rollouts.judging.ledger import STAKE
from muster_controller.domain.rollouts.planning.conditions import COMPARING, CounterMargin
from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.features import CLASS, CONFIDENCE
from muster_models.sketch.window import sketch_rows
from support.arms import BEFORE, Answer, Arms, calls, gate
from support.rollouts import NEW, OLD, make_plan

SCRAP = {"scrap": {"margin": 0.05}}


def steady(device: str, is_new: bool, index: int) -> WindowFacts:  # noqa: FBT001 - as Arms asks
    return calls(device, index, is_new=is_new)


def counting(before: float, after: float, *, name: str = "scrap") -> Answer:
    chance = np.random.default_rng(0)

    def answer(device: str, is_new: bool, index: int) -> WindowFacts:  # noqa: FBT001 - as Arms asks
        counted = int(chance.poisson(200 * (after if is_new else before)))
        return calls(device, index, is_new=is_new, counters={name: counted})

    return answer


def seen(answer: Answer, rounds: int = 20, *, name: str, **plan: Any) -> Gate:
    return gate(Arms(make_plan(**plan), answer).run(rounds), name)


@pytest.mark.parametrize(
    ("direction", "after", "verdict"),
    [
        ("up", 0.25, Verdict.UNHEALTHY),
        ("up", 0.1, Verdict.HEALTHY),
        ("up", 0.0, Verdict.HEALTHY),
        ("down", 0.0, Verdict.UNHEALTHY),
        ("down", 0.25, Verdict.HEALTHY),
        ("both", 0.0, Verdict.UNHEALTHY),
        ("both", 0.25, Verdict.UNHEALTHY),
        ("both", 0.1, Verdict.HEALTHY),
    ],
)
def test_what_an_application_counts_is_held_against_the_control_in_the_direction_of_the_plan(
    direction: str, after: float, verdict: Verdict
) -> None:
    margins = {"counters": {"scrap": {"margin": 0.05, "direction": direction}}}
    found = seen(counting(0.1, after), name="counter scrap", margins=margins)

    assert found.verdict is verdict
    assert found.unit == "per call"
    assert found.value == pytest.approx(after, abs=0.02)
    assert found.control == pytest.approx(0.1, abs=0.02)


def test_a_misspelt_counter_never_promotes_and_says_what_there_is() -> None:
    arms = Arms(make_plan(margins={"counters": {"scarp": {"margin": 0.05}}}), counting(0.1, 0.1))
    evidence = arms.run(200)
    found = gate(evidence, "counter scarp")

    assert evidence.verdict is not Verdict.HEALTHY
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.detail == "never seen: the applications count scrap"


def test_a_counter_that_nobody_counts_by_is_inconclusive() -> None:
    found = seen(steady, name="counter scrap", margins={"counters": SCRAP})

    assert found.verdict is Verdict.INCONCLUSIVE
    assert "no application" in found.detail


def test_a_counter_that_the_plan_does_not_name_is_no_gate() -> None:
    arms = Arms(make_plan(), counting(0.1, 0.9))

    assert not any(one.name.startswith("counter") for one in arms.run(20).gates)


@pytest.mark.parametrize("silent", ["new", "old", "nobody"])
def test_no_version_is_given_out_before_both_arms_have_counted_what_the_plan_names(silent: str) -> None:
    full = counting(0.1, 0.1)

    def answer(device: str, is_new: bool, index: int) -> WindowFacts | None:  # noqa: FBT001 - as Arms asks
        return calls(device, index) if device.startswith(silent) else full(device, is_new, index)

    prepared = {}
    for name, counters in (("counts", SCRAP), ("asks for nothing", {})):
        plan = make_plan(margins={"counters": counters})
        arms = Arms(plan, answer)
        arms.tick(BEFORE)
        prepared[name] = is_prepared(plan, arms.ledger, arms=arms.arms, reachable=frozenset(arms.arms))

    assert prepared == {"counts": silent == "nobody", "asks for nothing": True}


def test_a_counter_that_only_the_control_shows_is_inconclusive() -> None:
    full = counting(0.1, 0.1)

    def answer(device: str, is_new: bool, index: int) -> WindowFacts | None:  # noqa: FBT001 - as Arms asks
        return calls(device, index, is_new=True) if is_new else full(device, is_new, index)

    found = seen(answer, 50, name="counter scrap", margins={"counters": SCRAP})

    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.detail == NOT_BOTH


@pytest.mark.parametrize("quiet", ["stage", "control"])
def test_one_arm_that_is_silent_is_inconclusive(quiet: str) -> None:
    def answer(device: str, is_new: bool, index: int) -> WindowFacts | None:  # noqa: FBT001 - as Arms asks
        silent = device.startswith("new" if quiet == "stage" else "old") and index >= BEFORE
        return None if silent else calls(device, index, is_new=is_new)

    evidence = Arms(make_plan(), answer).run(50)

    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert evidence.rounds == 0
    assert gate(evidence, "errors").verdict is Verdict.INCONCLUSIVE


def test_windows_without_calls_are_no_evidence() -> None:
    def answer(device: str, is_new: bool, index: int) -> WindowFacts:  # noqa: FBT001 - as Arms asks
        return calls(device, index, is_new=is_new, count=0)

    evidence = Arms(make_plan(), answer).run(50)

    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert gate(evidence, "comparison").detail == "nothing seen in either arm"


def slowed(milliseconds: float) -> Answer:
    chance = np.random.default_rng(0)

    def answer(device: str, is_new: bool, index: int) -> WindowFacts:  # noqa: FBT001 - as Arms asks
        usual = calls(device, index, is_new=is_new, count=180, milliseconds=15)
        late = calls(device, index, count=20, milliseconds=milliseconds if is_new else 15)
        latency = [a + b for a, b in zip(usual.latency, late.latency, strict=True)]
        return altered(usual, latency=latency, calls=200, errors=int(chance.binomial(200, 0.01)))

    return answer


def altered(window: WindowFacts, **changes: Any) -> WindowFacts:
    return WindowFacts(**(vars(window) | changes))


def test_a_tail_of_slow_calls_is_found_where_the_mean_hardly_moves() -> None:
    """One call in ten takes thirty times as long: the mean of logarithms moves by less than its margin."""
    evidence = Arms(make_plan(), slowed(450)).run(20)

    assert gate(evidence, "latency").verdict is Verdict.HEALTHY
    assert gate(evidence, "slowest calls").verdict is Verdict.UNHEALTHY
    assert gate(evidence, "slowest calls").effect == pytest.approx(0.1)


def test_calls_that_are_slower_by_less_than_a_factor_of_two_are_not_slow() -> None:
    assert gate(Arms(make_plan(), slowed(19)).run(20), "slowest calls").verdict is Verdict.HEALTHY


@pytest.mark.parametrize(
    ("latency", "first"),
    [
        ([100] + [0] * 15, (7, 7)),
        ([0] * 8 + [100] + [0] * 7, (10, 10)),
        ([0] * 8 + [90, 0, 0, 10] + [0] * 4, (10, 13)),
        ([0] * 15 + [100], (17, 17)),
    ],
)
def test_calls_are_slow_beside_the_device_s_own_time_before(
    latency: list[int], first: tuple[int, int]
) -> None:
    assert slow_bins(latency) == first


def test_a_late_call_is_one_over_the_plan_s_limit() -> None:
    found = seen(slowed(450), name="late calls", limits={"p95_ms": 200.0})
    kept = seen(slowed(450), name="late calls", limits={"p95_ms": 1000.0})

    assert found.verdict is Verdict.UNHEALTHY
    assert found.value == pytest.approx(0.1)
    assert (kept.verdict, kept.value) == (Verdict.HEALTHY, 0)


@pytest.mark.parametrize(
    ("crashes", "verdict"),
    [({}, Verdict.HEALTHY), ({"new-1": 3}, Verdict.HEALTHY), ({"new-1": 4, "new-0": 1}, Verdict.UNHEALTHY)],
)
def test_crashes_on_any_one_device_are_limited(crashes: dict[str, int], verdict: Verdict) -> None:
    arms = Arms(make_plan(), steady, crashes=crashes)
    found = gate(arms.run(5), "crashes")

    assert found.verdict is verdict
    assert verdict is Verdict.HEALTHY or found.detail == "on 1 devices: new-1 4"


def test_a_plan_may_limit_no_crashes() -> None:
    arms = Arms(make_plan(limits={"crashes_per_device": None}), steady, crashes={"new-1": 99})

    assert not any(one.name == "crashes" for one in arms.run(5).gates)


@pytest.mark.parametrize(
    ("agreed", "verdict"), [(950, Verdict.HEALTHY), (850, Verdict.UNHEALTHY), (0, Verdict.UNHEALTHY)]
)
def test_agreement_in_shadow_has_a_least_share(agreed: int, verdict: Verdict) -> None:
    agreement = {"new-0": (agreed, 1000), "new-1": (agreed, 1000), "old-0": (0, 5000)}
    arms = Arms(make_plan(limits={"agreement": 0.9}), steady, agreement=agreement)

    assert gate(arms.run(5), "agreement").verdict is verdict


def test_agreement_of_too_few_rows_is_inconclusive() -> None:
    arms = Arms(make_plan(limits={"agreement": 0.9}), steady, agreement={"new-0": (10, 10)})
    found = gate(arms.run(5), "agreement")

    assert (found.verdict, found.detail) == (Verdict.INCONCLUSIVE, "10 of 200 seen")


def labelled(arms: Arms, *, right: float, pushes: int = 12) -> Gate:
    """Push labels about the time before, then of both arms, in pushes of 50 a device."""
    chance = np.random.default_rng(0)
    arms.run(1)
    for push in range(pushes):
        said = []
        for device, arm in arms.arms.items():
            is_new = arm == 0 and push >= 4
            end = float(BEFORE + push if push >= 4 else push + 1)
            hits = int(chance.binomial(50, right if is_new else 0.9))
            said.append(LabelFacts(device, NEW if is_new else OLD, end, 50, hits))
        arms.now += 1
        arms.take(labels=said)
    return gate(arms.judge(), "labelled accuracy")


@pytest.mark.parametrize(("right", "verdict"), [(0.9, Verdict.HEALTHY), (0.7, Verdict.UNHEALTHY)])
def test_labels_that_come_late_are_compared_per_arm(right: float, verdict: Verdict) -> None:
    plan = make_plan(margins={"accuracy": 0.1})
    found = labelled(Arms(plan, steady), right=right, pushes=30)

    assert found.verdict is verdict
    assert found.value == pytest.approx(right, abs=0.05)


def test_labels_of_the_version_alone_are_inconclusive() -> None:
    arms = Arms(make_plan(margins={"accuracy": 0.1}), steady)
    arms.run(20)
    arms.take(labels=[LabelFacts("new-0", NEW, float(BEFORE + 5), 500, 500)])
    found = gate(arms.judge(), "labelled accuracy")

    assert (found.verdict, found.detail) == (Verdict.INCONCLUSIVE, "never seen")


def test_few_labels_are_too_few() -> None:
    plan = make_plan(margins={"accuracy": 0.3}, minimums={"labels": 10_000})
    found = labelled(Arms(plan, steady), right=0.9, pushes=30)

    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.detail.endswith("of 10000 samples")


def test_labelled_accuracy_has_an_absolute_limit() -> None:
    arms = Arms(make_plan(limits={"accuracy": 0.8}), steady)
    arms.run(5)
    arms.take(labels=[LabelFacts("new-0", NEW, float(BEFORE + 2), 200, 150)])

    assert gate(arms.judge(), "accuracy").verdict is Verdict.UNHEALTHY


def sure(confidence: float) -> tuple[Baseline, Any]:
    chance = np.random.default_rng(0)
    reference = np.column_stack([chance.random(2000), chance.uniform(0.5, 1, 2000), np.zeros(2000)])
    baseline = make_baseline(reference, {"x": "numeric", CONFIDENCE: "confidence", CLASS: "class"}, classes=2)
    rows = reference[:200].copy()
    rows[:, 1] = confidence
    return baseline, sketch_rows(rows, baseline)


def test_accuracy_is_estimated_by_each_version_s_own_curve() -> None:
    baseline, sketch = sure(0.9)
    window = altered(calls("a", 0), sketch=sketch, baseline=baseline)
    bins = len(baseline.columns[1].edges) + 1
    honest = [(1000, round(1000 * (i + 0.5) / bins)) for i in range(bins)]
    boastful = [(1000, 500)] * bins

    readings = [read(window, Lens(reliability=curve)) for curve in ((), honest, boastful)]

    assert "estimated accuracy" not in readings[0]
    assert readings[1]["estimated accuracy"].mean > 0.7
    assert readings[2]["estimated accuracy"].mean == pytest.approx(0.5, abs=0.02)


def test_values_outside_of_the_evaluation_set_are_read_as_out_of_range() -> None:
    baseline, _ = sure(0.9)
    rows = np.column_stack([np.array([0.5, 0.5, 7.0, -3.0]), np.full(4, 0.9), np.zeros(4)])
    window = altered(calls("a", 0), sketch=sketch_rows(rows, baseline), baseline=baseline)

    assert read(window, Lens())["out of range"].mean == 0.5


def test_the_budget_is_split_among_the_gates_that_apply() -> None:
    arms = Arms(make_plan(margins={"counters": SCRAP, "weights": {"errors": 3.0, "latency": 0.0}}), steady)
    evidence = arms.run(10)
    held = {one.name: one.share for one in evidence.gates if one.share}

    assert held == pytest.approx(
        {"errors": 0.5, "slow calls": 1 / 6, "slowest calls": 1 / 6, "counter scrap": 1 / 6}
    )
    assert gate(evidence, "errors").bound == pytest.approx((1 + STAKE) / (0.01 * 0.5), rel=0.01)
    assert not any(one.name == "latency" for one in evidence.gates)


def test_what_is_learned_later_takes_no_share_from_the_others() -> None:
    arms = Arms(make_plan(), steady)
    arms.run(3)
    before = shares(arms.plan, arms.ledger)
    arms.run(30)

    assert shares(arms.plan, arms.ledger) == before


def test_a_required_gate_that_was_never_seen_is_inconclusive() -> None:
    found = seen(steady, name="confidence", margins={"required": ["confidence"]})

    assert (found.verdict, found.detail) == (Verdict.INCONCLUSIVE, "never seen")


@pytest.mark.parametrize(
    ("least", "words"), [({"rounds": 50}, "of 50 rounds"), ({"samples": 10**6}, "of 1000000 samples")]
)
def test_least_evidence_of_a_gate_is_waited_for(least: dict[str, int], words: str) -> None:
    found = seen(steady, name="errors", minimums={"gates": {"errors": least}}, margins={"errors": 0.1})

    assert found.verdict is Verdict.INCONCLUSIVE
    assert words in found.detail


def test_a_round_with_too_few_devices_is_not_compared() -> None:
    assert Arms(make_plan(minimums={"devices": 4}), steady).run(20).rounds == 0
    assert Arms(make_plan(minimums={"devices": 3}), steady).run(20).rounds > 0


def test_a_gate_says_levels_interval_and_what_is_spent() -> None:
    chance = np.random.default_rng(0)

    def answer(device: str, is_new: bool, index: int) -> WindowFacts:  # noqa: FBT001 - as Arms asks
        return calls(device, index, is_new=is_new, errors=int(chance.binomial(200, 0.05 if is_new else 0.01)))

    found = seen(answer, 8, name="errors")

    assert found.verdict is Verdict.UNHEALTHY
    assert found.spent == 1.0
    assert found.value is not None
    assert found.control is not None
    assert found.effect == pytest.approx(found.value - found.control, abs=0.01)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.04 < found.high
    assert found.samples > 1000


def test_inconclusive_evidence_says_when_it_would_be_enough() -> None:
    arms = Arms(make_plan(margins={"errors": 0.03}), steady, stage=1, control=1)
    evidence = arms.run(4)
    found = gate(evidence, "errors")

    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.earliest is not None
    assert found.earliest > arms.now
    later = arms.run(int(found.earliest - arms.now) + 3)
    assert gate(later, "errors").verdict is Verdict.HEALTHY


def test_every_gate_is_finite_and_json() -> None:
    evidence = Arms(make_plan(margins={"counters": SCRAP}), counting(0.0, 5.0)).run(60)

    assert b"null" in msgspec.json.encode(evidence)
    assert all(np.isfinite(one.evidence or 0.0) for one in evidence.gates)


def test_gates_have_names_of_their_own() -> None:
    assert len(set(COMPARING)) == len(COMPARING)
    assert CounterMargin(0.1).direction == "up"


@pytest.mark.parametrize(("failed", "verdict"), [(5, Verdict.HEALTHY), (6, Verdict.UNHEALTHY)])
def test_a_share_is_over_its_limit_from_the_first_call_beyond_it(failed: int, verdict: Verdict) -> None:
    arms = Arms(make_plan(), steady)
    arms.run(0)
    arms.take([calls("new-0", BEFORE, is_new=True, count=55, errors=failed)])

    assert gate(arms.judge(), "failed calls").verdict is verdict


def test_a_gate_is_healthy_only_when_every_direction_is() -> None:
    """Scrap rises by just its margin: far from falling, and not told apart from rising too much."""
    margins = {"counters": {"scrap": {"margin": 0.05, "direction": "both"}}}
    found = seen(counting(0.1, 0.15), 40, name="counter scrap", margins=margins)

    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.detail.startswith("counter scrap up")


def test_the_round_of_the_change_is_left_out_and_a_round_is_closed_one_later() -> None:
    assert [Arms(make_plan(), steady).run(rounds).rounds for rounds in (1, 2, 3, 10)] == [0, 0, 1, 8]


def test_without_any_gate_that_compares_nothing_is_healthy() -> None:
    evidence = Arms(make_plan(margins={"weights": dict.fromkeys(COMPARING, 0.0)}), steady).run(50)

    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert gate(evidence, "comparison").detail == "no gate has a share of the error budget"

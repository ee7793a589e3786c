"""Checks on the experiment itself, and evidence that anyone can compute again."""

from dataclasses import replace

import numpy as np
import pytest

from muster_controller.domain.facts import LabelFacts, WindowFacts
from muster_controller.domain.rollouts.judging.evidence import Verdict
from muster_controller.domain.rollouts.judging.experiment import CLEAN_ROUNDS
from muster_controller.domain.rollouts.judging.ledger import begin_stage
from muster_controller.domain.rollouts.judging.replay import Inputs, differences, replay
from support.arms import BEFORE, Answer, Arms, calls, gate, misdated
from support.rollouts import NEW, OLD, make_plan


def steady(device: str, is_new: bool, index: int) -> WindowFacts:  # noqa: FBT001 - as Arms asks
    return calls(device, index, is_new=is_new)


def fleet(answer: Answer = steady, *, stage: int = 12, control: int = 12) -> Arms:
    return Arms(make_plan(margins={"errors": 0.1}), answer, stage=stage, control=control)


def test_an_experiment_as_it_was_planned_is_healthy() -> None:
    evidence = fleet().run(20)

    assert [one.verdict for one in evidence.experiment] == [Verdict.HEALTHY] * 4
    assert not [
        words for words in evidence.missing if words.startswith(("sample", "two", "contam", "clocks"))
    ]


def test_a_stage_that_reports_less_often_than_the_control_is_not_compared_with_it() -> None:
    """Most of the stage sends nothing: a quorum of it might, and those that do are not who was drawn."""
    arms = fleet(stage=20, control=20)
    arms.silent = {f"new-{i}" for i in range(13)}
    evidence = arms.run(20)
    found = gate(evidence, "sample ratio")

    assert found.verdict is Verdict.INCONCLUSIVE
    assert "7 of 20 devices of the stage, and of 20 of 20 of the control" in found.detail
    assert any(words.startswith("sample ratio") for words in evidence.missing)
    assert evidence.verdict is not Verdict.HEALTHY


def test_devices_that_cannot_be_reached_are_no_mismatch() -> None:
    arms = fleet(stage=20, control=20)
    arms.gone = {f"new-{i}" for i in range(13)}

    assert gate(arms.run(20), "sample ratio").verdict is Verdict.HEALTHY


def test_one_silent_device_is_no_mismatch() -> None:
    arms = fleet()
    arms.silent = {"new-0"}

    assert gate(arms.run(20), "sample ratio").verdict is Verdict.HEALTHY


@pytest.mark.parametrize("arm", ["new", "old"])
def test_another_rollout_in_one_arm_alone_is_not_told_from_this_one(arm: str) -> None:
    arms = fleet()
    arms.beside = {f"{arm}-{i}" for i in range(12)}

    assert gate(arms.run(20), "two rollouts").verdict is Verdict.INCONCLUSIVE


def test_another_rollout_in_both_arms_is_balanced_by_the_draw() -> None:
    arms = fleet()
    arms.beside = {f"{arm}-{i}" for i in range(6) for arm in ("new", "old")}

    assert gate(arms.run(20), "two rollouts").verdict is Verdict.HEALTHY


def test_a_control_that_answers_with_the_version_is_contaminated_until_it_has_gone_back() -> None:
    def answer(device: str, is_new: bool, index: int) -> WindowFacts:  # noqa: FBT001 - as Arms asks
        strays = device == "old-3" and BEFORE + 5 <= index < BEFORE + 8
        return calls(device, index, is_new=is_new or strays)

    arms = fleet(answer)
    evidence = arms.run(8)
    found = gate(evidence, "contaminated control")

    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.detail == "of the control answered with the version: old-3"
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert gate(arms.run(CLEAN_ROUNDS + 2), "contaminated control").verdict is Verdict.HEALTHY


@pytest.mark.parametrize(("wrong", "verdict"), [(1, Verdict.HEALTHY), (6, Verdict.INCONCLUSIVE)])
def test_clocks_that_run_ahead_are_told_and_many_of_them_end_the_comparison(
    wrong: int, verdict: Verdict
) -> None:
    def answer(device: str, is_new: bool, index: int) -> WindowFacts:  # noqa: FBT001 - as Arms asks
        window = calls(device, index, is_new=is_new)
        return misdated(window, 100.0) if device in {f"old-{i}" for i in range(wrong)} else window

    found = gate(fleet(answer).run(10), "clocks")

    assert found.verdict is verdict
    assert "old-0" in found.detail


def test_a_first_installation_has_no_arms_to_check() -> None:
    arms = Arms(make_plan(previous=None, control=0.0), steady, control=0)

    assert [one.name for one in arms.run(5).experiment] == ["clocks"]


def noisy(seed: int) -> Answer:
    chance = np.random.default_rng(seed)

    def answer(device: str, is_new: bool, index: int) -> WindowFacts | None:  # noqa: FBT001 - as Arms asks
        if chance.random() < 0.1:
            return None
        errors = int(chance.binomial(200, 0.03 if is_new else 0.02))
        window = calls(
            device, index, is_new=is_new, errors=errors, counters={"scrap": int(chance.poisson(20))}
        )
        late = float(chance.choice([0.0, 0.0, 0.0, -3.0]))  # a window that comes later makes its own round
        return replace(window, start=window.start + late, end=window.end + late)

    return answer


@pytest.mark.parametrize("seed", range(3))
def test_the_same_windows_lead_to_the_same_evidence_however_often_one_looked(seed: int) -> None:
    plan = make_plan(margins={"counters": {"scrap": {"margin": 0.05}}, "accuracy": 0.1})
    arms, chance = Arms(plan, noisy(seed)), np.random.default_rng(seed)
    arms.run(6)
    for rounds in range(1, 20):
        arms.tick(1)
        if rounds == 10:
            arms.ledger = begin_stage(arms.ledger)
        for _ in range(int(chance.integers(3))):
            arms.take(labels=[LabelFacts("old-1", OLD, float(rounds), 30, int(chance.integers(20, 31)))])
            arms.take(labels=[LabelFacts("new-1", NEW, float(BEFORE + rounds), 30, 25)])
    again = replay(plan, arms.ledger, Inputs(arms.taken, float(BEFORE), arms.labels))

    assert arms.ledger.rounds > 0
    assert differences(arms.ledger, again) == ()
    assert again.before == arms.ledger.before
    assert again.totals == arms.ledger.totals


def test_a_window_that_was_changed_shows() -> None:
    arms = Arms(make_plan(), noisy(0))
    arms.run(20)
    forged = [(n, replace(w, errors=0) if w.manifest == NEW else w) for n, w in arms.taken]
    again = replay(arms.plan, arms.ledger, Inputs(forged, float(BEFORE)))

    assert any(words.startswith("errors: effect") for words in differences(arms.ledger, again))


def test_a_window_that_is_gone_shows() -> None:
    arms = Arms(make_plan(), noisy(0))
    arms.run(20)
    again = replay(arms.plan, arms.ledger, Inputs(arms.taken[: len(arms.taken) // 2], float(BEFORE)))

    assert differences(arms.ledger, again)[0].startswith("rounds:")


def test_once_the_control_is_given_the_version_too_there_are_no_arms_to_check() -> None:
    arms = fleet()
    arms.run(10)
    arms.control = 0

    assert [one.name for one in arms.judge().experiment] == ["clocks"]


def test_the_experiment_is_checked_before_anything_is_healthy() -> None:
    plan = make_plan(stages=[{"percent": 50, "minimum_rounds": 1}, {"percent": 100}], margins={"errors": 0.1})
    arms = Arms(plan, steady, stage=12, control=12)

    assert any(words.endswith("of 3 rounds") for words in arms.run(4).missing)
    assert not any(words.endswith("of 3 rounds") for words in arms.run(6).missing)


def test_a_stage_begins_with_nobody_heard() -> None:
    arms = fleet()
    arms.run(5)
    ledger = begin_stage(arms.ledger)

    assert len(arms.ledger.heard) == 12
    assert (ledger.heard, ledger.reporting, ledger.rounds) == ((), (), 0)


def test_what_comes_late_is_compared_whoever_looked_in_between() -> None:
    """Both arms of one round come an hour late, in the same round and one after the other."""
    arms = fleet()
    arms.run(10)
    arms.tick(1)
    before = arms.ledger.rounds
    for is_new in (True, False):
        late = [calls(d, 15, is_new=is_new) for d, arm in arms.arms.items() if (arm == 0) == is_new]
        arms.take(late)
    arms.tick(1)

    assert arms.ledger.rounds == before + 2

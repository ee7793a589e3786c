"""Devices that come to a stage late: what the others showed is no assurance about them, and hides no harm."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_controller.domain.facts import WindowFacts
from muster_controller.domain.rollouts.judging.evidence import Evidence, Verdict
from muster_controller.domain.rollouts.judging.ledger import STAKE, Trial, begin_anew
from muster_controller.domain.sequential import log_mean
from support.arms import BEFORE, Answer, Arms, calls, gate
from support.rollouts import make_plan

AT_ONCE = 5  # rounds in which devices that fail half of their calls are found, whatever was before
LATE = "new-0"
UNSKETCHED = "missing predictions: 0 of 50 seen"  # which is so for ever: these windows have no sketch


def is_enough(evidence: Evidence) -> bool:
    """Tell whether nothing is missing but sketches, and nothing speaks against the version."""
    return evidence.verdict is not Verdict.UNHEALTHY and set(evidence.missing) <= {UNSKETCHED}


def wealth(sides: tuple[Trial, ...]) -> float:
    return max(math.exp(log_mean(np.array(trial.harm))) for trial in sides)


def joining(at: int, *, errors: int = 0) -> Answer:
    """Return answers of a stage of which one device gets the version so many rounds after the others."""

    def answer(device: str, is_new: bool, index: int) -> WindowFacts:  # noqa: FBT001 - as Arms asks
        is_late = device == LATE
        runs = is_new and not (is_late and index < BEFORE + at)
        return calls(device, index, is_new=runs, errors=errors if runs and is_late else 0)

    return answer


@settings(max_examples=30, deadline=None)
@given(at=st.integers(1, 60), stage=st.integers(2, 8), control=st.integers(1, 4))
def test_harm_that_begins_with_a_late_device_is_found_however_long_the_others_were_well(
    at: int, stage: int, control: int
) -> None:
    arms = Arms(make_plan(), joining(at, errors=100), stage=stage, control=control)
    arms.run(at + 3)  # its first round, that of the change, is left out; the next is closed two rounds later

    seen = [arms.run(1) for _ in range(AT_ONCE)]

    assert not any(map(is_enough, seen))
    assert seen[-1].verdict is Verdict.UNHEALTHY


@settings(max_examples=30, deadline=None)
@given(at=st.integers(4, 40), stage=st.integers(2, 8))
def test_no_stage_is_healthy_before_a_device_that_can_speak_was_compared(at: int, stage: int) -> None:
    arms = Arms(make_plan(), joining(at), stage=stage)

    before = [arms.run(1) for _ in range(at + 3)]
    after = arms.run(8)

    assert not any(map(is_enough, before))
    assert is_enough(after)


def test_who_was_not_heard_is_named() -> None:
    arms = Arms(make_plan(), joining(1000))

    evidence = arms.run(10)

    assert f"{LATE} to be compared" in evidence.missing


def test_those_that_cannot_be_reached_are_not_waited_for() -> None:
    arms = Arms(make_plan(), joining(1000), gone={LATE})

    assert is_enough(arms.run(10))


def test_a_stage_that_rests_as_its_control_does_is_not_waited_for() -> None:
    def answer(device: str, is_new: bool, index: int) -> WindowFacts | None:  # noqa: FBT001 - as Arms asks
        rests = index >= BEFORE and device in {LATE, "old-0"}
        return None if rests else calls(device, index, is_new=is_new)

    assert is_enough(Arms(make_plan(), answer).run(10))


def test_a_device_that_comes_and_goes_begins_the_rounds_anew_once() -> None:
    def answer(device: str, is_new: bool, index: int) -> WindowFacts | None:  # noqa: FBT001 - as Arms asks
        is_away = is_new and device == LATE and index % 6 < 3
        return None if is_away else calls(device, index, is_new=is_new)

    arms = Arms(make_plan(), answer)
    arms.run(30)

    assert arms.ledger.begun <= 2
    assert is_enough(arms.judge())


def test_a_round_far_outside_of_a_margin_weighs_more_than_many_good_ones() -> None:
    def answer(device: str, is_new: bool, index: int) -> WindowFacts:  # noqa: FBT001 - as Arms asks
        bad = is_new and index >= BEFORE + 4 and index % 3 == 0
        return calls(device, index, is_new=is_new, errors=60 if bad else 0)

    arms = Arms(make_plan(limits={"errors": 1.0}), answer)
    arms.run(8)
    found = [gate(arms.run(1), "errors") for _ in range(20)]

    outside = [one.verdict for one in found if one.high is not None and one.high > one.margin]
    assert outside
    assert Verdict.HEALTHY not in outside


@pytest.mark.parametrize("times", [1, 10, 1000])
def test_all_stakes_of_a_bet_on_harm_are_no_more_than_was_promised(times: int) -> None:
    arms = Arms(make_plan(), joining(1))
    arms.run(3)
    trials = {"errors": arms.ledger.trials["errors"]}
    before = wealth(trials["errors"])
    for begun in range(1, times + 1):
        trials = begin_anew(trials, begun=begun)

    staked = wealth(trials["errors"]) - before

    assert 0 < staked <= STAKE

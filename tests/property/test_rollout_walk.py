"""The state walk: every state that courses lead to, with every event and every silence; nothing is stuck."""

import dataclasses
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts.machine import (
    Abort,
    Approve,
    Code,
    Decision,
    Disown,
    Edit,
    Event,
    Pause,
    Promote,
    Resume,
    Retry,
    RollBack,
    RolloutPhase,
    Start,
    State,
    Step,
    Tick,
    Withhold,
    assignments,
    decide,
    from_json,
    is_live,
    needs_ticks,
    to_json,
)
from muster_controller.domain.rollouts.planning.approval import Approval, digest_of
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_models.errors import Reason
from muster_models.sketch.window import empty
from muster_models.wire import Phase
from support.rollout_states import reached, running_steps, version
from support.rollouts import NEW, OLD
from support.windows import DEVICES, window

FINAL = frozenset({RolloutPhase.COMPLETED, RolloutPhase.ROLLED_BACK, RolloutPhase.ABORTED})
FORWARD = (RolloutPhase.RUNNING, RolloutPhase.COMPLETED)
EDITS: tuple[dict[str, Any], ...] = (
    {"control": 0.5},
    {"start_at": 5e9},
    {"selector": "site = nowhere"},
    {"approval": Approval(needed=3)},
    {},
)
BOTH = pytest.mark.parametrize("previous", [OLD, None])


def every_facts(now: float) -> list[Facts]:
    """Return what a fleet may look like: gone, silent, failed, done, back, taken, its version withdrawn."""
    silent = {name: DeviceFacts(name) for name in DEVICES}
    failed = {
        name: DeviceFacts(name, seen=now, current=OLD, target=NEW, phase=Phase.FAILED, reason=reason)
        for name, reason in zip(
            DEVICES, [Reason.CRASHED, None, Reason.NO_SPACE, Reason.ORDERED] * 2, strict=True
        )
    }
    done = {
        name: DeviceFacts(name, seen=now, current=NEW, target=NEW, zone="Nowhere/Much") for name in DEVICES
    }
    back = {name: DeviceFacts(name, seen=now, current=OLD) for name in DEVICES}
    baseline = version("1.1.0").baseline
    zero = window("oslo-1", now - 5, manifest=NEW, sketch=empty(baseline), baseline=baseline)
    return [
        Facts(now, {}),
        Facts(now, silent, reachable_seconds=5.0),
        Facts(now, failed),
        Facts(now, done),
        Facts(now, back),
        Facts(now, back, elsewhere=dict.fromkeys(DEVICES, 9)),
        Facts(now, done, withdrawn=True),
        Facts(now, done, [zero], 10**6),
    ]


def every_event(plan: Plan, state: State, now: float) -> list[Event]:
    """Return every kind of event, those of people also in forms that do not fit."""
    digest = digest_of(plan, plan.digest, state.evidence)
    return [
        *(Tick(facts) for facts in every_facts(now)),
        *(Start("anna", "", facts) for facts in every_facts(now)),
        Approve("berta", "approver", "looks good", digest, now),
        Approve("berta", "approver", "looks good", "0" * 64, now),
        Approve("anna", "approver", "my own", digest, now),
        Disown("berta", (), now),
        Disown("berta", ("operator", "approver"), now),
        Disown("berta", ("operator", "approver"), now, ("weather",)),
        *(
            Edit("dina", "fewer", replace(plan, **other), facts)
            for facts in every_facts(now)
            for other in EDITS
        ),
        Withhold("berta", "approver", "", now),
        Withhold("berta", "operator", "", now),
        Pause("anna", "", now),
        Resume("anna", "", now),
        Promote("anna", "", now),
        Abort("anna", "", "keep", now),
        Abort("anna", "", "revert", now),
        Abort("anna", "", None, now),
        Retry("anna", "", now),
        RollBack("anna", "", now),
        RollBack("anna", "", now, devices=(DEVICES[0],)),
        RollBack("anna", "", now, devices=("nobody",)),
        RollBack("anna", "", now, stage=0),
        RollBack("anna", "", now, stage=9),
        RollBack("anna", "", now, devices=(DEVICES[0],), stage=0),
        RollBack("anna", "we must", now, override=True),
    ]


def check(plan: Plan, state: State, decision: Decision) -> None:
    """Hold what is true of every decision."""
    following, plan = decision.state, decision.plan or plan
    assert following is state or decision.refused is None
    assert not is_live(following) or following.deadline is not None or following.waiting != ""
    assert following.phase not in FINAL or following.deadline is None
    assert (following.code is Code.DRAFT) == (following.phase is RolloutPhase.DRAFT)
    assert following.phase is RolloutPhase.DRAFT or following.reason != ""
    assert following.phase is not RolloutPhase.RUNNING or following.members != {}
    assert needs_ticks(plan, following) >= is_live(following)
    document = msgspec.json.decode(msgspec.json.encode(to_json(following)))
    assert from_json(document, following.members) == following
    assert set(assignments(plan, following)) <= following.members.keys()
    assert decision.plan is None or state.phase in {RolloutPhase.PENDING_APPROVAL, RolloutPhase.SCHEDULED}
    assert decision.plan is None or all(one.void for one in following.approvals)


def test_the_courses_reach_every_phase_step_and_code() -> None:
    states = [state for _, state in reached(OLD)]

    assert {state.phase for state in states} == set(RolloutPhase)
    assert running_steps(OLD) == set(Step)
    assert {state.code for state in states} == set(Code)


@BOTH
@pytest.mark.parametrize("later", [0.0, 5.0, 1e6, -1000.0])
def test_every_event_in_every_state_has_an_answer_and_nothing_is_stuck(
    previous: str | None, later: float
) -> None:
    for plan, state in reached(previous):
        for event in every_event(plan, state, max(0.0, state.at + later)):
            check(plan, state, decide(plan, state, event))


@BOTH
def test_a_refused_order_says_why_and_changes_nothing(previous: str | None) -> None:
    refused = 0
    for plan, state in reached(previous):
        for event in every_event(plan, state, state.at):
            decision = decide(plan, state, event)
            if decision.refused is not None:
                refused += 1
                assert decision.state is state
                assert len(decision.refused) > 10
                assert (decision.notes, decision.evidence) == ((), None)

    assert refused > 100


@BOTH
def test_time_alone_ends_every_wait_that_has_a_deadline(previous: str | None) -> None:
    for plan, state in reached(previous):
        if not is_live(state) or state.deadline is None:
            continue
        after = decide(plan, state, Tick(silence(state.deadline + 1, state))).state

        assert (after.phase, after.step, after.deadline) != (state.phase, state.step, state.deadline)


@BOTH
def test_silence_ends_every_rollout_in_a_state_that_says_what_it_waits_for(previous: str | None) -> None:
    """No event at all until past each deadline, again and again: no step that harms, and no dead end."""
    for plan, state in reached(previous):
        following, past = state, 0
        while is_live(following) and following.deadline is not None:
            following = decide(plan, following, Tick(silence(following.deadline + 1, following))).state
            past += 1

            assert past <= 2 * (len(plan.stages) + 2)
        check(plan, state, Decision(following))
        assert not is_live(following) or following.waiting != ""
        # What began by itself had its time; nothing was promoted, and nobody new was given the version.
        assert following.stage == state.stage
        assert following.phase is state.phase or following.phase is not RolloutPhase.COMPLETED
        assert following.admitted == state.admitted or previous is None


def silence(now: float, state: State) -> Facts:
    """Return a fleet that nobody has heard of for long."""
    names = DEVICES if not state.members else state.members
    return Facts(now, {name: DeviceFacts(name) for name in names}, reachable_seconds=1.0)


@BOTH
def test_nothing_is_promoted_on_silence(previous: str | None) -> None:
    for plan, state in reached(previous):
        following = state
        for seconds in range(1, 400, 7):
            now = state.at + seconds
            quiet = {n: DeviceFacts(n, seen=now, current=NEW, target=NEW) for n in DEVICES}
            following = decide(plan, following, Tick(Facts(now, quiet))).state

        if state.ledger.rounds == 0 and state.phase is RolloutPhase.RUNNING and state.step is not Step.FINISH:
            assert following.stage == state.stage
            assert following.phase is not RolloutPhase.COMPLETED


@BOTH
def test_a_clock_that_went_back_moves_no_deadline_and_promotes_nothing(previous: str | None) -> None:
    for plan, state in reached(previous):
        for facts in every_facts(state.at - 500.0):
            following = decide(plan, state, Tick(facts)).state

            assert following.at == state.at
            assert following.stage == state.stage
            assert (following.admitted, following.soaked) == (state.admitted, state.soaked)
            if following.phase is state.phase and is_live(state):
                assert following.deadline == state.deadline
                assert following.since == state.since
            if state.phase is RolloutPhase.RUNNING and following.phase is RolloutPhase.RUNNING:
                assert (following.code, following.step) == (Code.CLOCK_WENT_BACK, state.step)
            if state.phase not in FINAL:
                assert following.phase is not RolloutPhase.COMPLETED


@BOTH
def test_when_the_clock_is_right_again_the_rollout_goes_on_as_if_nothing_had_been(
    previous: str | None,
) -> None:
    for plan, state in reached(previous):
        if state.phase is not RolloutPhase.RUNNING:
            continue
        still = {n: DeviceFacts(n, seen=state.at + 1, current=OLD) for n in state.members}
        wrong = decide(plan, state, Tick(Facts(state.at - 500.0, still))).state
        healed = decide(plan, wrong, Tick(Facts(state.at + 1, still))).state
        straight = decide(plan, state, Tick(Facts(state.at + 1, still))).state

        # It looked once more, which evidence and ledger show; where the rollout stands they do not.
        beside = {"evidence": None, "ledger": straight.ledger}
        assert replace(healed, **beside) == replace(straight, **beside)


@BOTH
def test_a_person_may_accept_what_the_clock_shows(previous: str | None) -> None:
    stood = 0
    for plan, state in reached(previous):
        now = state.at - 500.0
        still = {n: DeviceFacts(n, seen=now, current=OLD) for n in DEVICES}
        wrong = decide(plan, state, Tick(Facts(now, still))).state
        if wrong.code is not Code.CLOCK_WENT_BACK:
            continue
        stood += 1
        resumed = decide(plan, wrong, Resume("anna", "the clock is right now", now))
        after = decide(plan, resumed.state, Tick(Facts(now + 1, still))).state

        assert resumed.refused is None
        assert (resumed.state.at, after.code is Code.CLOCK_WENT_BACK) == (now, False)

    assert stood > 10


@BOTH
def test_harm_rolls_back_whatever_the_clock_says(previous: str | None) -> None:
    seen = 0
    for plan, state in reached(previous):
        given = [name for name, member in state.members.items() if member.given is not None]
        if state.phase not in {RolloutPhase.RUNNING, RolloutPhase.PAUSED} or not given:
            continue
        seen += 1
        now = state.at - 500.0
        crashed = {
            name: DeviceFacts(name, seen=now, target=NEW, phase=Phase.FAILED, reason=Reason.CRASHED)
            for name in state.members
        }
        after = decide(plan, state, Tick(Facts(now, crashed))).state

        assert after.phase is RolloutPhase.ROLLING_BACK
        assert after.deadline == state.at + plan.rollback_deadline_seconds

    assert seen > 10


def test_deciding_changes_no_state_that_it_was_given() -> None:
    """Members are kept in a dictionary: a decision must not write into it."""
    for plan, state in reached(OLD):
        before = dict(state.members)
        for event in every_event(plan, state, state.at + 5):
            decide(plan, state, event)

        assert state.members == before


def test_facts_may_lack_members_and_name_strangers() -> None:
    for plan, state in reached(OLD):
        for facts in every_facts(state.at + 1):
            few = dict(list(facts.devices.items())[::3]) | {
                "stranger": DeviceFacts("stranger", seen=facts.now)
            }
            odd = dataclasses.replace(facts, devices=few)

            check(plan, state, decide(plan, state, Tick(odd)))
            check(plan, state, decide(replace(plan, dynamic=True), state, Tick(odd)))

"""What people order of rollouts, how rollouts begin, and how devices are tried again."""

from dataclasses import replace
from typing import Any

import pytest

from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.machine import (
    Abort,
    Approve,
    Code,
    Promote,
    Resume,
    Retry,
    RollBack,
    RolloutPhase,
    Start,
    Step,
    Withhold,
    assignments,
    needs_ticks,
)
from muster_controller.domain.rollouts.planning.approval import digest_of
from muster_models.errors import Reason
from muster_models.wire import Phase
from support.rollout_states import answers
from support.rollouts import NEW, OLD, World, make_plan
from support.windows import DEVICES

SHORT = [{"percent": p, "soak_seconds": 3, "minimum_rounds": 3} for p in (25, 100)]
POLICY = {"needed": 2, "expires_seconds": 60.0}


def fresh(*, start: bool = True, known: dict[str, Any] | None = None, **changes: Any) -> World:
    world = World(make_plan(**{"stages": SHORT, **changes}), answers("1.1.0", "1.1.0"), known=known or {})
    world.run_before(10)
    if start:
        world.start()
    return world


def until(world: World, *, most: int = 150, **wanted: object) -> World:
    """Let time pass until the state has these fields."""
    for _ in range(most):
        world.tick()
        if all(getattr(world.state, name) == value for name, value in wanted.items()):
            return world
    raise AssertionError(f"{wanted}: still {world.state.phase}, {world.state.step}: {world.state.waiting}")


def arm(world: World, index: int) -> set[str]:
    return {name for name, member in world.state.members.items() if member.arm == index}


# Beginning


def approve(world: World, person: str, *, role: str = "approver", digest: str | None = None) -> str | None:
    right = digest_of(world.plan, world.plan.digest, world.state.evidence)
    return world.order(Approve(person, role, "fine", digest or right, world.now)).refused


def test_a_rollout_that_needs_approval_begins_when_enough_people_agree() -> None:
    world = fresh(approval=POLICY)
    asked = world.state
    first, again = approve(world, "berta"), approve(world, "berta")
    world.tick()
    still = world.state
    approve(world, "carl")
    ready = world.state
    world.tick()

    assert (asked.phase, asked.code, asked.author) == (
        RolloutPhase.PENDING_APPROVAL, Code.APPROVAL_WANTED, "anna",
    )  # fmt: skip
    assert (first, again) == (None, None)
    assert (still.phase, still.waiting) == (RolloutPhase.PENDING_APPROVAL, "1 of 2 approvals by approver")
    assert (ready.phase, ready.code, ready.deadline) == (RolloutPhase.SCHEDULED, Code.APPROVED, world.now - 1)
    assert (world.state.phase, world.state.code) == (RolloutPhase.RUNNING, Code.STARTED)
    assert len(world.state.members) == len(DEVICES)


@pytest.mark.parametrize(
    ("person", "role", "digest", "why"),
    [
        ("anna", "approver", None, "anna may not approve what is their own"),
        ("berta", "operator", None, "berta approved as operator, expected approver"),
        ("berta", "approver", "0" * 64, "the plan or the evidence has changed"),
    ],
)
def test_an_approval_that_does_not_count_is_refused_with_the_reason(
    person: str, role: str, digest: str | None, why: str
) -> None:
    world = fresh(approval=POLICY)

    assert why in str(approve(world, person, role=role, digest=digest))
    assert world.state.approvals == ()


def test_approvals_that_expire_before_the_start_send_it_back_to_be_approved() -> None:
    world = fresh(approval=POLICY, start_at=1300.0)
    approve(world, "berta")
    approve(world, "carl")
    scheduled = world.state
    world.tick(61)

    assert (scheduled.phase, scheduled.deadline) == (RolloutPhase.SCHEDULED, 1300.0)
    assert (world.state.phase, world.state.code) == (RolloutPhase.PENDING_APPROVAL, Code.APPROVAL_VOID)
    assert "has expired" in world.state.waiting


def test_a_person_who_refuses_ends_it() -> None:
    world = fresh(approval=POLICY)
    stranger = world.order(Withhold("berta", "auditor", "no", world.now))
    refused = world.order(Withhold("berta", "approver", "too late in the year", world.now))

    assert stranger.refused == "berta withholds as auditor, expected approver"
    assert (refused.state.phase, refused.state.code) == (RolloutPhase.ABORTED, Code.WITHHELD)
    assert refused.notes == ("withheld by berta: too late in the year",)


def test_promoting_against_the_evidence_takes_as_many_people_as_starting_did() -> None:
    world = fresh(approval=POLICY)
    approve(world, "berta")
    approve(world, "carl")
    until(world, step=Step.SOAK)
    alone = world.order(Promote("anna", "I am sure", world.now))
    approve(world, "berta")
    approve(world, "carl")
    by_one_of_them = world.order(Promote("berta", "I am sure", world.now))
    together = world.order(Promote("anna", "we are sure", world.now))

    assert "to promote against the evidence is to be approved: 2 of 2" in str(alone.refused)
    assert "berta may not approve what is their own" in str(by_one_of_them.refused)
    assert together.refused is None
    assert world.state.stage == 1


def test_an_approval_of_older_evidence_promotes_nothing() -> None:
    world = fresh(approval={"needed": 1})
    approve(world, "berta")
    until(world, step=Step.SOAK)
    approve(world, "berta")
    until(world, stage=1)

    assert "has changed since" in str(world.order(Promote("anna", "go on", world.now)).refused)


def test_a_scheduled_rollout_begins_at_its_time() -> None:
    world = fresh(start_at=1030.0)
    waiting = world.state
    until(world, phase=RolloutPhase.RUNNING)

    assert (waiting.phase, waiting.code, waiting.deadline) == (
        RolloutPhase.SCHEDULED, Code.SCHEDULED, 1030.0,
    )  # fmt: skip
    assert assignments(world.plan, waiting) == {}
    assert world.now == 1030.0


def test_the_draw_is_made_when_it_begins_and_not_when_it_is_planned() -> None:
    world = fresh(start_at=1030.0)
    world.devices["rome-1"] = replace(world.devices["oslo-1"], device="rome-1")
    until(world, phase=RolloutPhase.RUNNING)

    assert "rome-1" in world.state.members


@pytest.mark.parametrize(
    ("changes", "known", "why"),
    [
        (
            {"start_at": 900.0},
            {},
            "start_at: 1970-01-01T00:15:00Z is past, expected a time to come, or none: at once",
        ),
        ({}, {"elsewhere": {"oslo-1": 4}}, "in rollout 4 already: 1 device, such as oslo-1"),
        ({}, {"withdrawn": True}, "the version was withdrawn, abort this rollout and plan another"),
        (
            {"byte_budget": {"bytes": 100, "seconds": 60}},
            {"download_bytes": 101},
            "byte_budget.bytes is 100, and one device needs 101 for this",
        ),
    ],
)
def test_what_cannot_begin_is_refused_with_the_reason(
    changes: dict[str, Any], known: dict[str, Any], why: str
) -> None:
    world = fresh(start=False, known=known, **changes)

    assert world.order(Start("anna", "", world.facts(()))).refused == why


def test_what_gets_in_the_way_of_a_scheduled_rollout_holds_it_until_it_is_gone() -> None:
    world = fresh(start_at=1020.0)
    world.known["elsewhere"] = {"oslo-1": 4}
    world.tick(30)
    held = world.state
    world.known.clear()
    world.tick()

    assert (held.phase, held.code, held.deadline) == (RolloutPhase.SCHEDULED, Code.OVERLAP, None)
    assert held.waiting == "that it can begin: in rollout 4 already: 1 device, such as oslo-1"
    assert world.state.phase is RolloutPhase.RUNNING


# Going back


def test_one_device_goes_back_while_the_rollout_goes_on() -> None:
    world = until(fresh(), step=Step.SOAK)
    bad, good = sorted(arm(world, 0))
    decision = world.order(RollBack("anna", "it smells", world.now, devices=(bad,)))
    until(world, phase=RolloutPhase.COMPLETED)
    world.tick(5)

    assert decision.notes == (f"{bad} rolled back by anna: it smells",)
    assert world.running(OLD) == {bad}
    assert world.state.members[bad].withdrawn == f"{bad} rolled back by anna: it smells"
    assert good in world.running(NEW)


def test_a_stage_goes_back_while_the_rollout_goes_on() -> None:
    world = until(fresh(), stage=1, step=Step.SOAK)
    decision = world.order(RollBack("anna", "", world.now, stage=0))
    world.tick(3)

    assert decision.notes == ("stage 1 (2 devices) rolled back by anna",)
    assert world.running(NEW) == arm(world, 1)
    assert world.state.phase is RolloutPhase.RUNNING


def test_when_the_only_stage_so_far_goes_back_a_person_must_say_how_to_go_on() -> None:
    world = until(fresh(), step=Step.SOAK)
    world.order(RollBack("anna", "", world.now, stage=0))
    world.tick(6)

    assert (world.state.step, world.state.code) == (Step.HOLD, Code.NO_DEVICES)
    assert world.running(NEW) == set()


@pytest.mark.parametrize("days", [29, 31])
def test_a_completed_rollout_goes_back_inside_its_window_and_outside_with_a_reason(days: int) -> None:
    world = until(fresh(), phase=RolloutPhase.COMPLETED)
    world.tick(5)
    world.now += days * 86_400.0
    plain = world.order(RollBack("anna", "", world.now))
    silent = world.order(RollBack("anna", "", world.now, override=True))
    forced = world.order(RollBack("anna", "it was worse", world.now, override=True))
    until(world, phase=RolloutPhase.ROLLED_BACK)

    late = "the rollback window of 30 days is over: expected an override with a reason"
    ordered_first = "a rollout that is rolling-back has nothing to roll back"
    refused = [late, late, None] if days > 30 else [None, ordered_first, ordered_first]
    assert [decision.refused for decision in (plain, silent, forced)] == refused
    assert world.state.code is Code.ROLLED_BACK_BY_ORDER
    assert world.running(OLD) == set(DEVICES)


def test_who_is_not_in_the_rollout_cannot_be_rolled_back_in_it() -> None:
    world = until(fresh(), step=Step.SOAK)
    orders = [
        RollBack("anna", "", world.now, devices=("rome-1",)),
        RollBack("anna", "", world.now, stage=2),
        RollBack("anna", "", world.now, devices=(DEVICES[0],), stage=0),
    ]

    assert [world.order(order).refused for order in orders] == [
        "not in this rollout: rome-1",
        "this rollout has stages 1 to 2, got 3",
        "roll back either devices or a stage, got both",
    ]


@pytest.mark.parametrize(("abort", "running"), [("keep", NEW), ("revert", OLD)])
def test_an_abort_that_does_not_say_how_does_what_the_plan_says(abort: str, running: str) -> None:
    world = until(fresh(abort=abort), step=Step.SOAK)
    world.order(Abort("anna", "", None, world.now))
    world.tick(6)

    assert arm(world, 0) <= world.running(running)


def test_a_device_that_wakes_after_a_rollback_gets_todays_decision() -> None:
    world = until(fresh(), step=Step.ADMIT, admitted=1)
    sleeper = min(arm(world, 0))
    world.offline = {sleeper}
    until(world, step=Step.SOAK)
    world.order(Abort("anna", "", "revert", world.now))
    until(world, phase=RolloutPhase.ROLLBACK_INCOMPLETE)
    world.offline = set()
    until(world, phase=RolloutPhase.ROLLED_BACK)

    assert world.running(NEW) == set()


# Trying again


RETRY = {"tries": 2, "backoff_seconds": 5.0, "growth": 2.0, "jitter": 0.1}


def test_a_device_with_a_passing_fault_is_tried_again_until_it_runs() -> None:
    world = fresh(retry=RETRY)
    world.faults = dict.fromkeys(DEVICES, Reason.NO_SPACE)
    first = until(world, code=Code.UNSETTLED)
    while not any(member.retry_at for member in first.state.members.values()):
        world.tick()
    failed = dict(world.state.members)
    world.faults = {}
    until(world, phase=RolloutPhase.COMPLETED)
    world.tick(5)

    waits = {name: member for name, member in failed.items() if member.retry_at is not None}
    assert waits.keys() == {name for name, member in failed.items() if member.arm == 0}
    assert {(member.tries, member.given) for member in waits.values()} == {(1, None)}
    assert world.running(NEW) == set(DEVICES)
    assert all(member.failure is None and member.tries == 0 for member in world.state.members.values())


def test_after_its_last_try_a_device_has_failed() -> None:
    world = fresh(retry=RETRY, stage_deadline_seconds=200.0)
    world.faults = dict.fromkeys(DEVICES, Reason.NO_SPACE)
    world.tick(80)
    stage = [world.state.members[name] for name in arm(world, 0)]

    assert {(m.tries, m.retry_at, m.failure.reason if m.failure else "") for m in stage} == {
        (2, None, "no-space")
    }
    assert world.state.evidence is not None
    assert world.state.evidence.failures == {"no-space": 2}


def test_a_fault_of_the_version_is_not_tried_again_unless_the_plan_names_it() -> None:
    world = fresh(retry=RETRY)
    world.faults = dict.fromkeys(DEVICES, Reason.CRASHED)

    until(world, phase=RolloutPhase.ROLLED_BACK)


def test_an_operator_gives_the_version_again_to_whoever_failed() -> None:
    world = fresh(limits={"failures": 0.5})
    bad = min(arm(world, 0))
    world.faults = {bad: Reason.NO_SPACE}
    until(world, step=Step.SOAK)
    world.tick(3)
    world.faults = {}
    decision = world.order(Retry("anna", "disk was cleaned", world.now))
    world.tick(8)

    assert decision.notes == ("retried on 1 device by anna: disk was cleaned",)
    assert bad in world.running(NEW)
    assert world.state.members[bad].failure is None
    assert world.order(Retry("anna", "", world.now)).refused == "no device of this rollout has failed"


def test_an_accepted_failure_is_accepted_until_the_version_runs_after_all() -> None:
    world = fresh(stage_deadline_seconds=20.0)
    bad = min(arm(world, 0))
    world.faults = {bad: Reason.NO_SPACE}
    until(world, step=Step.HOLD)
    world.order(Resume("anna", "known", world.now))
    accepted = world.state.members[bad].acknowledged
    world.tick()
    world.devices[bad] = replace(world.devices[bad], current=NEW, phase=Phase.COMMITTED, reason=None)
    world.faults = {}
    world.tick()

    assert accepted
    assert not world.state.members[bad].acknowledged


# Pace


def test_a_stage_fills_at_the_rate_and_soaks_when_it_is_full() -> None:
    world = fresh(ramp={"per_minute": 1}, stage_deadline_seconds=600.0)
    until(world, code=Code.RATE_LIMITED)
    given = [name for name, member in world.state.members.items() if member.given is not None]
    until(world, step=Step.SOAK)

    assert len(given) == 1
    assert {member.given is not None for n, member in world.state.members.items() if member.arm == 0} == {
        True
    }


def test_the_last_step_gives_the_version_to_the_control_at_the_same_pace() -> None:
    world = fresh(ramp={"per_minute": 6}, stage_deadline_seconds=600.0)
    until(world, step=Step.FINISH, most=400)
    finishing = world.state
    until(world, phase=RolloutPhase.COMPLETED)
    world.tick(5)

    assert (finishing.phase, finishing.code) == (RolloutPhase.RUNNING, Code.HEALTHY)
    assert world.state.code is Code.HEALTHY
    assert world.running(NEW) == set(DEVICES)
    assert not needs_ticks(world.plan, world.state)


def test_whoever_slept_through_a_paced_rollout_gets_the_version_when_it_wakes() -> None:
    world = fresh(ramp={"per_minute": 60}, stage_deadline_seconds=600.0)
    sleeper = min(arm(world, CONTROL))
    until(world, step=Step.SOAK, stage=1, most=400)
    world.offline = {sleeper}
    until(world, phase=RolloutPhase.COMPLETED, most=400)
    world.tick(20)
    asleep = needs_ticks(world.plan, world.state), sleeper in world.running(NEW)
    world.offline = set()
    world.tick(8)

    assert asleep == (True, False)
    assert world.running(NEW) == set(DEVICES)
    assert not needs_ticks(world.plan, world.state)


def test_a_newer_rollout_takes_over_whoever_still_sleeps() -> None:
    world = fresh(ramp={"per_minute": 60}, stage_deadline_seconds=600.0)
    sleeper = min(arm(world, CONTROL))
    until(world, step=Step.SOAK, stage=1, most=400)
    world.offline = {sleeper}
    until(world, phase=RolloutPhase.COMPLETED, most=400)
    world.offline, world.known["elsewhere"] = set(), {sleeper: 9}
    world.tick(8)

    assert world.state.members[sleeper].given is None


def test_a_way_back_waits_for_no_window() -> None:
    # The worlds begin at 00:16:40 on a Thursday.
    world = fresh(windows=[{"start": "00:00", "end": "00:18"}], stage_deadline_seconds=600.0)
    until(world, step=Step.SOAK)
    world.now += 3600.0
    world.order(Abort("anna", "", "revert", world.now))
    world.tick(6)

    assert world.running(NEW) == set()

"""Editing the plan of a rollout that has not begun, and approvals whose giver lost the role."""

from typing import Any

import pytest
from msgspec.structs import replace

from muster_controller.domain.facts import Facts
from muster_controller.domain.rollouts.machine import (
    Abort,
    Approve,
    Code,
    Decision,
    Disown,
    Edit,
    Pause,
    Promote,
    RolloutPhase,
    State,
    decide,
)
from muster_controller.domain.rollouts.planning.approval import Approval, digest_of
from muster_controller.domain.rollouts.planning.changes import compare
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from support.rollout_states import answers, reached
from support.rollouts import NEW, OLD, World, make_plan

POLICY = Approval(needed=2, expires_seconds=60.0)
LATER = 1100.0


def waiting(**changes: Any) -> World:
    """Return a world with a rollout that waits for two people."""
    plan = make_plan(approval={"needed": 2, "expires_seconds": 60.0}, **changes)
    world = World(plan, answers("1.1.0", "1.1.0"))
    world.run_before(10)
    world.start()
    return world


def approve(world: World, *people: str) -> None:
    for person in people:
        digest = digest_of(world.plan, world.plan.digest, world.state.evidence)
        assert world.order(Approve(person, "approver", "fine", digest, world.now)).refused is None


def edit(world: World, actor: str = "dina", **changes: Any) -> Decision:
    return world.order(Edit(actor, "fewer at first", replace(world.plan, **changes), world.facts()))


def test_an_edit_voids_what_was_approved_and_asks_again() -> None:
    world = waiting(start_at=LATER)
    approve(world, "berta", "carl")
    scheduled = world.state
    edit(world, control=0.5)

    assert scheduled.phase is RolloutPhase.SCHEDULED
    assert (world.state.phase, world.state.code) == (RolloutPhase.PENDING_APPROVAL, Code.APPROVAL_VOID)
    assert world.state.waiting == ("2 of 2 approvals by approver; dina has edited the plan since")
    assert world.state.reason == "edited by dina: fewer at first"
    assert world.plan.control == 0.5


def test_an_edit_back_to_the_plan_that_was_approved_does_not_approve_it() -> None:
    world = waiting()
    approve(world, "berta")
    edit(world, control=0.5)
    edit(world, control=0.25)
    approve(world, "carl")

    assert world.state.phase is RolloutPhase.PENDING_APPROVAL
    assert world.state.waiting.startswith("1 of 2 approvals by approver; dina has edited")


def test_whoever_edits_a_plan_does_not_approve_it() -> None:
    world = waiting()
    edit(world, "berta", control=0.5)
    digest = digest_of(world.plan, world.plan.digest, None)
    refused = [
        world.order(Approve(person, "approver", "mine", digest, world.now)).refused
        for person in ("anna", "berta")
    ]
    approve(world, "carl", "emil")

    assert world.state.editors == ("berta",)
    assert refused == [f"{person} may not approve what is their own" for person in ("anna", "berta")]
    assert world.state.phase is RolloutPhase.SCHEDULED


def test_without_an_approval_an_edit_begins_when_its_time_has_come() -> None:
    world = World(make_plan(start_at=LATER), answers("1.1.0", "1.1.0"))
    world.run_before(10)
    world.start()
    put_off = edit(world, start_at=LATER + 50).state
    begun = edit(world, start_at=None)

    assert (put_off.phase, put_off.deadline) == (RolloutPhase.SCHEDULED, LATER + 50)
    assert begun.state.phase is RolloutPhase.RUNNING
    assert begun.plan == replace(make_plan(), start_at=None)


@pytest.mark.parametrize(
    ("approval", "why"),
    [
        (None, "2 people must agree, and an edit may not do without them"),
        (replace(POLICY, needed=1), "2 people must agree, and an edit may not make that 1"),
        (replace(POLICY, roles=("approver", "operator")), "an edit may not let operator do it"),
        (replace(POLICY, expires_seconds=61.0), "an edit may not make that longer"),
    ],
)
def test_an_edit_may_not_ask_less_of_people(approval: Approval | None, why: str) -> None:
    world = waiting()
    before = world.state
    refused = str(edit(world, approval=approval).refused)

    assert why in refused
    assert refused.endswith("withhold or abort this rollout and start another")
    assert world.state is before


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "the plan says this already"),
        ({"model": "faces"}, "expected a version of digits, got one of faces"),
        ({"start_at": 1.0}, "start_at: 1970-01-01T00:00:01Z is past, expected a time to come"),
        ({"selector": "site = nowhere"}, "no device matches"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused_with_the_reason(changes: dict[str, Any], why: str) -> None:
    assert why in str(edit(waiting(), **changes).refused)


def test_another_field_may_be_edited_when_the_time_to_start_is_past() -> None:
    world = waiting(start_at=1030.0)
    world.tick(120)

    assert edit(world, control=0.5).refused is None


@pytest.mark.parametrize("previous", [OLD, None])
def test_what_has_begun_or_is_over_says_so_and_what_to_do_instead(previous: str | None) -> None:
    told: dict[RolloutPhase, set[str]] = {}
    for plan, state in reached(previous):
        facts = Facts(state.at, {})
        decision = decide(plan, state, Edit("dina", "", replace(plan, control=0.125), facts))
        if state.phase not in {RolloutPhase.PENDING_APPROVAL, RolloutPhase.SCHEDULED}:
            told.setdefault(state.phase, set()).add(str(decision.refused))

    begun = "its devices are drawn and may have the version; abort it and start another"
    for phase in set(told) - {RolloutPhase.DRAFT}:
        fix = begun if phase in {RolloutPhase.RUNNING, RolloutPhase.PAUSED} else "start another"
        assert told[phase] == {f"only a rollout that has not begun can be edited, this one is {phase}: {fix}"}
    assert {RolloutPhase.RUNNING, RolloutPhase.PAUSED, RolloutPhase.COMPLETED} <= told.keys()


def test_a_clock_that_went_back_is_told_before_an_edit_is_taken() -> None:
    world = waiting()
    world.now -= 100

    assert "the clock went back by 100 s: resume first" in str(edit(world, control=0.5).refused)


# Who was revoked, or lost the role


def test_who_was_revoked_counts_no_more_and_the_start_waits_again() -> None:
    world = waiting(start_at=LATER)
    approve(world, "berta", "carl")
    world.order(Disown("berta", (), world.now))

    assert (world.state.phase, world.state.code) == (RolloutPhase.PENDING_APPROVAL, Code.APPROVAL_VOID)
    assert world.state.waiting == (
        "1 of 2 approvals by approver; berta, who approved as approver, was revoked since"
    )


def test_who_is_given_the_role_again_must_look_again() -> None:
    world = waiting(start_at=LATER)
    approve(world, "berta", "carl")
    world.order(Disown("berta", ("operator",), world.now))
    lost = world.state.waiting
    world.order(Disown("berta", ("operator", "approver"), world.now))
    still = world.state.phase
    approve(world, "berta")

    assert lost.endswith("berta, who approved as approver, is operator since")
    assert still is RolloutPhase.PENDING_APPROVAL
    assert world.state.phase is RolloutPhase.SCHEDULED


def test_who_is_over_other_models_since_counts_no_more() -> None:
    world = waiting(start_at=LATER)
    approve(world, "berta", "carl")
    before = world.state
    kept = world.order(Disown("berta", ("approver",), world.now, (world.plan.model, "weather"))).state
    world.order(Disown("berta", ("approver",), world.now, ("radar", "weather")))
    lost = world.state
    world.order(Disown("berta", ("approver",), world.now))

    assert kept is before
    assert lost.waiting == (
        "1 of 2 approvals by approver; "
        "berta, who approved as approver, is approver of radar and weather since"
    )
    assert world.state.phase is RolloutPhase.PENDING_APPROVAL


def test_what_others_approved_and_other_roles_change_nothing() -> None:
    world = waiting(start_at=LATER)
    approve(world, "berta", "carl")
    before = world.state

    assert world.order(Disown("emil", (), world.now)).state is before
    assert world.order(Disown("carl", ("approver", "operator"), world.now)).state is before


def test_what_runs_goes_on_and_is_promoted_by_new_approvals_alone() -> None:
    world = waiting()
    approve(world, "berta", "carl")
    world.tick()
    world.tick()
    approve(world, "berta", "carl")
    running = world.state
    world.order(Disown("berta", (), world.now))
    gone_on, evidence = world.state, world.state.evidence
    refused = world.order(Promote("dina", "the line waits", world.now)).refused
    approve(world, "emil")
    promoted = world.order(Promote("dina", "the line waits", world.now))

    assert running.phase is RolloutPhase.RUNNING
    assert replace(gone_on, approvals=running.approvals) == running
    assert evidence is not None
    assert "1 of 2 approvals by approver; berta, who approved as approver, was revoked since" in str(refused)
    assert promoted.refused is None


@pytest.mark.parametrize("previous", [OLD, None])
def test_what_is_lost_moves_nothing_but_a_start_that_is_still_to_come(previous: str | None) -> None:
    for plan, state in reached(previous):
        following = decide(plan, state, Disown("berta", (), state.at)).state

        if state.phase is not RolloutPhase.SCHEDULED:
            assert replace(following, approvals=state.approvals, waiting=state.waiting) == state


# What an edit changes, in words


def changes_of(before: Plan, after: Plan) -> list[str]:
    return [str(one) for one in compare(before, after, {NEW: "digits@1.1.0", OLD: "digits@1.0.0"})]


def test_a_diff_names_fields_as_a_file_does_and_says_defaults() -> None:
    before = make_plan(stages=[{"percent": 5}, {"percent": 100}])
    after = parse_plan(
        {
            "model": "digits",
            "digest": NEW,
            "previous": None,
            "selector": "site = oslo",
            "stages": [{"count": 1, "soak_seconds": 3600.0}, {"percent": 100}],
            "limits": {"failures": 0.2},
            "windows": [{"days": ["mon"], "start": "22:00", "end": "05:00"}],
            "ramp": {"per_minute": 10},
            "approval": {"needed": 1},
        }
    )
    same = replace(before, seed="1", round_seconds=300.0)
    told = changes_of(replace(same, margins=after.margins, minimums=after.minimums), after)

    assert "previous: digits@1.0.0 → none" in told
    assert "stages: 5%, 100% → {count: 1, soak: 1h}, 100%" in told
    assert "selector: all → site = oslo" in told
    assert "limits.failures: 10% → 20%" in told
    assert "ramp.per_minute: none → 10" in told
    assert "approval.needed: none → 1" in told
    assert 'windows: none → {start: "22:00", end: "05:00", days: [mon]}' in told


def test_the_same_plan_has_no_diff() -> None:
    assert changes_of(make_plan(), make_plan()) == []


def test_another_version_is_told_by_its_name() -> None:
    other = "c" * 64
    told = compare(make_plan(), make_plan(digest=other), {NEW: "digits@1.1.0", other: "digits@1.2.0"})

    assert [str(one) for one in told] == ["version: digits@1.1.0 → digits@1.2.0"]


def test_an_edit_after_an_abort_and_a_pause_is_too_late() -> None:
    world = waiting()
    approve(world, "berta", "carl")
    world.tick()
    world.order(Pause("anna", "", world.now))
    paused = str(edit(world, control=0.5).refused)
    world.order(Abort("anna", "", "keep", world.now))

    assert "this one is paused" in paused
    assert "this one is aborted: start another" in str(edit(world, control=0.5).refused)


def test_a_draft_has_no_plan_to_edit() -> None:
    decision = decide(make_plan(), State(), Edit("dina", "", make_plan(control=0.5), Facts(0.0, {})))

    assert "a draft is not stored yet" in str(decision.refused)

"""Bugs planted in the machine that decides rollouts: gates, deadlines, admission, the way back, the arms.

Each function plants one, until its ``MonkeyPatch`` is undone.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from muster_controller.domain import sequential
from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts import assigning, draw, machine, moves, orders, outcome, starting
from muster_controller.domain.rollouts.admitting import admission
from muster_controller.domain.rollouts.draw import Cuts
from muster_controller.domain.rollouts.judging import gates, judge, ledger, rounds
from muster_controller.domain.rollouts.judging.evidence import Evidence, Gate, Verdict
from muster_controller.domain.rollouts.members import Member
from muster_controller.domain.rollouts.outcome import Outcome, Trialled
from muster_controller.domain.rollouts.planning import approval
from muster_controller.domain.rollouts.planning.approval import Approval, Given
from muster_controller.domain.rollouts.planning.conditions import ACCURACY
from muster_controller.domain.rollouts.planning.plan import Plan, Stage
from muster_controller.domain.rollouts.states import Abort, Code, Decision, RolloutPhase, State

Plant = Callable[[pytest.MonkeyPatch], None]


# Gates and verdicts


def judge_everything_healthy(patch: pytest.MonkeyPatch) -> None:
    """The verdict is yes, whatever was observed."""

    def yes(*args: Any, **kwargs: Any) -> Evidence:
        return replace(judged(*args, **kwargs), verdict=Verdict.HEALTHY, missing=())

    judged = judge.judge
    patch.setattr(machine, "judge", yes)


def believe_the_last_gate(patch: pytest.MonkeyPatch) -> None:
    """The verdict is that of the last gate."""

    def last(*args: Any, **kwargs: Any) -> Evidence:
        found = judged(*args, **kwargs)
        return replace(found, verdict=found.gates[-1].verdict)

    judged = judge.judge
    patch.setattr(machine, "judge", last)


def ask_for_no_rounds(patch: pytest.MonkeyPatch) -> None:
    """No stage has to be seen for a number of rounds."""
    patch.setattr(judge, "_wanted_rounds", lambda _plan, _stage: 0)


def carry_assurance_over(patch: pytest.MonkeyPatch) -> None:
    """What was shown in one stage counts for the next as well."""
    patch.setattr(moves, "begin_stage", lambda ledger: ledger)


def take_failures_for_success(patch: pytest.MonkeyPatch) -> None:
    """A device on which the version failed counts as one that runs it."""

    def forgiving(digest: str, device: DeviceFacts) -> Outcome:
        found = told(digest, device)
        return Outcome.RUNNING if found is Outcome.FAULT else found

    told = outcome.outcome_of
    patch.setattr(outcome, "outcome_of", forgiving)


def count_the_silent(patch: pytest.MonkeyPatch) -> None:
    """Whoever was given the version counts as having carried it out."""
    patch.setattr(Trialled, "executed", property(lambda seen: set(seen.outcomes)))


def carry_assurance_to_newcomers(patch: pytest.MonkeyPatch) -> None:
    """What others have shown counts for devices that come to a stage later, and outweighs what these show."""

    def lenient(z: float, **_: float) -> Any:
        return bet(z)

    def count(self: rounds._Working, devices: Collection[str]) -> None:
        self.compared |= {device: self.compared.get(device, 0) + 1 for device in sorted(devices)}

    bet = sequential.bet
    patch.setattr(ledger, "bet", lenient)
    patch.setattr(rounds._Working, "_meet", count)


def overlook_what_is_counted(patch: pytest.MonkeyPatch) -> None:
    """No counter of an application is a gate."""

    def without(*args: Any, **kwargs: Any) -> Iterator[Gate]:
        return (gate for gate in comparing(*args, **kwargs) if not gate.name.startswith("counter"))

    comparing = gates.comparing
    patch.setattr(judge, "comparing", without)


def do_without_labels(patch: pytest.MonkeyPatch) -> None:
    """As long as nothing is known of its answers, the accuracy of a version is no gate."""

    def without(*args: Any, **kwargs: Any) -> Iterator[Gate]:
        return (
            gate
            for gate in comparing(*args, **kwargs)
            if gate.name != ACCURACY or gate.verdict is not Verdict.INCONCLUSIVE
        )

    comparing = gates.comparing
    patch.setattr(judge, "comparing", without)


# Steps and deadlines


def promote_the_inconclusive(patch: pytest.MonkeyPatch) -> None:
    """What is not unhealthy is promoted."""

    def weigh(plan: Plan, state: State, _seen: Trialled, now: float) -> State:
        return moves.promote(plan, state, now, code=Code.HEALTHY, reason="healthy")

    patch.setattr(moves, "_weigh", weigh)


def promote_at_the_deadline(patch: pytest.MonkeyPatch) -> None:
    """A stage whose time is over is promoted, and does not hold."""

    def go_on(plan: Plan, state: State, missing: str, now: float, *, code: Code) -> State:
        following = wait(state, missing, now, code=code)
        is_over = moves._is_late(state, now) and state.admitted > state.stage
        return moves.promote(plan, state, now, code=code, reason="late") if is_over else following

    wait, weigh, fill = moves._wait, moves._weigh, moves._fill

    def patched(inner: Callable[..., State]) -> Callable[..., State]:
        def act(plan: Plan, state: State, *args: Any, **kwargs: Any) -> State:
            with pytest.MonkeyPatch.context() as inside:
                inside.setattr(moves, "_wait", lambda *a, **k: go_on(plan, *a, **k))
                return inner(plan, state, *args, **kwargs)

        return act

    patch.setattr(moves, "_weigh", patched(weigh))
    patch.setattr(moves, "_fill", patched(fill))


def soak_for_no_time(patch: pytest.MonkeyPatch) -> None:
    """A stage soaks until the next look."""

    def briefly(plan: Plan, state: State, now: float, *, code: Code) -> State:
        return replace(soak(plan, state, now, code=code), deadline=now)

    soak = moves.soak
    patch.setattr(moves, "soak", briefly)


def never_be_late(patch: pytest.MonkeyPatch) -> None:
    """No deadline ever passes."""
    patch.setattr(moves, "_is_late", lambda _state, _now: False)


def wait_for_ever_for_returns(patch: pytest.MonkeyPatch) -> None:
    """A rollback that does not come to an end says nothing."""

    def patient(plan: Plan, state: State, facts: Facts) -> Decision:
        decision = watch(plan, state, facts)
        if decision.state.phase is RolloutPhase.ROLLBACK_INCOMPLETE:
            return Decision(replace(decision.state, phase=RolloutPhase.ROLLING_BACK, deadline=state.deadline))
        return decision

    watch = machine._watch_return
    patch.setattr(machine, "_watch_return", patient)


def go_on_while_paused(patch: pytest.MonkeyPatch) -> None:
    """A paused rollout is carried on."""

    def restless(plan: Plan, state: State, facts: Facts) -> Decision:
        if state.phase is not RolloutPhase.PAUSED:
            return observe(plan, state, facts)
        decision = observe(plan, replace(state, phase=RolloutPhase.RUNNING), facts)
        if decision.state.phase is not RolloutPhase.RUNNING:
            return decision
        return dataclasses.replace(decision, state=replace(decision.state, phase=RolloutPhase.PAUSED))

    observe = machine._observe
    patch.setattr(machine, "_observe", restless)


def complete_after_the_first_stage(patch: pytest.MonkeyPatch) -> None:
    """A stage that is healthy is the last."""

    def at_once(plan: Plan, state: State, now: float, *, code: Code, reason: str) -> State:
        done = moves.finish(plan, replace(state, reason=reason), now, code=code)
        return replace(done, admitted=state.admitted)

    patch.setattr(moves, "promote", at_once)


# Admission and arms


def admit_two_stages_at_once(patch: pytest.MonkeyPatch) -> None:
    """With a stage goes the next one."""

    def generously(plan: Plan, state: State, now: float, *, code: Code) -> State:
        return admit(plan, replace(state, stage=min(state.stage + 1, len(plan.stages) - 1)), now, code=code)

    admit = moves.admit
    patch.setattr(moves, "admit", generously)


def give_control_the_candidate(patch: pytest.MonkeyPatch) -> None:
    """Every device of the cohort gets the version with the first stage."""

    def everybody(member: Member, admitted: int, *, with_control: bool) -> bool:
        return is_due(member, admitted if member.arm >= 0 else 1, with_control=with_control or admitted > 0)

    is_due = admission.is_due
    patch.setattr(admission, "is_due", everybody)


def draw_no_control(patch: pytest.MonkeyPatch) -> None:
    """The control is drawn from one device, whatever its share."""

    def without(plan: Plan, devices: Any) -> Cuts:
        return replace(drawn(plan, devices), control="0")

    drawn = draw.draw
    patch.setattr("muster_controller.domain.rollouts.starting.draw", without)


def draw_stages_too_large(patch: pytest.MonkeyPatch) -> None:
    """A stage has twice the devices of its plan."""

    def twice(stage: Stage, total: int) -> int:
        return 2 * size(stage, total)

    size = draw._size
    patch.setattr(draw, "_size", twice)


def ignore_the_ramp(patch: pytest.MonkeyPatch) -> None:
    """However many devices a minute."""
    patch.setattr(admission, "rate_left", lambda *_args, **_kwargs: math.inf)


def ignore_the_windows(patch: pytest.MonkeyPatch) -> None:
    """Maintenance windows are always open."""
    patch.setattr(admission, "is_open", lambda *_args: True)


def ignore_the_bytes(patch: pytest.MonkeyPatch) -> None:
    """The fleet may download whatever it likes."""
    patch.setattr(admission, "bytes_left", lambda *_args, **_kwargs: math.inf)


def retry_at_once(patch: pytest.MonkeyPatch) -> None:
    """No device waits before it is given a version again."""
    patch.setattr(outcome, "wait_seconds", lambda *_args, **_kwargs: 0.0)


def count_expired_approvals(patch: pytest.MonkeyPatch) -> None:
    """An approval counts for ever."""

    def timeless(policy: Approval, one: Given, **kwargs: Any) -> str:
        return why_void(policy, one, **{**kwargs, "now": one.at})

    why_void = approval.why_void
    patch.setattr(approval, "why_void", timeless)


def approve_unseen(patch: pytest.MonkeyPatch) -> None:
    """What a person approves is the version, whatever the plan says."""

    def careless(_plan: Plan, version: str, evidence: Evidence | None) -> str:
        return digest_of(Approval(1), version, evidence)

    digest_of = approval.digest_of
    patch.setattr(starting, "digest_of", careless)


def edit_what_has_begun(patch: pytest.MonkeyPatch) -> None:
    """The plan of a rollout can always be edited."""
    patch.setattr(starting, "why_fixed", lambda _state: "")


def let_joiners_go_first(patch: pytest.MonkeyPatch) -> None:
    """Who joins late is in the first stage, whatever the draw says."""

    def first(*args: Any) -> dict[str, Member]:
        return {device: Member(0) for device in joiners(*args)}

    joiners = draw.joiners
    patch.setattr(starting, "joiners", first)


# The way back


def overlook_harm(patch: pytest.MonkeyPatch) -> None:
    """An unhealthy version holds, and does not go back."""

    def wait(plan: Plan, state: State, now: float, *, code: Code, reason: str) -> State:
        if code is Code.UNHEALTHY:
            return moves.hold(state, reason, now, code=code)
        return moves.go_back(plan, state, now, code=code, reason=reason)

    patch.setattr(machine, "go_back", wait)


def leave_the_stage_behind(patch: pytest.MonkeyPatch) -> None:
    """A rollback tells nobody to go back."""

    def keep(plan: Plan, before: State, after: State) -> Mapping[str, str | None]:
        return {} if after.phase in assigning._GOING_BACK else reassigned(plan, before, after)

    reassigned = assigning.reassigned
    patch.setattr("muster_controller.stepping.reassigned", keep)


def believe_in_returns(patch: pytest.MonkeyPatch) -> None:
    """A device that was told to go back has gone back."""
    patch.setattr(machine, "has_returned", lambda *_args, **_kwargs: True)


def abort_keeps_all(patch: pytest.MonkeyPatch) -> None:
    """An abort leaves devices as they are, whatever it says."""

    def keep(plan: Plan, state: State, event: Abort) -> Decision:
        return abort(plan, state, dataclasses.replace(event, mode="keep"))

    abort = orders.abort
    patch.setattr(machine, "abort", keep)


MACHINE_PLANTS: tuple[Plant, ...] = (
    carry_assurance_to_newcomers,
    overlook_what_is_counted,
    do_without_labels,
    approve_unseen,
    edit_what_has_begun,
    ignore_the_bytes,
    retry_at_once,
    count_expired_approvals,
    let_joiners_go_first,
    judge_everything_healthy,
    believe_the_last_gate,
    ask_for_no_rounds,
    carry_assurance_over,
    take_failures_for_success,
    count_the_silent,
    promote_the_inconclusive,
    promote_at_the_deadline,
    soak_for_no_time,
    never_be_late,
    wait_for_ever_for_returns,
    go_on_while_paused,
    complete_after_the_first_stage,
    admit_two_stages_at_once,
    give_control_the_candidate,
    draw_no_control,
    draw_stages_too_large,
    ignore_the_ramp,
    ignore_the_windows,
    overlook_harm,
    leave_the_stage_behind,
    believe_in_returns,
    abort_keeps_all,
)

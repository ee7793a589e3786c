"""The course of a rollout: one total function from plan, state and event to the next state.

::

    draft -> running: admit -> soak -> analyse -> the next stage's admit, or completed
                      any of these at its deadline -> hold, which ends when the evidence becomes sufficient
             running <-> paused
    running, paused -> rolling back -> rolled back | rollback incomplete -> rolled back
    draft, running, paused -> aborted

The first stage is admitted only when control and stage have been seen for long enough before it, because
without a time before there is nothing to compare with. Every live state has a deadline, or says in
``waiting`` what it waits for. Silence never promotes: it makes the verdict inconclusive.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts.draw import CONTROL, arms, cohort, draw, witnesses
from muster_controller.domain.rollouts.evidence import Evidence, Verdict
from muster_controller.domain.rollouts.judge import is_prepared, judge
from muster_controller.domain.rollouts.moves import (
    UNPREPARED,
    admit,
    advance,
    analyse,
    go_back,
    hold,
    promote,
    soak,
)
from muster_controller.domain.rollouts.outcome import has_returned, look, remember
from muster_controller.domain.rollouts.plan import Plan
from muster_controller.domain.rollouts.rounds import take_in
from muster_controller.domain.rollouts.states import (
    Abort,
    Decision,
    Event,
    Pause,
    Promote,
    Resume,
    RolloutPhase,
    Start,
    State,
    Step,
    Tick,
)

__all__ = [
    "Abort",
    "Decision",
    "Event",
    "Pause",
    "Promote",
    "Resume",
    "RolloutPhase",
    "Start",
    "State",
    "Step",
    "Tick",
    "assignments",
    "decide",
    "from_json",
    "is_live",
    "to_json",
]

_UNDER_WAY = frozenset({RolloutPhase.RUNNING, RolloutPhase.PAUSED})
_GOING_BACK = frozenset({RolloutPhase.ROLLING_BACK, RolloutPhase.ROLLBACK_INCOMPLETE})
_WENT_BACK = _GOING_BACK | {RolloutPhase.ROLLED_BACK}


def decide(plan: Plan, state: State, event: Event) -> Decision:
    """Return what follows from an event; never raises for any combination of state and event."""
    match event:
        case Start():
            return _start(plan, state, event)
        case Tick(facts):
            return _tick(plan, state, facts)
        case Pause():
            return _pause(state, event)
        case Resume():
            return _resume(plan, state, event)
        case Promote():
            return _promote_by_order(plan, state, event)
        case Abort():
            return _abort(plan, state, event)


def assignments(plan: Plan, state: State, devices: Mapping[str, DeviceFacts]) -> dict[str, str | None]:
    """Return what every device of the cohort should run; None for nothing.

    A device that is not named is none of this rollout's business: it keeps what it has.
    """
    if state.phase is RolloutPhase.DRAFT or not state.cuts.stages:
        return {}
    drawn = arms(plan, state.cuts, cohort(plan, devices))
    if state.phase is RolloutPhase.COMPLETED:
        return dict.fromkeys(drawn, plan.digest)
    given = {device for device, arm in drawn.items() if arm != CONTROL and arm < state.admitted}
    if state.phase in _WENT_BACK:
        return {device: plan.previous for device in drawn if plan.previous is not None or device in given}
    kept = {device: plan.previous for device in drawn.keys() - given if plan.previous is not None}
    wanted: dict[str, str | None] = dict.fromkeys(sorted(given), plan.digest)
    return wanted | kept


def is_live(state: State) -> bool:
    """Tell whether a rollout still needs ticks."""
    return state.phase in _UNDER_WAY | _GOING_BACK


def to_json(state: State) -> dict[str, Any]:
    """Return a state as plain values for a JSON column."""
    document: dict[str, Any] = msgspec.to_builtins(state, str_keys=True)
    return document


def from_json(document: Mapping[str, Any]) -> State:
    """Return the state that ``to_json`` made."""
    return msgspec.convert(document, State, str_keys=True)


def _refuse(state: State, why: str) -> Decision:
    return Decision(state, refused=why)


def _start(plan: Plan, state: State, event: Start) -> Decision:
    if state.phase is not RolloutPhase.DRAFT:
        return _refuse(state, f"only a draft can be started, this rollout is {state.phase}")
    members = cohort(plan, event.facts.devices)
    if not members:
        return _refuse(state, f"no device matches {plan.selector!r}")
    now = event.facts.now
    started = replace(
        state,
        phase=RolloutPhase.RUNNING,
        since=now,
        entered=now,
        deadline=now + plan.stage_deadline_seconds,
        waiting=UNPREPARED,
        reason=_order("started", event.actor, event.reason),
        started_at=now,
        history_since=now - plan.before_seconds,
        cuts=draw(plan, members),
    )
    # Without a control there is nothing to prepare: the absolute limits alone will judge.
    following = started if started.cuts.control else admit(plan, started, now)
    return Decision(following, notes=(f"{following.reason}: {len(members)} devices",))


def _tick(plan: Plan, state: State, facts: Facts) -> Decision:
    if state.phase in _UNDER_WAY:
        return _observe(plan, state, facts)
    if state.phase in _GOING_BACK:
        return _watch_return(plan, state, facts)
    return Decision(state)


def _observe(plan: Plan, state: State, facts: Facts) -> Decision:
    """Take in what is new and judge; then go as far as the verdict allows."""
    drawn = arms(plan, state.cuts, cohort(plan, facts.devices))
    chosen = witnesses(plan, drawn)
    ledger = take_in(plan, state.ledger, facts.windows, arms=chosen, started=state.started_at, now=facts.now)
    seen = look(plan, facts, arms=drawn, admitted=state.admitted, acknowledged=frozenset(state.acknowledged))
    evidence = judge(plan, ledger, seen, stage=state.stage, step=str(state.step), now=facts.now)
    observed = replace(
        state,
        ledger=ledger,
        upto=max(state.upto, facts.upto),
        evidence=evidence,
        failures=remember(plan, facts, state.failures, arms=drawn, admitted=state.admitted),
    )
    if evidence.verdict is Verdict.UNHEALTHY:
        against = "; ".join(f"{g.name}: {g.detail}" for g in evidence.gates if g.verdict is Verdict.UNHEALTHY)
        back = go_back(plan, observed, facts.now, reason=f"unhealthy: {against}")
        return Decision(back, evidence, (f"rolling back, {back.reason}",))
    following = observed
    if state.phase is RolloutPhase.RUNNING:
        heard = frozenset(d for d in chosen if facts.is_reachable(facts.devices[d]))
        prepared = is_prepared(plan, ledger, arms=chosen, reachable=heard)
        following = advance(plan, observed, seen, prepared=prepared, now=facts.now)
        if not any(0 <= arm <= state.stage for arm in drawn.values()):
            # Every one was revoked. Time alone will change nothing: a person has to know.
            following = hold(observed, f"a device that {plan.selector!r} chooses for this stage", facts.now)
    return Decision(following, evidence if _is_news(state, following) else None, _tell(state, following))


def _watch_return(plan: Plan, state: State, facts: Facts) -> Decision:
    drawn = arms(plan, state.cuts, cohort(plan, facts.devices))
    given = [device for device, arm in drawn.items() if 0 <= arm < state.admitted]
    out = tuple(
        sorted(d for d in given if not has_returned(plan.digest, facts.devices[d], since=state.since))
    )
    waiting = f"devices to go back: {', '.join(out)}"
    following = replace(state, unreturned=out, waiting=waiting)
    if not out:
        following = replace(following, phase=RolloutPhase.ROLLED_BACK, deadline=None, waiting="")
    elif state.deadline is not None and facts.now >= state.deadline:
        following = replace(following, phase=RolloutPhase.ROLLBACK_INCOMPLETE, deadline=None)
    return Decision(following, notes=_tell(state, following))


def _pause(state: State, event: Pause) -> Decision:
    if state.phase is not RolloutPhase.RUNNING:
        return _refuse(state, f"only a running rollout can be paused, this one is {state.phase}")
    order = _order("paused", event.actor, event.reason)
    paused = replace(
        state,
        phase=RolloutPhase.PAUSED,
        since=event.now,
        deadline=None,
        waiting="an operator to resume",
        reason=order,
    )
    return Decision(paused, notes=(order,))


def _resume(plan: Plan, state: State, event: Resume) -> Decision:
    """Go on with the step that was left, its time starting anew."""
    holds = state.phase is RolloutPhase.RUNNING and state.step is Step.HOLD
    if state.phase is not RolloutPhase.PAUSED and not holds:
        return _refuse(state, f"only a paused or holding rollout can be resumed, this one is {state.phase}")
    order, now = _order("resumed", event.actor, event.reason), event.now
    running = replace(
        state,
        phase=RolloutPhase.RUNNING,
        since=now,
        entered=now,
        deadline=now + plan.stage_seconds,
        reason=order,
        acknowledged=tuple(sorted({*state.acknowledged, *_failed(state.evidence)})),
    )
    if state.soaked:
        following = analyse(plan, running, "evidence", now)
    elif state.step is Step.SOAK:
        following = soak(plan, running, now)
    else:
        following = replace(running, step=Step.ADMIT, waiting="devices to install, or to be seen before")
    return Decision(following, notes=(order,))


def _failed(evidence: Evidence | None) -> tuple[str, ...]:
    return evidence.failed if evidence is not None else ()


def _promote_by_order(plan: Plan, state: State, event: Promote) -> Decision:
    if state.phase is not RolloutPhase.RUNNING:
        return _refuse(state, f"only a running rollout can be promoted, this one is {state.phase}")
    order = _order("promoted", event.actor, event.reason)
    if state.admitted == state.stage:
        following = admit(plan, replace(state, reason=order), event.now)
    else:
        following = promote(plan, state, event.now, reason=order)
    return Decision(following, state.evidence, (order,))


def _abort(plan: Plan, state: State, event: Abort) -> Decision:
    if state.phase not in _UNDER_WAY | {RolloutPhase.DRAFT}:
        return _refuse(state, f"a rollout that is {state.phase} cannot be aborted")
    order = _order(f"aborted ({event.mode})", event.actor, event.reason)
    if event.mode == "revert" and state.phase is not RolloutPhase.DRAFT:
        return Decision(go_back(plan, state, event.now, reason=order), notes=(order,))
    aborted = replace(
        state, phase=RolloutPhase.ABORTED, since=event.now, deadline=None, waiting="", reason=order
    )
    return Decision(aborted, notes=(order,))


def _order(what: str, actor: str, reason: str) -> str:
    return f"{what} by {actor}: {reason}" if reason else f"{what} by {actor}"


def _is_news(state: State, following: State) -> bool:
    """Tell whether evidence is worth a record: a round, a step or the verdict is new."""
    old, new = state.evidence, following.evidence
    if old is None or new is None:
        return new is not None
    moved = (state.phase, state.stage, state.step) != (following.phase, following.stage, following.step)
    return moved or (old.verdict, old.rounds) != (new.verdict, new.rounds)


def _tell(state: State, following: State) -> tuple[str, ...]:
    if following.phase is not state.phase:
        return (f"{following.phase}: {following.reason or following.waiting}",)
    if following.phase is RolloutPhase.RUNNING and (following.stage, following.step) != (
        state.stage,
        state.step,
    ):
        return (f"stage {following.stage + 1}: {following.step}, waiting for {following.waiting}",)
    return ()

"""The course of a rollout: one total function from plan, state and event to the next state.

::

    draft -> (pending approval) -> (scheduled) -> running
    running: admit -> soak -> analyse -> the next stage's admit, or finish -> completed
             any of these at its deadline -> hold, which ends when the evidence becomes sufficient
             running <-> paused
    running, paused, completed, aborted -> rolling back -> rolled back | rollback incomplete -> rolled back
    draft, pending approval, scheduled, running, paused -> aborted

The first stage is admitted only when control and stage have been seen for long enough before it, because
without a time before there is nothing to compare with. Every live state has a deadline, or says in
``waiting`` what it waits for, and has a ``code``. Silence never promotes: it makes the verdict inconclusive.
A clock that went back moves no deadline and promotes nothing; harm rolls back whatever the clock says.
"""

import dataclasses
import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from heapq import nsmallest
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.fleet import fleet_of
from muster_controller.domain.rollouts.admitting.admission import admit_due
from muster_controller.domain.rollouts.admitting.pace import after_failure
from muster_controller.domain.rollouts.assigning import assignments, reassigned
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.judging.evidence import Verdict
from muster_controller.domain.rollouts.judging.experiment import Cast
from muster_controller.domain.rollouts.judging.judge import is_prepared, judge
from muster_controller.domain.rollouts.judging.looks import look_of
from muster_controller.domain.rollouts.judging.rounds import take_in
from muster_controller.domain.rollouts.members import Member
from muster_controller.domain.rollouts.moves import advance, go_back, hold, stand_still, take_up
from muster_controller.domain.rollouts.orders import abort, pause, promote_by_order, resume, retry, roll_back
from muster_controller.domain.rollouts.outcome import Outcome, Trialled, has_returned, observe
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.roster import Crowd, Mask, Roster, roster_of
from muster_controller.domain.rollouts.sight import Sight
from muster_controller.domain.rollouts.starting import (
    approve,
    await_start,
    disown,
    edit,
    join,
    start,
    withhold,
)
from muster_controller.domain.rollouts.states import (
    NAMED,
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
    is_behind,
)

__all__ = [
    "Abort",
    "Approve",
    "Code",
    "Decision",
    "Disown",
    "Edit",
    "Event",
    "Pause",
    "Promote",
    "Resume",
    "Retry",
    "RollBack",
    "RolloutPhase",
    "Start",
    "State",
    "Step",
    "Tick",
    "Withhold",
    "assignments",
    "decide",
    "from_json",
    "is_live",
    "needs_ticks",
    "reassigned",
    "to_json",
]

_TO_BEGIN = frozenset({RolloutPhase.PENDING_APPROVAL, RolloutPhase.SCHEDULED})
_UNDER_WAY = frozenset({RolloutPhase.RUNNING, RolloutPhase.PAUSED})
_GOING_BACK = frozenset({RolloutPhase.ROLLING_BACK, RolloutPhase.ROLLBACK_INCOMPLETE})
_TOLD = 20  # devices that a sentence names


def decide(plan: Plan, state: State, event: Event) -> Decision:  # noqa: C901, PLR0911 - one line per event
    """Return what follows from an event; never raises for any combination of state and event."""
    match event:
        case Start():
            return start(plan, state, event)
        case Tick(facts):
            return _tick(plan, state, facts)
        case Approve():
            return approve(plan, state, event)
        case Withhold():
            return withhold(plan, state, event)
        case Edit():
            return edit(plan, state, event)
        case Disown():
            return disown(plan, state, event)
        case Pause():
            return pause(state, event)
        case Resume():
            return resume(plan, state, event)
        case Promote():
            return promote_by_order(plan, state, event)
        case Abort():
            return abort(plan, state, event)
        case Retry():
            return retry(state, event)
        case RollBack():
            return roll_back(plan, state, event)


def is_live(state: State) -> bool:
    """Tell whether a rollout has not ended."""
    return state.phase in _TO_BEGIN | _UNDER_WAY | _GOING_BACK


def needs_ticks(plan: Plan, state: State) -> bool:
    """Tell whether time can change anything: the rollout is live, or it still has somebody to serve."""
    if state.phase is not RolloutPhase.COMPLETED:
        return is_live(state)
    columns = roster_of(state.members).columns
    return plan.dynamic or bool(np.any(~columns.is_given() & ~columns.table["is_withdrawn"]))


def to_json(state: State) -> dict[str, Any]:
    """Return a state as plain values for a JSON column; the members have a table of their own."""
    document: dict[str, Any] = msgspec.to_builtins(replace(state, members={}), str_keys=True)
    del document["members"]
    return document


def from_json(document: Mapping[str, Any], members: Mapping[str, Member]) -> State:
    """Return the state that ``to_json`` made, with its members."""
    return replace(msgspec.convert(document, State, str_keys=True), members=Roster(members))


def _tick(plan: Plan, state: State, told: Facts) -> Decision:
    facts = dataclasses.replace(told, devices=fleet_of(told.devices))
    state = replace(state, members=roster_of(state.members))
    if state.phase in _TO_BEGIN:
        return await_start(plan, state, facts)
    if state.phase in _UNDER_WAY:
        return _observe(plan, join(plan, state, facts), facts)
    if state.phase in _GOING_BACK:
        return _watch_return(plan, state, facts)
    if state.phase is RolloutPhase.COMPLETED:
        return Decision(_serve(plan, state, facts))
    return Decision(state)


def _observe(plan: Plan, state: State, facts: Facts) -> Decision:
    """Take in what is new and judge; then go as far as the verdict allows."""
    now = max(facts.now, state.at)
    chosen = _watched(state, facts)
    ledger = take_in(
        plan,
        state.ledger,
        facts.windows,
        arms=chosen,
        started=state.started_at,
        now=now,
        observed=facts.observed,
        upto=facts.upto,
    )
    seen, changed = observe(plan, facts, state.members)
    cast = _cast(state, facts, chosen)
    judged = judge(plan, ledger, seen, stage=state.stage, step=str(state.step), now=now, cast=cast)
    look = look_of(plan, ledger, seen, cast, crashes_upto=facts.observed.crashes_upto)
    evidence = replace(judged, look=look)
    running = len(seen.of(Outcome.RUNNING))
    observed = replace(
        state,
        at=now,
        ledger=ledger,
        upto=max(state.upto, facts.upto),
        evidence=evidence,
        pace=after_failure(state.pace, running) if seen.has_failed_anew else state.pace,
        members=state.members | changed if changed else state.members,
    )
    if evidence.verdict is Verdict.UNHEALTHY:
        against = "; ".join(f"{g.name}: {g.detail}" for g in evidence.gates if g.verdict is Verdict.UNHEALTHY)
        back = go_back(plan, observed, now, code=Code.UNHEALTHY, reason=f"unhealthy: {against}")
        return Decision(back, evidence, (f"rolling back, {back.reason}",))
    following = observed
    if state.phase is RolloutPhase.RUNNING:
        following = _go_on(plan, observed, seen, facts, was=state)
    return Decision(following, evidence if _is_news(state, following) else None, _tell(state, following))


def _cast(state: State, facts: Facts, chosen: Mapping[str, int]) -> Cast:
    """Return who is compared with whom."""
    given = {name: state.members[name].given for name, arm in chosen.items() if arm != CONTROL}
    return Cast(
        chosen,
        {name for name in chosen if facts.is_reachable(facts.devices[name])},
        given={name: at for name, at in given.items() if at is not None},
        crashed=facts.observed.first_crashes,
        has_control=state.cuts.control != "" and state.step is not Step.FINISH,
    )


def _watched(state: State, facts: Facts) -> dict[str, int]:
    """Return the arms of the witnesses that are still enrolled, and still what they were drawn for."""
    known = {name: state.members[name] for name in state.witnesses if name in facts.devices}
    return {n: m.arm for n, m in known.items() if not m.withdrawn and (m.arm != CONTROL or m.given is None)}


def _go_on(plan: Plan, state: State, seen: Trialled, facts: Facts, *, was: State) -> State:
    """Return the state after the steps that evidence, time and pace allow a running rollout."""
    if is_behind(was, facts.now):
        return stand_still(state, facts.now)
    if facts.withdrawn:
        wanted = "the version to be listed again; it was withdrawn, so roll back or abort"
        return hold(state, wanted, state.at, code=Code.WITHDRAWN)
    if not _has_anybody(state, facts):
        # Every one was revoked or sent back. Time alone will change nothing: a person has to know.
        wanted = f"a device that {plan.selector!r} chooses for this stage"
        return hold(state, wanted, state.at, code=Code.NO_DEVICES)
    chosen = _watched(state, facts)
    heard = frozenset(d for d in chosen if facts.is_reachable(facts.devices[d]))
    prepared = is_prepared(plan, state.ledger, arms=chosen, reachable=heard)
    following = advance(plan, state, seen, prepared=prepared, now=state.at)
    return _admit(plan, following, facts, running=len(seen.of(Outcome.RUNNING)))


def _has_anybody(state: State, facts: Facts) -> bool:
    sight = Sight(facts, roster_of(state.members))
    arm = sight.members["arm"]
    return bool(np.any((arm >= 0) & (arm <= state.stage) & ~sight.members["is_withdrawn"] & sight.is_known))


def _admit(plan: Plan, state: State, facts: Facts, *, running: int) -> State:
    """Give the version to the devices whose turn it is."""
    if state.phase not in {RolloutPhase.RUNNING, RolloutPhase.COMPLETED}:
        return state
    admission = admit_due(
        plan,
        dataclasses.replace(facts, now=state.at) if facts.now < state.at else facts,
        state.members,
        admitted=state.admitted,
        with_control=state.step is Step.FINISH,
        pace=state.pace,
        running=running,
    )
    return take_up(state, admission, state.at)


def _serve(plan: Plan, state: State, facts: Facts) -> State:
    """Serve those that a completed rollout could not reach, and late joiners of a dynamic one."""
    if is_behind(state, facts.now) or facts.withdrawn:
        return state
    joined = replace(join(plan, state, facts), at=max(facts.now, state.at))
    seen, changed = observe(plan, facts, joined.members)
    known = replace(joined, members=joined.members | changed) if changed else joined
    return _admit(plan, known, facts, running=len(seen.of(Outcome.RUNNING)))


def _watch_return(plan: Plan, state: State, facts: Facts) -> Decision:
    now = max(facts.now, state.at)
    out = _not_returned(plan, state, facts)
    named = nsmallest(NAMED, out)
    more = f" and {len(out) - _TOLD} more" if len(out) > _TOLD else ""
    waiting = f"devices to go back: {', '.join(named[:_TOLD])}{more}"
    following = replace(state, unreturned=tuple(named), returning=len(out), waiting=waiting, at=now)
    if not out:
        following = replace(
            following, phase=RolloutPhase.ROLLED_BACK, code=_ended(state), deadline=None, waiting=""
        )
    elif state.deadline is not None and now >= state.deadline:
        following = replace(
            following, phase=RolloutPhase.ROLLBACK_INCOMPLETE, code=Code.DEADLINE, deadline=None
        )
    return Decision(following, notes=_tell(state, following))


def _not_returned(plan: Plan, state: State, facts: Facts) -> AbstractSet[str]:
    """Return the members that may have the version, and have not confirmed that they let go of it."""
    sight, since = Sight(facts, roster_of(state.members)), state.since

    def returned(seen: float | None) -> Mask:
        def told(device: DeviceFacts) -> int:
            return has_returned(plan.digest, dataclasses.replace(device, seen=seen), since=since)

        return sight.by_kind(plan.digest, told).astype(np.bool_)

    has = np.where(sight.seen > since, returned(math.inf), returned(None))
    return Crowd(sight.names, sight.is_known & sight.members["was_touched"] & ~has)


def _ended(state: State) -> Code:
    # The code of a rollout that went back goes on saying why; one that named devices says that they came.
    return Code.RETURNED if state.code is Code.DEADLINE else state.code


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

"""What a person orders of a rollout that is under way, and of one that has ended."""

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from muster_controller.domain.rollouts.admitting.pace import Gift
from muster_controller.domain.rollouts.members import Member
from muster_controller.domain.rollouts.moves import admit, analyse, complete, finish, go_back, promote, soak
from muster_controller.domain.rollouts.planning.approval import shortfall
from muster_controller.domain.rollouts.planning.plan import DAY_SECONDS, Plan
from muster_controller.domain.rollouts.starting import approved
from muster_controller.domain.rollouts.states import (
    Abort,
    Code,
    Decision,
    Pause,
    Promote,
    Resume,
    Retry,
    RollBack,
    RolloutPhase,
    State,
    Step,
    count,
    is_behind,
    order,
    refuse,
)

_UNDER_WAY = frozenset({RolloutPhase.RUNNING, RolloutPhase.PAUSED})
_BEFORE = frozenset({RolloutPhase.DRAFT, RolloutPhase.PENDING_APPROVAL, RolloutPhase.SCHEDULED})
_KEPT = frozenset({RolloutPhase.COMPLETED, RolloutPhase.ABORTED})  # ended, with devices on the version


def pause(state: State, event: Pause) -> Decision:
    """Stop admission and promotion."""
    if state.phase is not RolloutPhase.RUNNING:
        return refuse(state, f"only a running rollout can be paused, this one is {state.phase}")
    text = order("paused", event.actor, event.reason)
    paused = replace(
        state,
        phase=RolloutPhase.PAUSED,
        code=Code.PAUSED,
        since=event.now,
        at=max(state.at, event.now),
        deadline=None,
        waiting="an operator to resume",
        reason=text,
    )
    return Decision(paused, notes=(text,))


def resume(plan: Plan, state: State, event: Resume) -> Decision:
    """Go on with the step that was left, its time starting anew; the clock counts as it shows now."""
    if state.phase in _BEFORE and state.code is Code.CLOCK_WENT_BACK:
        return _believe(state, event)
    holds = state.step is Step.HOLD or state.code is Code.CLOCK_WENT_BACK
    if not (state.phase is RolloutPhase.PAUSED or (state.phase is RolloutPhase.RUNNING and holds)):
        return refuse(state, f"only a paused or holding rollout can be resumed, this one is {state.phase}")
    text, now = order("resumed", event.actor, event.reason), event.now
    gifts = tuple(Gift(min(g.since, now), min(g.until, now), g.devices) for g in state.pace.gifts)
    running = replace(
        state,
        phase=RolloutPhase.RUNNING,
        code=Code.RESUMED,
        since=now,
        entered=now,
        at=now,
        deadline=now + plan.stage_seconds,
        reason=text,
        pace=replace(state.pace, gifts=gifts),
        members=state.members | _accepted(state.members),
    )
    if state.step is Step.FINISH:
        following = finish(plan, running, now, code=Code.RESUMED)
    elif state.soaked:
        following = analyse(plan, running, "evidence", now, code=Code.RESUMED)
    elif state.step is Step.SOAK:
        following = soak(plan, running, now, code=Code.RESUMED)
    else:
        following = replace(running, step=Step.ADMIT, waiting="devices to install, or to be seen before")
    return Decision(following, notes=(text,))


def _believe(state: State, event: Resume) -> Decision:
    """Go on waiting for approval or the time, by the clock as it shows now."""
    text = order("resumed", event.actor, event.reason)
    waiting = "the next look at whether it can begin"
    return Decision(replace(state, code=Code.RESUMED, at=event.now, waiting=waiting), notes=(text,))


def _accepted(members: Mapping[str, Member]) -> dict[str, Member]:
    """Return the members that failed for good so far, each failure accepted."""
    return {
        name: replace(member, acknowledged=True)
        for name, member in members.items()
        if member.failure is not None and member.retry_at is None and not member.acknowledged
    }


def promote_by_order(plan: Plan, state: State, event: Promote) -> Decision:
    """End the stage as if it had been judged healthy, as far as the plan lets one person do that."""
    if state.phase is not RolloutPhase.RUNNING:
        return refuse(state, f"only a running rollout can be promoted, this one is {state.phase}")
    if is_behind(state, event.now):
        behind = state.at - event.now
        return refuse(state, f"the clock went back by {behind:.0f} s: resume first, then promote")
    if plan.approval is not None:
        if state.evidence is None:  # what was approved is the start, and no evidence
            return refuse(state, "nothing was seen yet on which a promotion could be approved")
        digest, barred = approved(plan, state), state.authors | {event.actor}
        missing = shortfall(plan.approval, state.approvals, digest=digest, barred=barred, now=event.now)
        if missing:
            return refuse(state, f"to promote against the evidence is to be approved: {missing}")
    text, now = order("promoted", event.actor, event.reason), max(state.at, event.now)
    ordered = replace(state, reason=text, at=now)
    if state.step is Step.FINISH:
        following = complete(replace(ordered, code=Code.PROMOTED), now)
    elif state.admitted == state.stage:
        following = admit(plan, ordered, now, code=Code.PROMOTED)
    else:
        following = promote(plan, ordered, now, code=Code.PROMOTED, reason=text)
    return Decision(following, state.evidence, (text,))


def abort(plan: Plan, state: State, event: Abort) -> Decision:
    """End the rollout."""
    if state.phase not in _UNDER_WAY | _BEFORE:
        return refuse(state, f"a rollout that is {state.phase} cannot be aborted")
    mode, now = event.mode or plan.abort, max(state.at, event.now)
    text = order(f"aborted ({mode})", event.actor, event.reason)
    if mode == "revert" and state.phase not in _BEFORE:
        back = go_back(plan, replace(state, at=now), now, code=Code.ABORTED, reason=text)
        return Decision(back, notes=(text,))
    aborted = replace(
        state,
        phase=RolloutPhase.ABORTED,
        code=Code.ABORTED,
        since=now,
        at=now,
        deadline=None,
        waiting="",
        reason=text,
        due=0,
    )
    return Decision(aborted, notes=(text,))


def retry(state: State, event: Retry) -> Decision:
    """Give the version again to whoever failed."""
    if state.phase not in _UNDER_WAY | {RolloutPhase.COMPLETED}:
        return refuse(state, f"a rollout that is {state.phase} retries nothing")
    now = max(state.at, event.now)
    again = {
        name: replace(member, given=None, tries=0, retry_at=now, acknowledged=False)
        for name, member in state.members.items()
        if member.failure is not None and not member.withdrawn
    }
    if not again:
        return refuse(state, "no device of this rollout has failed")
    text = order(f"retried on {count(len(again))}", event.actor, event.reason)
    tried = replace(state, members=state.members | again, at=now)
    if state.phase is RolloutPhase.RUNNING:
        tried = replace(tried, code=Code.RETRIED)
    return Decision(tried, notes=(text,))


def roll_back(plan: Plan, state: State, event: RollBack) -> Decision:
    """Send devices, a stage or the whole cohort back to the previous version."""
    if why := _why_not_back(plan, state, event):
        return refuse(state, why)
    now = max(state.at, event.now)
    if not event.devices and event.stage is None:
        text = order("rolled back", event.actor, event.reason)
        back = go_back(plan, replace(state, at=now), now, code=Code.ROLLED_BACK_BY_ORDER, reason=text)
        return Decision(back, notes=(text,))
    chosen = _chosen(event)
    sent = {name: member for name, member in state.members.items() if chosen(name, member)}
    text = order(f"{_named(event, len(sent))} rolled back", event.actor, event.reason)
    away = {name: replace(member, given=None, retry_at=None, withdrawn=text) for name, member in sent.items()}
    return Decision(replace(state, members=state.members | away, at=now), notes=(text,))


def _chosen(event: RollBack) -> Callable[[str, Member], bool]:
    if event.devices:
        names = frozenset(event.devices)
        return lambda name, _: name in names
    return lambda _, member: member.arm == event.stage


def _named(event: RollBack, sent: int) -> str:
    if not event.devices:
        assert event.stage is not None
        return f"stage {event.stage + 1} ({count(sent)})"
    more = f" and {sent - 3} more" if sent > 3 else ""  # noqa: PLR2004 - names enough for a line
    return ", ".join(event.devices[:3]) + more


def _why_not_back(plan: Plan, state: State, event: RollBack) -> str:
    """Return why an order to go back does not fit, in words; empty when it does."""
    ended = event.now - state.since
    if state.phase not in _UNDER_WAY | _KEPT or not state.members:
        return f"a rollout that is {state.phase} has nothing to roll back"
    if event.devices and event.stage is not None:
        return "roll back either devices or a stage, got both"
    strangers = sorted(set(event.devices) - state.members.keys())
    if strangers:
        return f"not in this rollout: {', '.join(strangers[:3])}"
    if event.stage is not None and not 0 <= event.stage < len(plan.stages):
        return f"this rollout has stages 1 to {len(plan.stages)}, got {event.stage + 1}"
    if (
        state.phase in _KEPT
        and ended > plan.rollback_window_seconds
        and not (event.override and event.reason)
    ):
        days = plan.rollback_window_seconds / DAY_SECONDS
        return f"the rollback window of {days:g} days is over: expected an override with a reason"
    return ""

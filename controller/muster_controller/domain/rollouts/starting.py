"""How a rollout begins: asked for, edited, approved where the plan wants it, drawn when its time has come."""

from msgspec.structs import replace

from muster_controller.domain.facts import Facts
from muster_controller.domain.fleet import fleet_of
from muster_controller.domain.rollouts.draw import arms, cohort, draw, joiners, witnesses
from muster_controller.domain.rollouts.judging.answerable import find_uncompared
from muster_controller.domain.rollouts.members import Member
from muster_controller.domain.rollouts.moves import UNPREPARED, admit, stand_still
from muster_controller.domain.rollouts.planning.approval import (
    Given,
    digest_of,
    disowned,
    shortfall,
    why_void,
    why_weaker,
)
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.planning.terms import write_instant
from muster_controller.domain.rollouts.roster import Roster, roster_of
from muster_controller.domain.rollouts.states import (
    Approve,
    Code,
    Decision,
    Disown,
    Edit,
    RolloutPhase,
    Start,
    State,
    Withhold,
    count,
    is_behind,
    order,
    refuse,
)

LATE_SECONDS = 60.0  # a start that was asked for a little late is at once
_WAITING = frozenset({RolloutPhase.PENDING_APPROVAL, RolloutPhase.SCHEDULED})
_APPROVABLE = _WAITING | {RolloutPhase.RUNNING, RolloutPhase.PAUSED}


def start(plan: Plan, state: State, event: Start) -> Decision:
    """Begin a draft, or put it where it waits for approval or its time."""
    if state.phase is not RolloutPhase.DRAFT:
        return refuse(state, f"only a draft can be started, this rollout is {state.phase}")
    now = event.facts.now
    if late := _late(plan, now):
        return refuse(state, late)
    if obstacle := _obstacle(plan, event.facts):
        return refuse(state, obstacle[1])
    asked = replace(
        state,
        since=now,
        at=now,
        author=event.actor,
        reason=order("started", event.actor, event.reason),
    )
    return _go_on(plan, asked, event.facts, now)


def edit(plan: Plan, state: State, event: Edit) -> Decision:
    """Go on by another plan; whatever was approved of the one before is void, and its editor an author."""
    if why := _why_not_edit(plan, state, event):
        return refuse(state, why)
    text, now = order("edited", event.actor, event.reason), max(state.at, event.facts.now)
    void = f"{event.actor} has edited the plan since"
    edited = replace(
        state,
        at=now,
        editors=tuple(dict.fromkeys((*state.editors, event.actor))),
        approvals=tuple(replace(one, void=one.void or void) for one in state.approvals),
        reason=text,
    )
    following = _go_on(event.plan, edited, event.facts, now)
    return Decision(following.state, notes=(text, *following.notes), plan=event.plan)


def disown(plan: Plan, state: State, event: Disown) -> Decision:
    """Let approvals count no more whose giver was revoked, or lost the model or the role they were given in.

    A rollout that runs goes on: it was approved when it began. An order to promote it, and a start that is
    still to come, need others then.
    """
    elsewhere = () if event.models is None or plan.model in event.models else event.models
    held = tuple(
        disowned(one, event.roles, elsewhere=elsewhere) if one.person == event.person else one
        for one in state.approvals
    )
    if held == state.approvals:
        return Decision(state)
    now = max(state.at, event.now)
    known = replace(state, approvals=held, at=now)
    lost = next(one.void for one in reversed(held) if one.person == event.person)
    missing = _missing(plan, known, now) if state.phase in _WAITING else ""
    if not missing:
        return Decision(known, notes=(lost,))
    asked = _tell(known, _ask(known, missing, now))
    return Decision(asked.state, notes=(lost, *asked.notes))


def _late(plan: Plan, now: float) -> str:
    if plan.start_at is None or plan.start_at >= now - LATE_SECONDS:
        return ""
    return f"start_at: {write_instant(plan.start_at)} is past, expected a time to come, or none: at once"


def _why_not_edit(plan: Plan, state: State, event: Edit) -> str:
    """Return why a plan cannot be taken instead of the one before, in words; empty when it can."""
    after, now = event.plan, event.facts.now
    if fixed := why_fixed(state):
        return fixed
    if is_behind(state, now):
        return f"the clock went back by {state.at - now:.0f} s: resume first, then edit"
    if unfit := _unfit(plan, after):
        return unfit
    if after.start_at != plan.start_at and (late := _late(after, now)):
        return late
    obstacle = _obstacle(after, event.facts)
    return obstacle[1] if obstacle else ""


def _unfit(plan: Plan, after: Plan) -> str:
    """Return what of a plan an edit of another one may not say, in words; empty for nothing."""
    if after == plan:
        return "the plan says this already: nothing to edit"
    if after.model != plan.model:
        return f"a rollout stays with its model: expected a version of {plan.model}, got one of {after.model}"
    if weaker := why_weaker(plan.approval, after.approval):
        return f"{weaker}: withhold or abort this rollout and start another"
    return ""


def why_fixed(state: State) -> str:
    """Return why the plan of a rollout can no longer be edited, in words; empty while it can."""
    if state.phase in _WAITING:
        return ""
    if state.phase is RolloutPhase.DRAFT:
        return "a draft is not stored yet: start it with the plan that is meant"
    what = f"only a rollout that has not begun can be edited, this one is {state.phase}"
    if state.phase in _APPROVABLE:
        return f"{what}: its devices are drawn and may have the version; abort it and start another"
    return f"{what}: start another"


def await_start(plan: Plan, state: State, facts: Facts) -> Decision:
    """Look again whether a rollout that waits for approval or its time can begin."""
    if is_behind(state, facts.now):
        return Decision(stand_still(state, facts.now))
    now = max(facts.now, state.at)
    return _go_on(plan, replace(state, at=now), facts, now)


def approve(plan: Plan, state: State, event: Approve) -> Decision:
    """Take in that a person agrees; an approval that does not count is refused, with the reason."""
    if plan.approval is None:
        return refuse(state, "the plan of this rollout asks for no approval")
    if state.phase not in _APPROVABLE:
        return refuse(state, f"a rollout that is {state.phase} cannot be approved")
    given = Given(event.actor, event.role, event.reason, event.digest, event.now)
    digest = approved(plan, state)
    void = why_void(plan.approval, given, digest=digest, barred=state.authors, now=event.now)
    if void:
        return refuse(state, void)
    text = order("approved", event.actor, event.reason)
    # Of each person the newest counts, and nobody can fill the state.
    others = tuple(one for one in state.approvals if one.person != event.actor)
    agreed = replace(state, approvals=(*others, given), at=max(state.at, event.now))
    if state.phase is RolloutPhase.PENDING_APPROVAL:
        missing = _missing(plan, agreed, event.now)
        if missing:
            agreed = replace(agreed, waiting=missing)
        else:
            agreed = _schedule(plan, replace(agreed, reason=text), event.now, code=Code.APPROVED)
    return Decision(agreed, notes=(text,))


def withhold(plan: Plan, state: State, event: Withhold) -> Decision:
    """End a rollout that a person refuses to approve."""
    if plan.approval is None or state.phase not in _WAITING:
        return refuse(state, f"a rollout that is {state.phase} waits for no approval")
    if event.role not in plan.approval.roles:
        expected = " or ".join(plan.approval.roles)
        return refuse(state, f"{event.actor} withholds as {event.role}, expected {expected}")
    text = order("withheld", event.actor, event.reason)
    ended = replace(
        state,
        phase=RolloutPhase.ABORTED,
        code=Code.WITHHELD,
        since=event.now,
        at=max(state.at, event.now),
        deadline=None,
        waiting="",
        reason=text,
    )
    return Decision(ended, notes=(text,))


def approved(plan: Plan, state: State) -> str:
    """Return the digest of what an approval must be about now."""
    return digest_of(plan, plan.digest, state.evidence)


def join(plan: Plan, state: State, facts: Facts) -> State:
    """Return the state with those drawn that joined a dynamic cohort since."""
    if not plan.dynamic:
        return state
    strangers = roster_of(state.members).columns.names.strangers(fleet_of(facts.devices))
    free = [name for name in strangers if name not in facts.elsewhere]
    late = joiners(plan, state.cuts, state.members, cohort(plan, {n: facts.devices[n] for n in free}))
    if not late:
        return state
    watched = {name: state.members[name].arm for name in state.witnesses}
    more = witnesses(plan, {name: member.arm for name, member in late.items()}, watched)
    return replace(state, members=state.members | late, witnesses=(*state.witnesses, *more))


def _go_on(plan: Plan, state: State, facts: Facts, now: float) -> Decision:
    """Wait for whatever is still missing, in this order: approval, the time, devices; or begin."""
    if missing := _missing(plan, state, now):
        return _tell(state, _ask(state, missing, now))
    if plan.start_at is not None and now < plan.start_at:
        return _tell(state, _schedule(plan, state, now, code=Code.SCHEDULED))
    if obstacle := _obstacle(plan, facts):
        held = _schedule(plan, state, now, code=obstacle[0])
        return _tell(state, replace(held, deadline=None, waiting=f"that it can begin: {obstacle[1]}"))
    return _begin(plan, state, facts, now)


def _missing(plan: Plan, state: State, now: float) -> str:
    if plan.approval is None:
        return ""
    digest, barred = approved(plan, state), state.authors
    return shortfall(plan.approval, state.approvals, digest=digest, barred=barred, now=now)


def _ask(state: State, missing: str, now: float) -> State:
    asking = state.phase is RolloutPhase.PENDING_APPROVAL
    fresh = Code.APPROVAL_VOID if state.phase is RolloutPhase.SCHEDULED else Code.APPROVAL_WANTED
    return replace(
        state,
        phase=RolloutPhase.PENDING_APPROVAL,
        code=fresh if not asking or state.code is Code.CLOCK_WENT_BACK else state.code,
        since=state.since if asking else now,
        deadline=None,
        waiting=missing,
    )


def _schedule(plan: Plan, state: State, now: float, *, code: Code) -> State:
    return replace(
        state,
        phase=RolloutPhase.SCHEDULED,
        code=code,
        since=state.since if state.phase is RolloutPhase.SCHEDULED else now,
        deadline=max(plan.start_at or now, now),
        waiting="its time to start",
    )


def _obstacle(plan: Plan, facts: Facts) -> tuple[Code, str] | None:
    """Return why the draw cannot be made now."""
    members = cohort(plan, facts.devices)
    if not members:
        return Code.NO_DEVICES, f"no device matches {plan.selector!r}"
    if facts.withdrawn:
        return Code.WITHDRAWN, "the version was withdrawn, abort this rollout and plan another"
    if plan.previous is not None and (alone := find_uncompared(plan, len(members))):
        return Code.NO_DEVICES, alone
    taken = sorted(name for name in members if name in facts.elsewhere)
    if taken:
        rollouts = sorted({facts.elsewhere[name] for name in taken})
        told = ", ".join(map(str, rollouts))
        return Code.OVERLAP, f"in rollout {told} already: {count(len(taken))}, such as {', '.join(taken[:3])}"
    budget = plan.byte_budget
    if budget is not None and facts.download_bytes > budget.bytes:
        return Code.BYTES_SPENT, (
            f"byte_budget.bytes is {budget.bytes}, and one device needs {facts.download_bytes} for this"
        )
    return None


def _begin(plan: Plan, state: State, facts: Facts, now: float) -> Decision:
    chosen = cohort(plan, facts.devices)
    cuts = draw(plan, chosen)
    drawn = arms(plan, cuts, chosen)
    begun = replace(
        state,
        phase=RolloutPhase.RUNNING,
        code=Code.STARTED,
        since=now,
        entered=now,
        deadline=now + plan.stage_deadline_seconds,
        waiting=UNPREPARED,
        started_at=now,
        history_since=now - plan.before_seconds,
        cuts=cuts,
        witnesses=tuple(witnesses(plan, drawn)),
        members=Roster({name: Member(arm) for name, arm in drawn.items()}),
    )
    # Without a control there is nothing to prepare: the absolute limits alone will judge.
    following = begun if cuts.control else admit(plan, begun, now, code=Code.STARTED)
    return Decision(following, notes=(f"{following.reason}: {count(len(drawn))}",))


def _tell(state: State, following: State) -> Decision:
    if following.phase is state.phase:
        return Decision(following)
    return Decision(following, notes=(f"{following.phase}: waiting for {following.waiting}",))

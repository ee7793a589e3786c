"""Approvals of rollouts: what is asked for, who has agreed to what, agreeing and refusing to."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from sqlmodel import Session

from muster_controller.domain.people import Person, Right, must
from muster_controller.domain.rollouts import machine as rollout
from muster_controller.domain.rollouts.machine import State
from muster_controller.domain.rollouts.planning.approval import (
    Approval,
    Given,
    is_enough,
    shortfall,
    why_void,
)
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from muster_controller.domain.rollouts.starting import approved
from muster_controller.service.context import Context, Deed
from muster_controller.service.people import count_holders, current
from muster_controller.service.rollout_views import RolloutDetail
from muster_controller.service.rollouts import apply, show_rollout, subject_of
from muster_controller.stepping import Course, course_of
from muster_controller.store import rollouts as store
from muster_models.errors import ConflictError, ForbiddenError, RequestError


@dataclass(frozen=True)
class GivenView:
    """One person's approval.

    Attributes:
        void: Why it does not count, in words; empty when it does.
    """

    person: str
    role: str
    reason: str
    at: dt.datetime
    expires_at: dt.datetime
    void: str


@dataclass(frozen=True)
class ApprovalView:
    """What a rollout needs of people, and has.

    Attributes:
        about: ``start``; ``promote`` while it runs: then an order to promote takes as many; ``nothing`` when
            the plan asks nobody, or it is over.
        digest: Of what is approved now: send it along with an approval, so that it is of what you saw.
        needed, roles, expires_seconds: As the plan says.
        holders: How many people could give one now; the author is not among them, nor who edited the plan.
        given: Oldest first, those that do not count too.
        missing: What is missing, in words; empty when nothing is.
    """

    about: str
    digest: str
    needed: int
    roles: tuple[str, ...]
    expires_seconds: float
    holders: int
    author: str
    editors: tuple[str, ...]
    given: tuple[GivenView, ...]
    enough: bool
    missing: str


NOTHING = ApprovalView("nothing", "", 0, (), 0.0, 0, "", (), (), enough=True, missing="")
_WAITING = frozenset({rollout.RolloutPhase.PENDING_APPROVAL, rollout.RolloutPhase.SCHEDULED})
_UNDER_WAY = frozenset({rollout.RolloutPhase.RUNNING, rollout.RolloutPhase.PAUSED})


def show(context: Context, number: int) -> ApprovalView:
    """Return what a rollout needs of people, and has.

    Raises:
        NotFoundError: No such rollout.
    """
    with context.reading() as session:
        stored = store.get(session, number)
        plan, state = parse_plan(stored.plan), rollout.from_json(stored.state, {})
        return _view(session, plan, state, now=context.clock())


def approve(
    context: Context, who: Person, number: int, *, reason: str, seen: str | None = None
) -> RolloutDetail:
    """Agree with a rollout as it stands: that it starts, or, while it runs, that it may be promoted by order.

    Args:
        context: Of this controller.
        who: Agrees; neither the author nor an editor, nor somebody without a role that the plan names.
        number: Of the rollout.
        reason: For the audit trail; must be given.
        seen: ``ApprovalView.digest`` of what the person looked at; None for whatever it is now.

    Raises:
        NotFoundError: No such rollout.
        RequestError: No reason was given.
        ForbiddenError: The person may not approve this one.
        ConflictError: Nothing is to be approved, or it has changed since ``seen``.
    """
    _require(reason)
    with context.unit() as session:
        course = course_of(session, number)
        policy = _policy(course.plan, course.state)
        role = _role(_as_now(session, who), course, policy)
        digest = approved(course.plan, course.state)
        if seen is not None and seen != digest:
            raise ConflictError(
                f"rollout {number} is not what you looked at: its plan or its evidence has changed;"
                " look again"
            )
        event = rollout.Approve(who.name, role, reason, digest, context.clock())
        detail = {"role": role, "digest": digest, "about": _about(course.state)}
        deed = Deed(who.name, "rollout.approve", subject_of(number), reason, detail)
        apply(context, session, number, event, deed=deed)
    context.wake()
    return show_rollout(context, number)


def withhold(context: Context, who: Person, number: int, *, reason: str) -> RolloutDetail:
    """Refuse to approve a rollout that waits for it: it ends before it began.

    Raises:
        NotFoundError: No such rollout.
        RequestError: No reason was given.
        ForbiddenError: The person has no role that the plan names, or not for this model.
        ConflictError: The rollout does not wait for approval.
    """
    _require(reason)
    with context.unit() as session:
        course = course_of(session, number)
        role = _held(_as_now(session, who), course, _policy(course.plan, course.state))
        event = rollout.Withhold(who.name, role, reason, context.clock())
        deed = Deed(who.name, "rollout.withhold", subject_of(number), reason, {"role": role})
        apply(context, session, number, event, deed=deed)
    context.wake()
    return show_rollout(context, number)


def _as_now(session: Session, who: Person) -> Person:
    """Return somebody who asked as they are now: between asking and this they may have lost a role."""
    found = current(session, who.name)
    if found is None:
        raise ForbiddenError(f"{who.name} was revoked")
    return found


def _policy(plan: Plan, state: State) -> Approval:
    if plan.approval is None:
        raise ConflictError("the plan of this rollout asks nobody to approve")
    if _about(state) == "nothing":
        raise ConflictError(f"a rollout that is {state.phase} needs no approval")
    return plan.approval


def _role(who: Person, course: Course, policy: Approval) -> str:
    if who.name in course.state.authors:
        what = "started" if who.name == course.state.author else "edited"
        raise ForbiddenError(f"{who.name} {what} this rollout: somebody else must agree")
    return _held(who, course, policy)


def _held(who: Person, course: Course, policy: Approval) -> str:
    must(who, Right.APPROVE, course.plan.model)
    held = [role for role in policy.roles if role in who.roles]
    if not held:
        raise ForbiddenError(f"{who}; the plan asks for {' or '.join(policy.roles)}")
    return held[0]


def _require(reason: str) -> None:
    if not reason.strip():
        raise RequestError("say why: an approval and a refusal need a reason")


def _about(state: State) -> str:
    if state.phase in _WAITING:
        return "start"
    return "promote" if state.phase in _UNDER_WAY else "nothing"


def _view(session: Session, plan: Plan, state: State, *, now: float) -> ApprovalView:
    policy, about = plan.approval, _about(state)
    if policy is None:
        return NOTHING
    digest, barred = approved(plan, state), state.authors
    missing = shortfall(policy, state.approvals, digest=digest, barred=barred, now=now)
    return ApprovalView(
        about=about,
        digest=digest,
        needed=policy.needed,
        roles=policy.roles,
        expires_seconds=policy.expires_seconds,
        holders=count_holders(session, policy.roles, model=plan.model, barred=barred),
        author=state.author,
        editors=state.editors,
        given=tuple(_given(policy, one, digest=digest, barred=barred, now=now) for one in state.approvals),
        enough=is_enough(policy, state.approvals, digest=digest, barred=barred, now=now),
        missing="" if about == "nothing" else missing,
    )


def _given(policy: Approval, one: Given, *, digest: str, barred: Collection[str], now: float) -> GivenView:
    return GivenView(
        person=one.person,
        role=one.role,
        reason=one.reason,
        at=_moment(one.at),
        expires_at=_moment(one.at + policy.expires_seconds),
        void=why_void(policy, one, digest=digest, barred=barred, now=now),
    )


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)

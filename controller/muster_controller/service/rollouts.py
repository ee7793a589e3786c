"""Rollouts: what would happen, starting one, steering it, and looking at it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
from sqlmodel import Session

from muster_controller.domain.facts import DeviceFacts
from muster_controller.domain.rollouts import draw
from muster_controller.domain.rollouts import machine as rollout
from muster_controller.domain.rollouts.machine import Decision, Event, State
from muster_controller.domain.rollouts.planning.file import file_of, write_plan_file
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.starting import approved
from muster_controller.service.context import Context, Deed, record
from muster_controller.service.rollout_plans import RolloutRequest, find_obstacles, gather, make_plan
from muster_controller.service.rollout_views import (
    RolloutDetail,
    RolloutDeviceView,
    view_device,
    view_stages,
)
from muster_controller.stepping import Stepping, course_of
from muster_controller.store import assignments, devices
from muster_controller.store import rollouts as store
from muster_controller.store.facts import start_facts
from muster_controller.store.views import rollouts as views
from muster_controller.store.views import shadows
from muster_controller.store.views.history import AuditFilter, list_audit, rollout_notes
from muster_controller.store.views.names import name_versions
from muster_controller.store.views.paging import DEFAULT_LIMIT, Page
from muster_controller.store.views.rollouts import EvidenceView, RolloutFilter, RolloutView
from muster_models.errors import ConflictError, NotFoundError, RequestError

DETAIL_ROWS = 50
TRIES = 3


def subject_of(number: int) -> str:
    """Return how the audit trail names a rollout."""
    return f"rollout {number}"


def list_rollouts(
    context: Context, wanted: RolloutFilter, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[RolloutView]:
    """Return rollouts, newest first."""
    with context.reading() as session:
        return views.list_rollouts(session, wanted, limit=limit, cursor=cursor)


def show_rollout(context: Context, number: int) -> RolloutDetail:
    """Return one rollout with its stages, its newest evidence and its history.

    Raises:
        NotFoundError: No such rollout.
    """
    with context.reading() as session:
        return detail_of(session, number)


def list_rollout_devices(context: Context, number: int) -> tuple[RolloutDeviceView, ...]:
    """Return what became of every device of the cohort, by id.

    Raises:
        NotFoundError: No such rollout.
    """
    with context.reading() as session:
        course = course_of(session, number)
        plan, state = course.plan, course.state
        facts = gather(context, session, plan.model)
        wanted = rollout.assignments(plan, state)
        deciders = assignments.deciders(session, plan.model)
        drawn = _drawn(plan, state, facts.devices)
        digests = {*wanted.values(), *(facts.devices[device].current for device in drawn)}
        names = name_versions(session, digests)
    return tuple(
        view_device(
            plan,
            state,
            facts,
            device=device,
            arm=drawn[device],
            wanted=wanted.get(device),
            overtaken=deciders.get(device, number) > number,
            names=names,
        )
        for device in sorted(drawn)
    )


def list_evidence(
    context: Context, number: int, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[EvidenceView]:
    """Return what a rollout saw, newest first.

    Raises:
        NotFoundError: No such rollout.
    """
    with context.reading() as session:
        store.get(session, number)
        return views.list_evidence(session, number, limit=limit, cursor=cursor)


def start_rollout(context: Context, actor: str, request: RolloutRequest, reason: str = "") -> RolloutDetail:
    """Start a rollout.

    Raises:
        NotFoundError: No such version.
        RequestError: A field of the plan is not of the expected form.
        ConflictError: Something stands in its way: the message says what.
    """
    with context.unit() as session:
        number = begin(context, session, actor, request, reason=reason)
    context.wake()
    return show_rollout(context, number)


def begin(context: Context, session: Session, actor: str, request: RolloutRequest, *, reason: str) -> int:
    """Start a rollout as part of a transaction, and return its number; raises as ``start_rollout``."""
    now = context.clock()
    plan = make_plan(context, session, request)
    facts = start_facts(
        session,
        plan.model,
        plan.digest,
        number=None,
        now=now,
        reachable_seconds=context.settings.reachable_seconds,
    )
    obstacles = find_obstacles(session, plan, facts, authors={actor})
    if obstacles:
        raise ConflictError("; ".join(obstacles))
    decision = rollout.decide(plan, State(), rollout.Start(actor, reason, facts))
    _check(decision)
    number = Stepping(context.settings).begin(session, plan, decision, by=actor, now=now).id
    deed = Deed(actor, "rollout.start", subject_of(number), reason, {"version": request.version})
    record(session, deed, now)
    return number


def pause(context: Context, actor: str, number: int, reason: str = "") -> RolloutDetail:
    """Stop admission and promotion; harm still rolls back."""
    event = rollout.Pause(actor, reason, context.clock())
    return steer(context, number, event, deed=Deed(actor, "rollout.pause", subject_of(number), reason))


def resume(context: Context, actor: str, number: int, reason: str = "") -> RolloutDetail:
    """Go on after a pause or a hold, and acknowledge the failures seen so far."""
    event = rollout.Resume(actor, reason, context.clock())
    return steer(context, number, event, deed=Deed(actor, "rollout.resume", subject_of(number), reason))


def promote(context: Context, actor: str, number: int, reason: str = "") -> RolloutDetail:
    """End the stage as if it had been judged healthy.

    Raises:
        NotFoundError: No such rollout.
        RequestError: Nobody says why.
        ConflictError: It does not fit the state.
    """
    if not reason.strip():
        raise RequestError("say why: a promotion by order, against the evidence, needs a reason")
    event = rollout.Promote(actor, reason, context.clock())
    return steer(context, number, event, deed=Deed(actor, "rollout.promote", subject_of(number), reason))


def abort(
    context: Context,
    actor: str,
    number: int,
    *,
    mode: Literal["keep", "revert"] | None = None,
    reason: str = "",
) -> RolloutDetail:
    """End the rollout: devices keep what they have, or all go back; as the plan says for None."""
    event = rollout.Abort(actor, reason, mode, context.clock())
    deed = Deed(actor, "rollout.abort", subject_of(number), reason, {"mode": mode})
    return steer(context, number, event, deed=deed)


def retry(context: Context, actor: str, number: int, reason: str = "") -> RolloutDetail:
    """Give the version again to every device on which it failed."""
    event = rollout.Retry(actor, reason, context.clock())
    return steer(context, number, event, deed=Deed(actor, "rollout.retry", subject_of(number), reason))


@dataclass(frozen=True)
class WayBack:
    """Which devices of a rollout go back to the previous version.

    Attributes:
        devices: These alone, while the rollout goes on without them.
        stage: All of this stage, counted from 1; the rollout goes on. Neither: the whole cohort.
        override: Also when the plan's rollback window is over.
    """

    devices: tuple[str, ...] = ()
    stage: int | None = None
    override: bool = False


def roll_back(context: Context, actor: str, number: int, way: WayBack, reason: str = "") -> RolloutDetail:
    """Send devices back to the previous version, also after the rollout has completed.

    Raises:
        NotFoundError: No such rollout.
        RequestError: Devices and a stage were named, which is not one order.
        ConflictError: It does not fit the state.
    """
    if way.devices and way.stage is not None:
        raise RequestError("some devices go back, or a stage, not both; without either the whole cohort does")
    index = None if way.stage is None else way.stage - 1
    event = rollout.RollBack(actor, reason, context.clock(), way.devices, index, way.override)
    deed = Deed(actor, "rollout.rollback", subject_of(number), reason, msgspec.to_builtins(way))
    return steer(context, number, event, deed=deed)


def steer(context: Context, number: int, event: Event, *, deed: Deed) -> RolloutDetail:
    """Hand an operator's command to the domain.

    Raises:
        NotFoundError: No such rollout.
        ConflictError: The command does not fit the state.
    """
    with context.unit() as session:
        apply(context, session, number, event, deed=deed)
    context.wake()
    return show_rollout(context, number)


def apply(context: Context, session: Session, number: int, event: Event, *, deed: Deed) -> None:
    """Hand a command to the domain as part of a transaction; raises as ``steer``."""
    now, stepping = context.clock(), Stepping(context.settings)
    for _ in range(TRIES):
        course = course_of(session, number)
        decision = rollout.decide(course.plan, course.state, event)
        _check(decision)
        if stepping.take(session, course, decision, now) is not None:
            record(session, deed, now)
            return
        session.expire_all()  # somebody else's step was quicker: decide on what it left
    raise ConflictError(f"rollout {number} is changed again and again by others; try again")


def _check(decision: Decision) -> None:
    if decision.refused is not None:
        raise ConflictError(decision.refused)


def _drawn(plan: Plan, state: State, known: Mapping[str, DeviceFacts]) -> dict[str, int]:
    """Return the arm of every device that is enrolled; before the draw, as it would be made now."""
    if state.members:
        return {name: member.arm for name, member in state.members.items() if name in known}
    cohort = draw.cohort(plan, known)
    return draw.arms(plan, draw.draw(plan, cohort), cohort)


def detail_of(session: Session, number: int) -> RolloutDetail:
    """Return one rollout as part of a transaction; raises as ``show_rollout``."""
    found = views.find_rollout(session, number)
    if found is None:
        raise NotFoundError(f"no rollout {number}")
    course = course_of(session, number)
    plan, state = course.plan, course.state
    facts = {member.id: DeviceFacts(member.id, member.labels) for member in devices.members(session)}
    drawn = _drawn(plan, state, facts)
    return RolloutDetail(
        rollout=found,
        plan=msgspec.to_builtins(plan),
        digest=approved(plan, state),
        file=write_plan_file(
            file_of(
                plan, version=found.version.name, previous=found.previous.name if found.previous else None
            )
        ),
        stages=view_stages(plan, drawn),
        control=tuple(sorted(device for device, arm in drawn.items() if arm == draw.CONTROL)),
        cohort=len(drawn),
        unreturned=state.unreturned,
        evidence=views.newest_evidence(session, number),
        shadow=shadows.of_candidate(session, plan.digest, sorted(drawn)),
        history=views.list_evidence(session, number, limit=DETAIL_ROWS).items,
        notes=rollout_notes(session, number, limit=DETAIL_ROWS),
        audit=list_audit(session, AuditFilter(subject=subject_of(number)), limit=DETAIL_ROWS).items,
    )

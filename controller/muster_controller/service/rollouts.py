"""Rollouts: what would happen, starting one, steering it, and looking at it."""

from typing import Literal

import msgspec
from sqlmodel import Session

from muster_controller.delivery.post import Post
from muster_controller.domain.facts import DeviceFacts
from muster_controller.domain.rollouts import draw
from muster_controller.domain.rollouts import machine as rollout
from muster_controller.domain.rollouts.machine import Decision, Event, State
from muster_controller.domain.rollouts.plan import Plan, parse_plan
from muster_controller.service.context import Context, Deed, record
from muster_controller.service.rollout_plans import RolloutRequest, find_obstacles, gather, make_plan
from muster_controller.service.rollout_views import (
    PlanView,
    RolloutDetail,
    RolloutDeviceView,
    view_device,
    view_stages,
)
from muster_controller.store import assignments, devices, events
from muster_controller.store import rollouts as store
from muster_controller.store.views import rollouts as views
from muster_controller.store.views import shadows
from muster_controller.store.views.history import AuditFilter, list_audit
from muster_controller.store.views.names import name_versions
from muster_controller.store.views.paging import DEFAULT_LIMIT, Page
from muster_controller.store.views.rollouts import EvidenceView, RolloutFilter, RolloutView
from muster_models.errors import ConflictError, NotFoundError

DETAIL_ROWS = 50


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
        return _detail(session, number)


def list_rollout_devices(context: Context, number: int) -> tuple[RolloutDeviceView, ...]:
    """Return what became of every device of the cohort, by id.

    Raises:
        NotFoundError: No such rollout.
    """
    with context.reading() as session:
        stored = store.get(session, number)
        plan, state = parse_plan(stored.plan), rollout.from_json(stored.state)
        facts = gather(context, session, plan.model)
        wanted = rollout.assignments(plan, state, facts.devices)
        deciders = assignments.deciders(session, plan.model)
        cohort = draw.cohort(plan, facts.devices)
        drawn = draw.arms(plan, _cuts(plan, state, cohort), cohort)
        digests = {*wanted.values(), *(facts.devices[device].current for device in cohort)}
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
        for device in sorted(cohort)
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


def plan_rollout(context: Context, request: RolloutRequest) -> PlanView:
    """Return what a rollout would do, and what stands in its way; nothing is stored.

    Raises:
        NotFoundError: No such version.
        RequestError: A field of the plan is not of the expected form.
    """
    with context.reading() as session:
        plan = make_plan(context, session, request)
        facts = gather(context, session, plan.model)
        names = name_versions(session, (plan.digest, plan.previous))
        obstacles = find_obstacles(session, plan, facts)
    cohort = draw.cohort(plan, facts.devices)
    drawn = draw.arms(plan, draw.draw(plan, cohort), cohort)
    return PlanView(
        plan=msgspec.to_builtins(plan),
        version=names[plan.digest],
        previous=names[plan.previous] if plan.previous else None,
        cohort=len(cohort),
        reachable=sum(facts.is_reachable(facts.devices[device]) for device in cohort),
        control=tuple(sorted(device for device, arm in drawn.items() if arm == draw.CONTROL)),
        stages=view_stages(plan, drawn),
        obstacles=obstacles,
    )


def start_rollout(context: Context, actor: str, request: RolloutRequest, reason: str = "") -> RolloutDetail:
    """Start a rollout.

    Raises:
        NotFoundError: No such version.
        RequestError: A field of the plan is not of the expected form.
        ConflictError: Something stands in its way: the message says what.
    """
    now = context.clock()
    with context.unit() as session:
        plan = make_plan(context, session, request)
        facts = gather(context, session, plan.model)
        obstacles = find_obstacles(session, plan, facts)
        if obstacles:
            raise ConflictError("; ".join(obstacles))
        decision = rollout.decide(plan, State(), rollout.Start(actor, reason, facts))
        _check(decision)
        number = store.add(
            session,
            plan.model,
            plan.digest,
            previous=plan.previous,
            phase=decision.state.phase,
            plan=msgspec.to_builtins(plan),
            state=rollout.to_json(decision.state),
            by=actor,
            now=now,
        )
        _keep(session, number, plan, decision=decision, now=now)
        _tell(context, session, number, plan, before=State(), after=decision.state)
        record(
            session,
            Deed(actor, "rollout.start", subject_of(number), reason, {"version": request.version}),
            now,
        )
    context.wake()
    return show_rollout(context, number)


def pause(context: Context, actor: str, number: int, reason: str = "") -> RolloutDetail:
    """Stop admission and promotion; harm still rolls back."""
    event = rollout.Pause(actor, reason, context.clock())
    return _steer(context, number, event, deed=Deed(actor, "rollout.pause", subject_of(number), reason))


def resume(context: Context, actor: str, number: int, reason: str = "") -> RolloutDetail:
    """Go on after a pause or a hold, and acknowledge the failures seen so far."""
    event = rollout.Resume(actor, reason, context.clock())
    return _steer(context, number, event, deed=Deed(actor, "rollout.resume", subject_of(number), reason))


def promote(context: Context, actor: str, number: int, reason: str = "") -> RolloutDetail:
    """End the stage as if it had been judged healthy."""
    event = rollout.Promote(actor, reason, context.clock())
    return _steer(context, number, event, deed=Deed(actor, "rollout.promote", subject_of(number), reason))


def abort(
    context: Context, actor: str, number: int, *, mode: Literal["keep", "revert"], reason: str = ""
) -> RolloutDetail:
    """End the rollout: devices keep what they have, or all go back."""
    event = rollout.Abort(actor, reason, mode, context.clock())
    deed = Deed(actor, "rollout.abort", subject_of(number), reason, {"mode": mode})
    return _steer(context, number, event, deed=deed)


def _steer(context: Context, number: int, event: Event, *, deed: Deed) -> RolloutDetail:
    """Hand an operator's command to the domain.

    Raises:
        NotFoundError: No such rollout.
        ConflictError: The command does not fit the state.
    """
    now = context.clock()
    with context.unit() as session:
        stored = store.get(session, number)
        plan = parse_plan(stored.plan)
        before = rollout.from_json(stored.state)
        decision = rollout.decide(plan, before, event)
        _check(decision)
        state = rollout.to_json(decision.state)
        store.save(session, number, phase=decision.state.phase, state=state, now=now)
        _keep(session, number, plan, decision=decision, now=now)
        _tell(context, session, number, plan, before=before, after=decision.state)
        record(session, deed, now)
    context.wake()
    return show_rollout(context, number)


def _tell(
    context: Context, session: Session, number: int, plan: Plan, *, before: State, after: State
) -> None:
    post = Post(context.settings)
    post.rollout_changed(session, number, plan, before=before, after=after, now=context.clock())


def _check(decision: Decision) -> None:
    if decision.refused is not None:
        raise ConflictError(decision.refused)


def _keep(session: Session, number: int, plan: Plan, *, decision: Decision, now: float) -> None:
    if decision.evidence is not None:
        held = decision.evidence
        entry = store.Evidence(held.stage, held.verdict, msgspec.to_builtins(held))
        store.add_evidence(session, number, [entry], now)
    for text in decision.notes:
        detail = f"rollout {number}: {text}"
        events.note(session, "rollout", now=now, model=plan.model, digest=plan.digest, detail=detail)


def _cuts(plan: Plan, state: State, cohort: list[str]) -> draw.Cuts:
    # A draft has drawn nothing yet.
    return state.cuts if state.cuts.stages else draw.draw(plan, cohort)


def _detail(session: Session, number: int) -> RolloutDetail:
    found = views.find_rollout(session, number)
    if found is None:
        raise NotFoundError(f"no rollout {number}")
    stored = store.get(session, number)
    plan, state = parse_plan(stored.plan), rollout.from_json(stored.state)
    facts = {member.id: DeviceFacts(member.id, member.labels) for member in devices.members(session)}
    cohort = draw.cohort(plan, facts)
    drawn = draw.arms(plan, _cuts(plan, state, cohort), cohort)
    return RolloutDetail(
        rollout=found,
        plan=stored.plan,
        stages=view_stages(plan, drawn),
        control=tuple(sorted(device for device, arm in drawn.items() if arm == draw.CONTROL)),
        cohort=len(cohort),
        unreturned=state.unreturned,
        evidence=views.newest_evidence(session, number),
        shadow=shadows.of_candidate(session, plan.digest, cohort),
        history=views.list_evidence(session, number, limit=DETAIL_ROWS).items,
        audit=list_audit(session, AuditFilter(subject=subject_of(number)), limit=DETAIL_ROWS).items,
    )

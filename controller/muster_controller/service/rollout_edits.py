"""Another plan for a rollout that has not begun: what it is edited from, and the edit."""

from dataclasses import dataclass

from sqlmodel import Session

from muster_controller.domain.rollouts import machine as rollout
from muster_controller.domain.rollouts.planning.changes import compare
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.starting import approved, why_fixed
from muster_controller.service.context import Context, Deed, record
from muster_controller.service.rollout_plans import (
    RolloutRequest,
    find_obstacles,
    keep_seed,
    make_plan,
)
from muster_controller.service.rollout_views import RolloutDetail
from muster_controller.service.rollouts import detail_of, show_rollout, subject_of
from muster_controller.stepping import Course, Stepping, course_of
from muster_controller.store.facts import start_facts
from muster_controller.store.views.names import name_versions
from muster_models.errors import ConflictError, RequestError


@dataclass(frozen=True)
class Editable:
    """A plan that may be edited.

    Attributes:
        file: As ``RolloutDetail.file``; ``seed`` is that of the draw, also where a default leaves it out.
        digest: Of what is edited: send it along, so that the edit is of what you saw.
        agreed: Who has approved it, which an edit makes void.
    """

    number: int
    file: str
    seed: str
    digest: str
    agreed: tuple[str, ...]


def show_editable(context: Context, number: int) -> Editable:
    """Return the plan of a rollout that has not begun, to be edited.

    Raises:
        NotFoundError: No such rollout.
        ConflictError: It has begun, or is over.
    """
    with context.reading() as session:
        course = course_of(session, number)
        detail = detail_of(session, number)
    if fixed := why_fixed(course.state):
        raise ConflictError(fixed)
    agreed = tuple(one.person for one in course.state.approvals if not one.void)
    return Editable(number, detail.file, course.plan.seed, detail.digest, agreed)


def edit_rollout(
    context: Context,
    actor: str,
    number: int,
    request: RolloutRequest,
    *,
    reason: str,
    seen: str | None = None,
) -> RolloutDetail:
    """Give a rollout that has not begun another plan: approvals of the one before are void.

    Args:
        context: Of this controller.
        actor: Who edits; does not approve it from then on.
        number: Of the rollout.
        request: All of the plan, as at the start; without a seed the draw stays what it was.
        reason: For the audit trail; must be given.
        seen: ``RolloutDetail.digest`` of what was edited; None for whatever it is now.

    Raises:
        NotFoundError: No such rollout or version.
        RequestError: A field is not of the expected form, or no reason was given.
        ConflictError: The rollout has begun or is over, its plan has changed since ``seen``, or something
            stands in the way of the new one: the message says what.
    """
    if not reason.strip():
        raise RequestError("say why: an edit needs a reason")
    now = context.clock()
    with context.unit() as session:
        course = course_of(session, number)
        if seen is not None and seen != approved(course.plan, course.state):
            raise ConflictError(f"rollout {number} is not what you edited: it has changed since; look again")
        plan = make_plan(context, session, keep_seed(request, course.plan))
        decision = _decide(context, session, course, plan, actor=actor, reason=reason)
        # Writers take turns, and this one has had its turn since before it read.
        stepped = Stepping(context.settings).take(session, course, decision, now)
        assert stepped is not None
        record(session, _deed(session, course, stepped, actor=actor, reason=reason), now)
    context.wake()
    return show_rollout(context, number)


def _decide(
    context: Context, session: Session, course: Course, plan: Plan, *, actor: str, reason: str
) -> rollout.Decision:
    facts = start_facts(
        session,
        plan.model,
        plan.digest,
        number=course.id,
        now=context.clock(),
        reachable_seconds=context.settings.reachable_seconds,
    )
    decision = rollout.decide(course.plan, course.state, rollout.Edit(actor, reason, plan, facts))
    if decision.refused is not None:
        raise ConflictError(decision.refused)
    authors = course.state.authors | {actor}
    obstacles = find_obstacles(session, plan, facts, authors=authors, number=course.id)
    if obstacles:
        raise ConflictError("; ".join(obstacles))
    return decision


def _deed(session: Session, before: Course, after: Course, *, actor: str, reason: str) -> Deed:
    digests = {before.plan.digest, before.plan.previous, after.plan.digest, after.plan.previous}
    names = {digest: ref.name for digest, ref in name_versions(session, digests).items()}
    told = [str(change) for change in compare(before.plan, after.plan, names)]
    held = {one.person for one in before.state.approvals if not one.void}
    detail = {"changes": told, "void": sorted(held)}
    return Deed(actor, "rollout.edit", subject_of(after.id), reason, detail)

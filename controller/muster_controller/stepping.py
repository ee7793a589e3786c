"""One step of a rollout, stored: whoever decides one, the loop or a person, saves it here.

Everything that follows from a step is in the transaction that saves it: the state, the members that
changed, what devices should run, evidence, events, and the webhooks that are to be told. So a controller
that is killed anywhere finds the step with all that follows, or none of it; and of two steps that were
decided on the same state, the second changes nothing.
"""

import logging
from dataclasses import dataclass

import msgspec
from sqlmodel import Session

from muster_controller.config import Settings
from muster_controller.delivery.post import Post
from muster_controller.domain.rollouts.machine import (
    Decision,
    State,
    from_json,
    needs_ticks,
    reassigned,
    to_json,
)
from muster_controller.domain.rollouts.members import changed
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from muster_controller.store import assignments, events, rollouts

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Course:
    """A rollout as the last step left it.

    Attributes:
        fence: Of that step.
    """

    id: int
    plan: Plan
    state: State
    fence: int


def course_of(session: Session, number: int) -> Course:
    """Return where a rollout has come to.

    Raises:
        NotFoundError: No rollout has that number.
    """
    stored = rollouts.get(session, number)
    state = from_json(stored.state, rollouts.members(session, number))
    return Course(number, parse_plan(stored.plan), state, stored.fence)


class Stepping:
    """Saves steps."""

    def __init__(self, settings: Settings) -> None:
        self._post = Post(settings)

    def begin(self, session: Session, plan: Plan, decision: Decision, *, by: str, now: float) -> Course:
        """Store a new rollout with its first step."""
        number = rollouts.add(
            session,
            plan.model,
            plan.digest,
            previous=plan.previous,
            phase=State().phase,
            plan=msgspec.to_builtins(plan),
            state=to_json(State()),
            by=by,
            now=now,
        )
        begun = self.take(session, Course(number, plan, State(), 0), decision, now)
        assert begun is not None
        return begun

    def take(self, session: Session, course: Course, decision: Decision, now: float) -> Course | None:
        """Save what follows from a decision on ``course``, and return where the rollout has come to.

        Returns:
            None when another step was saved since ``course`` was read: then nothing was changed, and the
            event is to be decided anew.
        """
        before, after = course.state, decision.state
        plan = course.plan if decision.plan is None else decision.plan
        saved = rollouts.save(
            session,
            course.id,
            fence=course.fence,
            phase=after.phase,
            ticking=needs_ticks(plan, after),
            state=to_json(after),
            now=now,
        )
        if not saved:
            return None
        if decision.plan is not None:
            document = msgspec.to_builtins(plan)
            rollouts.keep_plan(session, course.id, digest=plan.digest, previous=plan.previous, plan=document)
        rollouts.save_members(session, course.id, changed(before.members, after.members))
        stepped = Course(course.id, plan, after, course.fence + 1)
        _assign(session, stepped, before, now)
        _keep(session, stepped, decision, now)
        self._post.rollout_changed(session, course.id, plan, before=before, after=after, now=now)
        return stepped


def _assign(session: Session, course: Course, before: State, now: float) -> None:
    """Give devices what they should run since the step that led to ``course``."""
    plan = course.plan
    wanted = reassigned(plan, before, course.state)
    if not wanted:
        return
    lost = rollouts.newer(session, plan.model, course.id)
    assignments.assign(
        session,
        plan.model,
        {device: digest for device, digest in wanted.items() if device not in lost} if lost else wanted,
        rollout=course.id,
        probation_seconds=plan.probation_seconds,
        now=now,
        candidate=plan.digest,
        shadow=plan.shadow,
    )


def _keep(session: Session, course: Course, decision: Decision, now: float) -> None:
    """Store evidence and events."""
    found, plan = decision.evidence, course.plan
    if found is not None:
        evidence = rollouts.Evidence(found.stage, found.verdict, msgspec.to_builtins(found, str_keys=True))
        rollouts.add_evidence(session, course.id, [evidence], now)
    for note in decision.notes:
        _log.info("rollout %d: %s", course.id, note)
        detail = f"rollout {course.id}: {note}"
        events.note(session, "rollout", now=now, model=plan.model, digest=plan.digest, detail=detail)

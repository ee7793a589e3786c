"""What becomes of approvals whose giver is revoked or given other roles: in the same transaction, void.

So there is no instant between. Whoever decides a step on what was read before, the loop above all, finds
that another step was saved since, and decides anew.
"""

from sqlmodel import Session

from muster_controller.domain.people import Person
from muster_controller.domain.rollouts import machine as rollout
from muster_controller.service.context import Context
from muster_controller.stepping import Stepping, course_of
from muster_controller.store import rollouts


def disown(context: Context, session: Session, person: Person) -> None:
    """Let what somebody approved count no more where the roles they have now do not hold it up.

    Args:
        context: Of this controller.
        session: Of the change.
        person: As they are from now on; without a role when they were revoked.
    """
    now, stepping = context.clock(), Stepping(context.settings)
    event = rollout.Disown(person.name, person.roles, now, person.models)
    for stored in rollouts.in_phases(session, rollouts.LIVE):
        course = course_of(session, stored.id)
        decision = rollout.decide(course.plan, course.state, event)
        if decision.state is course.state:
            continue
        # Writers take turns, and this one has had its turn since before it read.
        stepped = stepping.take(session, course, decision, now)
        assert stepped is not None

"""What a rollout wants its devices to run: follows from the plan, the phase and the members alone."""

from muster_controller.domain.rollouts.members import Member, changed, was_touched
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.states import RolloutPhase, State

_GOING_BACK = frozenset(
    {RolloutPhase.ROLLING_BACK, RolloutPhase.ROLLBACK_INCOMPLETE, RolloutPhase.ROLLED_BACK}
)


def assignments(plan: Plan, state: State) -> dict[str, str | None]:
    """Return what every device of the cohort should run; None for nothing.

    A device that is not named is none of this rollout's business: it keeps what it has.
    """
    return _wanted(plan, state, state.members)


def reassigned(plan: Plan, before: State, after: State) -> dict[str, str | None]:
    """Return the part of the assignments that a step may have changed."""
    if (before.phase in _GOING_BACK) is (after.phase in _GOING_BACK):
        return _wanted(plan, after, changed(before.members, after.members))
    return assignments(plan, after)


def _wanted(plan: Plan, state: State, members: dict[str, Member]) -> dict[str, str | None]:
    back = state.phase in _GOING_BACK
    wanted: dict[str, str | None] = {}
    for name, member in members.items():
        if member.given is not None and not back:
            wanted[name] = plan.digest
        elif plan.previous is not None or was_touched(member):
            wanted[name] = plan.previous
    return wanted

"""The moves of a rollout: from one state to the next, once it is known what happened."""

from msgspec.structs import replace

from muster_controller.domain.rollouts.evidence import Verdict
from muster_controller.domain.rollouts.ledger import begin_stage, freeze
from muster_controller.domain.rollouts.outcome import Outcome, Trialled
from muster_controller.domain.rollouts.plan import Plan
from muster_controller.domain.rollouts.states import RolloutPhase, State, Step

UNPREPARED = "windows of control and first stage from before the rollout"
# Soak of no length, analysis and the next stage can follow each other in one tick.
_STEPS_A_TICK = 3


def advance(plan: Plan, state: State, seen: Trialled, *, prepared: bool, now: float) -> State:
    """Return the state after as many steps as evidence and time allow."""
    for _ in range(_STEPS_A_TICK):
        following = _step(plan, state, seen, prepared=prepared, now=now)
        if (following.step, following.stage) == (state.step, state.stage):
            return following
        if following.stage != state.stage or following.phase is not RolloutPhase.RUNNING:
            return following  # the evidence at hand is about the stage that has ended
        state = following
    return state


def _step(plan: Plan, state: State, seen: Trialled, *, prepared: bool, now: float) -> State:
    """Return the state after at most one step."""
    assert state.evidence is not None
    missing = "; ".join(state.evidence.missing)
    waits = state.step in {Step.ADMIT, Step.HOLD}
    if waits and state.admitted == state.stage:
        return admit(plan, state, now) if prepared else _wait(state, UNPREPARED, now)
    if waits and not state.soaked:
        return soak(plan, state, now) if _is_settled(plan, seen) else _wait(state, missing, now)
    if state.step is Step.SOAK:
        return analyse(plan, replace(state, soaked=True), missing, now) if _is_late(state, now) else state
    if state.evidence.verdict is Verdict.HEALTHY:
        return promote(plan, state, now, reason="healthy")
    return _wait(state, missing, now)


def _wait(state: State, missing: str, now: float) -> State:
    """Go on waiting until the deadline, and after that for an operator as well."""
    if state.step is Step.HOLD or _is_late(state, now):
        return hold(state, missing, now)
    return replace(state, waiting=missing)


def _is_late(state: State, now: float) -> bool:
    return state.deadline is not None and now >= state.deadline


def _is_settled(plan: Plan, seen: Trialled) -> bool:
    """Tell whether enough reachable devices have an outcome; those that cannot be reached never stall."""
    few = len(seen.unsettled) <= plan.limits.failures * len(seen.reachable)
    return few and bool(seen.of(Outcome.RUNNING))


def admit(plan: Plan, state: State, now: float) -> State:
    """Give the version to the devices of the present stage."""
    return replace(
        state,
        step=Step.ADMIT,
        admitted=state.stage + 1,
        since=now,
        entered=now,
        deadline=now + plan.stage_seconds,
        waiting=f"devices of stage {state.stage + 1} to install",
        ledger=freeze(begin_stage(state.ledger)),
        soaked=False,
    )


def soak(plan: Plan, state: State, now: float) -> State:
    """Let the stage run."""
    seconds = plan.stages[state.stage].soak_seconds
    return replace(state, step=Step.SOAK, since=now, deadline=now + seconds, waiting=f"soak of {seconds:g} s")


def analyse(plan: Plan, state: State, missing: str, now: float) -> State:
    """Judge the stage until its deadline."""
    deadline = max(now, state.entered + plan.stage_seconds)
    return replace(state, step=Step.ANALYSE, since=now, deadline=deadline, waiting=missing)


def hold(state: State, missing: str, now: float) -> State:
    """Wait for an operator, or for the evidence to become sufficient."""
    since = state.since if state.step is Step.HOLD else now
    return replace(state, step=Step.HOLD, since=since, deadline=None, waiting=f"an operator, or: {missing}")


def promote(plan: Plan, state: State, now: float, *, reason: str) -> State:
    """End the stage: admit the next one, or complete the rollout."""
    if state.stage + 1 < len(plan.stages):
        return admit(plan, replace(state, stage=state.stage + 1, reason=reason), now)
    return replace(state, phase=RolloutPhase.COMPLETED, since=now, deadline=None, waiting="", reason=reason)


def go_back(plan: Plan, state: State, now: float, *, reason: str) -> State:
    """Send every device of the cohort back to the previous version."""
    return replace(
        state,
        phase=RolloutPhase.ROLLING_BACK,
        since=now,
        deadline=now + plan.rollback_deadline_seconds,
        waiting="devices to go back",
        reason=reason,
    )

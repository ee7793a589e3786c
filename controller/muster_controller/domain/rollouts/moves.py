"""The moves of a rollout: from one state to the next, once it is known what happened."""

import numpy as np
from msgspec.structs import replace

from muster_controller.domain.rollouts.admitting.admission import Admission, are_due, give, is_paced
from muster_controller.domain.rollouts.judging.evidence import Evidence, Verdict
from muster_controller.domain.rollouts.judging.ledger import begin_stage, freeze
from muster_controller.domain.rollouts.outcome import Outcome, Trialled
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.roster import roster_of
from muster_controller.domain.rollouts.states import Code, RolloutPhase, State, Step, count

UNPREPARED = "windows of control and first stage from before the rollout"
# Soak of no length, analysis and the next stage can follow each other in one tick.
_STEPS_A_TICK = 3
_HEALTHY = "healthy"


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
    if state.step is Step.FINISH:
        return replace(state, code=Code.HEALTHY if state.reason == _HEALTHY else Code.PROMOTED)
    if state.step is Step.SOAK:
        return _soak_on(plan, state, now)
    if state.step in {Step.ADMIT, Step.HOLD} and not state.soaked:
        return _fill(plan, state, seen, prepared=prepared, now=now)
    return _weigh(plan, state, seen, now)


def _fill(plan: Plan, state: State, seen: Trialled, *, prepared: bool, now: float) -> State:
    """Admit a stage when the time before is known, and let it soak when its devices have an outcome."""
    if state.admitted > state.stage:
        if _is_settled(plan, seen, state.due):
            return soak(plan, state, now, code=Code.INSTALLED)
        return _wait(state, _missing(state), now, code=Code.UNSETTLED)
    if prepared:
        return admit(plan, state, now, code=Code.STARTED)
    return _wait(state, UNPREPARED, now, code=Code.UNPREPARED)


def _soak_on(plan: Plan, state: State, now: float) -> State:
    if _is_late(state, now):
        return analyse(plan, replace(state, soaked=True), _missing(state), now, code=Code.NO_EVIDENCE)
    return replace(state, code=Code.INSTALLED, waiting=_soak(plan, state))


def _weigh(plan: Plan, state: State, seen: Trialled, now: float) -> State:
    """End the stage when it is healthy."""
    assert state.evidence is not None
    if state.evidence.verdict is Verdict.HEALTHY and _is_settled(plan, seen, state.due):
        return promote(plan, state, now, code=Code.HEALTHY, reason=_HEALTHY)
    return _wait(state, _missing(state), now, code=_lacks(state.evidence))


def _missing(state: State) -> str:
    """Return what is missing for a healthy verdict on all devices of the stages, in words."""
    told = "; ".join(state.evidence.missing) if state.evidence is not None else ""
    return told or f"{count(state.due)} to be given the version"


def _wait(state: State, missing: str, now: float, *, code: Code) -> State:
    """Go on waiting until the deadline, and after that for an operator as well."""
    if state.step is Step.HOLD or _is_late(state, now):
        return hold(state, missing, now, code=code)
    return replace(state, waiting=missing, code=code)


def _is_late(state: State, now: float) -> bool:
    return state.deadline is not None and now >= state.deadline


def _is_settled(plan: Plan, seen: Trialled, due: int) -> bool:
    """Tell whether enough reachable devices have an outcome; those that cannot be reached never stall."""
    few = len(seen.unsettled) + due <= plan.limits.failures * (len(seen.reachable) + due)
    return few and bool(seen.of(Outcome.RUNNING))


def _lacks(evidence: Evidence) -> Code:
    spoilt = any(check.verdict is not Verdict.HEALTHY for check in evidence.experiment)
    return Code.CONTAMINATED if spoilt else Code.NO_EVIDENCE


def admit(plan: Plan, state: State, now: float, *, code: Code) -> State:
    """Let the devices of the present stage have the version: at once, where the plan does not mind when."""
    admitted = state.stage + 1
    following = replace(
        state,
        step=Step.ADMIT,
        code=code,
        admitted=admitted,
        since=now,
        entered=now,
        deadline=now + plan.stage_seconds,
        waiting=f"devices of stage {admitted} to install",
        ledger=freeze(begin_stage(state.ledger)),
        soaked=False,
    )
    return _give(plan, following, now, with_control=False)


def _give(plan: Plan, state: State, now: float, *, with_control: bool) -> State:
    if is_paced(plan):
        waiting = are_due(roster_of(state.members), state.admitted, with_control=with_control)
        return replace(state, due=int(np.count_nonzero(waiting)))
    given = give(state.members, state.admitted, now, with_control=with_control)
    return replace(state, members=state.members | given, due=0)


def soak(plan: Plan, state: State, now: float, *, code: Code) -> State:
    """Let the stage run."""
    deadline = now + plan.stages[state.stage].soak_seconds
    return replace(
        state,
        step=Step.SOAK,
        code=code,
        since=now,
        deadline=deadline,
        waiting=_soak(plan, state),
    )


def _soak(plan: Plan, state: State) -> str:
    return f"soak of {plan.stages[state.stage].soak_seconds:g} s"


def analyse(plan: Plan, state: State, missing: str, now: float, *, code: Code) -> State:
    """Judge the stage until its deadline."""
    deadline = max(now, state.entered + plan.stage_seconds)
    return replace(
        state,
        step=Step.ANALYSE,
        code=code,
        since=now,
        deadline=deadline,
        waiting=missing,
    )


def hold(state: State, missing: str, now: float, *, code: Code) -> State:
    """Wait for an operator, or for what is missing."""
    since = state.since if state.step is Step.HOLD else now
    return replace(
        state,
        step=Step.HOLD,
        code=code,
        since=since,
        deadline=None,
        waiting=f"an operator, or: {missing}",
    )


def stand_still(state: State, now: float) -> State:
    """Change nothing, because the clock shows less than it did: no deadline is moved, nothing is promoted."""
    ahead = state.at - now
    waiting = f"the clock, which went back, to show {ahead:.0f} s more, or an operator to resume"
    return replace(state, code=Code.CLOCK_WENT_BACK, waiting=waiting)


def promote(plan: Plan, state: State, now: float, *, code: Code, reason: str) -> State:
    """End the stage: admit the next one, or give the version to the rest of the cohort."""
    if state.stage + 1 < len(plan.stages):
        return admit(plan, replace(state, stage=state.stage + 1, reason=reason), now, code=code)
    return finish(plan, replace(state, reason=reason), now, code=code)


def finish(plan: Plan, state: State, now: float, *, code: Code) -> State:
    """Let everybody have the version, the control included; at once, where the plan does not mind when."""
    ending = replace(
        state,
        phase=RolloutPhase.RUNNING,
        step=Step.FINISH,
        code=code,
        admitted=len(plan.stages),
        since=now,
        deadline=None,
        waiting="the rest of the cohort to be given the version",
        soaked=True,
    )
    ending = _give(plan, ending, now, with_control=True)
    return ending if ending.due else complete(ending, now)


def complete(state: State, now: float) -> State:
    """End the rollout: whoever can be reached was given the version."""
    return replace(state, phase=RolloutPhase.COMPLETED, since=now, deadline=None, waiting="")


def take_up(state: State, admission: Admission, now: float) -> State:
    """Return the state after an admission, saying what the devices that are still due wait for."""
    members = state.members | admission.changed if admission.changed else state.members
    following = replace(state, members=members, pace=admission.pace, due=admission.due)
    if following.phase is not RolloutPhase.RUNNING:
        return following
    if following.step is Step.FINISH and not admission.due:
        return complete(following, now)
    filling = following.step in {Step.ADMIT, Step.HOLD} and following.admitted > following.stage
    if not admission.due or not (following.step is Step.FINISH or (filling and not following.soaked)):
        return following
    code, waiting = _pace(admission)
    if following.step is Step.FINISH:
        return replace(following, waiting=waiting)  # the code goes on saying why the last stage ended
    asked = "an operator, or: " if following.step is Step.HOLD else ""
    return replace(following, code=code, waiting=asked + waiting)


def _pace(admission: Admission) -> tuple[Code, str]:
    told = count(admission.due)
    if admission.rated:
        return Code.RATE_LIMITED, f"{told} that the rate has not come to yet"
    if admission.spent:
        return Code.BYTES_SPENT, f"{told} that the byte budget has nothing left for yet"
    wait = admission.opens_in
    # A zone that nobody knows opens no window, and time will not change that.
    soon = ", in no known time zone" if wait is None else f", the next opens in {wait / 60:.0f} min"
    return Code.WINDOW_CLOSED, f"{told} outside maintenance windows{soon}"


def go_back(plan: Plan, state: State, now: float, *, code: Code, reason: str) -> State:
    """Send every device of the cohort back to the previous version."""
    return replace(
        state,
        phase=RolloutPhase.ROLLING_BACK,
        code=code,
        since=now,
        deadline=now + plan.rollback_deadline_seconds,
        waiting="devices to go back",
        reason=reason,
        due=0,
    )

"""Which changes of a rollout receivers are told of. Pure."""

from typing import Any

from muster_controller.domain.rollouts.states import RolloutPhase, State, Step

_PHASES = {
    RolloutPhase.PENDING_APPROVAL: "approval-wanted",
    RolloutPhase.SCHEDULED: "scheduled",
    RolloutPhase.PAUSED: "paused",
    RolloutPhase.ROLLING_BACK: "rolling-back",
    RolloutPhase.ROLLED_BACK: "rolled-back",
    RolloutPhase.ROLLBACK_INCOMPLETE: "rollback-incomplete",
    RolloutPhase.COMPLETED: "completed",
    RolloutPhase.ABORTED: "aborted",
}


def change(before: State, after: State) -> str | None:
    """Return the word for what happened to a rollout; None for nothing worth a message."""
    if after.phase is not before.phase:
        if after.phase is RolloutPhase.RUNNING:
            return "resumed" if before.phase is RolloutPhase.PAUSED else "started"
        return _PHASES.get(after.phase)
    is_held = after.phase is RolloutPhase.RUNNING and after.step is Step.HOLD
    return "held" if is_held and before.step is not Step.HOLD else None


def described(digest: str, state: State) -> dict[str, Any]:
    """Return what is said of a rollout besides."""
    return {
        "digest": digest,
        "phase": str(state.phase),
        "code": str(state.code),
        "step": str(state.step),
        "stage": state.stage,
        "reason": state.reason,
        "waiting": state.waiting,
        "unreturned": list(state.unreturned[:20]),
    }

"""``/rollouts/…/approvals``: who has agreed to a rollout, agreeing, refusing to."""

from fastapi import APIRouter
from pydantic import Field

from muster_controller.api.documents import Body
from muster_controller.api.parts import Here, Who
from muster_controller.service import approvals
from muster_controller.service.approvals import ApprovalView
from muster_controller.service.rollout_views import RolloutDetail

router = APIRouter(prefix="/rollouts", tags=["rollouts"])


class WithholdBody(Body):
    """Why not; it must be said."""

    reason: str = Field(min_length=1, max_length=400)


class ApproveBody(WithholdBody):
    """Why, and of what: without a digest it is of whatever the rollout is now."""

    digest: str | None = Field(default=None, description="That of what you looked at: see approvals.")


@router.get("/{number}/approvals")
def show_approvals(context: Here, number: int) -> ApprovalView:
    """Return what a rollout needs of people, and has."""
    return approvals.show(context, number)


@router.post("/{number}/approve")
def approve(context: Here, who: Who, number: int, body: ApproveBody) -> RolloutDetail:
    """Agree that a rollout starts, or, while it runs, that it may be promoted by order."""
    return approvals.approve(context, who, number, reason=body.reason, seen=body.digest)


@router.post("/{number}/withhold")
def withhold(context: Here, who: Who, number: int, body: WithholdBody) -> RolloutDetail:
    """Refuse to approve a rollout that waits for it: it ends before it began."""
    return approvals.withhold(context, who, number, reason=body.reason)

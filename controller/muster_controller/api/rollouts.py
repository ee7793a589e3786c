"""``/rollouts``: planning, starting, steering and looking at rollouts."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from muster_controller.api.documents import Body, ReasonBody
from muster_controller.api.limits import DEFAULT, Cursor, Limit
from muster_controller.api.parts import Actor, Here
from muster_controller.service import rollouts
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.service.rollout_views import PlanView, RolloutDetail, RolloutDeviceView
from muster_controller.store.views.paging import Page
from muster_controller.store.views.rollouts import EvidenceView, RolloutFilter, RolloutView

router = APIRouter(tags=["rollouts"])
# What the request itself says; everything else is a field of the plan.
_OWN = {"version", "previous", "reason"}


class StageBody(Body):
    """A share of the cohort, all stages so far together, and how long it must run."""

    percent: float | None = None
    count: int | None = None
    soak_seconds: float | None = None
    minimum_rounds: int | None = None


class ShadowBody(Body):
    """What each device asks of the version, unseen, before it lets it answer."""

    seconds: float = Field(description="How long: up to 604800.")
    share: float | None = Field(default=None, description="Of its calls, 0..1; all when left out.")
    cpu_percent: float | None = Field(default=None, description="Of one core, at most; 10 when left out.")


class PlanBody(ReasonBody):
    """What is rolled out, to whom, and under which conditions; what is left out has the plan's default."""

    version: str = Field(description="model@version or a digest.")
    previous: str | None = Field(default=None, description="What a rollback returns to.")
    selector: str | None = Field(default=None, description="Over labels; all when left out.")
    stages: list[StageBody] | None = None
    control: float | None = None
    margins: dict[str, float] | None = None
    limits: dict[str, float] | None = None
    error_budget: float | None = None
    hold_budget: float | None = None
    before_rounds: int | None = None
    before_seconds: float | None = None
    round_seconds: float | None = None
    minimum_rows: int | None = None
    probation_seconds: float | None = None
    shadow: ShadowBody | None = None
    stage_deadline_seconds: float | None = None
    rollback_deadline_seconds: float | None = None
    seed: str | None = None

    def request(self) -> RolloutRequest:
        """Return what the service understands."""
        fields: dict[str, Any] = self.model_dump(exclude_none=True, exclude=_OWN)
        return RolloutRequest(self.version, self.previous, fields)


class AbortBody(ReasonBody):
    """What becomes of the devices that have the version."""

    mode: Literal["keep", "revert"]


@router.get("/rollouts")
def list_rollouts(
    context: Here,
    *,
    model: str | None = None,
    phase: str | None = None,
    live: Annotated[
        bool | None, Query(description="Only those that still need decisions, or only the rest.")
    ] = None,
    limit: Limit = DEFAULT,
    cursor: Cursor = None,
) -> Page[RolloutView]:
    """Return rollouts, newest first."""
    return rollouts.list_rollouts(context, RolloutFilter(model, phase, live), limit=limit, cursor=cursor)


@router.post("/rollouts/plan")
def plan_rollout(context: Here, body: PlanBody) -> PlanView:
    """Return what a rollout would do, and what stands in its way; nothing is stored."""
    return rollouts.plan_rollout(context, body.request())


@router.post("/rollouts", status_code=201)
def start_rollout(context: Here, actor: Actor, body: PlanBody) -> RolloutDetail:
    """Start a rollout."""
    return rollouts.start_rollout(context, actor, body.request(), body.reason)


@router.get("/rollouts/{number}")
def show_rollout(context: Here, number: int) -> RolloutDetail:
    """Return one rollout with its stages, its newest evidence and its history."""
    return rollouts.show_rollout(context, number)


@router.get("/rollouts/{number}/devices")
def list_rollout_devices(context: Here, number: int) -> Page[RolloutDeviceView]:
    """Return what became of every device of the cohort, by id."""
    return Page(rollouts.list_rollout_devices(context, number), None)


@router.get("/rollouts/{number}/evidence")
def list_evidence(
    context: Here, number: int, *, limit: Limit = DEFAULT, cursor: Cursor = None
) -> Page[EvidenceView]:
    """Return what a rollout saw, newest first."""
    return rollouts.list_evidence(context, number, limit=limit, cursor=cursor)


@router.post("/rollouts/{number}/pause")
def pause(context: Here, actor: Actor, number: int, body: ReasonBody) -> RolloutDetail:
    """Stop admission and promotion; harm still rolls back."""
    return rollouts.pause(context, actor, number, body.reason)


@router.post("/rollouts/{number}/resume")
def resume(context: Here, actor: Actor, number: int, body: ReasonBody) -> RolloutDetail:
    """Go on after a pause or a hold, and acknowledge the failures seen so far."""
    return rollouts.resume(context, actor, number, body.reason)


@router.post("/rollouts/{number}/promote")
def promote(context: Here, actor: Actor, number: int, body: ReasonBody) -> RolloutDetail:
    """End the stage as if it had been judged healthy."""
    return rollouts.promote(context, actor, number, body.reason)


@router.post("/rollouts/{number}/abort")
def abort(context: Here, actor: Actor, number: int, body: AbortBody) -> RolloutDetail:
    """End the rollout: devices keep what they have, or all go back."""
    return rollouts.abort(context, actor, number, mode=body.mode, reason=body.reason)

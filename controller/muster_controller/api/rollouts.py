"""``/rollouts``: planning, starting, steering and looking at rollouts."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from muster_controller.api.documents import Body, ReasonBody
from muster_controller.api.limits import DEFAULT, Cursor, Limit
from muster_controller.api.parts import Actor, Asks, Here
from muster_controller.service import (
    rollout_devices,
    rollout_edits,
    rollout_explain,
    rollout_preview,
    rollouts,
)
from muster_controller.service.rollout_explain import RolloutExplained
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.service.rollout_preview import PlanView
from muster_controller.service.rollout_views import Outcome, RolloutDetail, RolloutDeviceView
from muster_controller.service.rollouts import WayBack
from muster_controller.service.versions import model_asked
from muster_controller.store.views.paging import Page
from muster_controller.store.views.rollouts import EvidenceView, RolloutFilter, RolloutView

router = APIRouter(tags=["rollouts"])
# A part of a plan; docs/rollouts.md has its fields, and the plan's own parser refuses every other one.
Part = dict[str, Any]
# What the request itself says; everything else is a field of the plan.
_OWN = {"version", "previous", "reason", "digest"}


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
    margins: Part | None = None
    limits: Part | None = None
    minimums: Part | None = None
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
    rollback_window_seconds: float | None = None
    seed: str | None = None
    dynamic: bool | None = Field(default=None, description="Devices that join later are drawn too.")
    start_at: float | None = Field(default=None, description="Unix seconds.")
    windows: list[Part] | None = Field(default=None, description="When devices may be given it.")
    ramp: Part | None = Field(default=None, description="per_minute, growth, after.")
    byte_budget: Part | None = Field(default=None, description="bytes in any so many seconds.")
    retry: Part | None = Field(default=None, description="reasons, tries, backoff_seconds, growth, jitter.")
    abort: Literal["keep", "revert"] | None = Field(default=None, description="What an abort means.")
    approval: Part | None = Field(default=None, description="needed, roles, expires_seconds.")

    def request(self) -> RolloutRequest:
        """Return what the service understands."""
        # A null within a part means something: no limit. At the top it means what leaving it out does.
        given = self.model_dump(exclude_unset=True, exclude=_OWN)
        fields = {name: value for name, value in given.items() if value is not None}
        return RolloutRequest(self.version, self.previous, fields)


class EditBody(PlanBody):
    """All of the plan that a rollout goes on by, instead of its own; without a seed the draw stays."""

    reason: str = Field(min_length=1, max_length=400, description="Why; it must be said.")
    digest: str | None = Field(default=None, description="That of what you edited: see the rollout.")


class AbortBody(ReasonBody):
    """What becomes of the devices that have the version."""

    mode: Literal["keep", "revert"] | None = Field(default=None, description="As the plan says.")


class RollbackBody(ReasonBody):
    """Which devices go back; without devices and stage the whole cohort."""

    devices: list[str] = Field(default_factory=list, description="These alone.")
    stage: int | None = Field(default=None, ge=1, description="All of this stage, counted from 1.")
    override: bool = Field(default=False, description="Also outside the plan's rollback window.")


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
def plan_rollout(context: Here, actor: Actor, body: PlanBody) -> PlanView:
    """Return what a rollout would do, and what stands in its way; nothing is stored."""
    return rollout_preview.plan_rollout(context, body.request(), actor)


@router.post("/rollouts", status_code=201)
def start_rollout(context: Here, asks: Asks, body: PlanBody) -> RolloutDetail:
    """Start a rollout."""
    actor = asks.about(model_asked(context, body.version))
    return rollouts.start_rollout(context, actor, body.request(), body.reason)


@router.get("/rollouts/{number}")
def show_rollout(context: Here, number: int) -> RolloutDetail:
    """Return one rollout with its stages, its newest evidence and its history."""
    return rollouts.show_rollout(context, number)


@router.get("/rollouts/{number}/devices")
def list_rollout_devices(
    context: Here,
    number: int,
    *,
    outcome: Annotated[Outcome | None, Query(description="Only those of which this became.")] = None,
    limit: Limit = DEFAULT,
    cursor: Cursor = None,
) -> Page[RolloutDeviceView]:
    """Return what became of every device of the cohort, by id."""
    page, _ = rollout_devices.page_devices(context, number, outcome=outcome, limit=limit, cursor=cursor)
    return page


@router.get("/rollouts/{number}/evidence")
def list_evidence(
    context: Here, number: int, *, limit: Limit = DEFAULT, cursor: Cursor = None
) -> Page[EvidenceView]:
    """Return what a rollout saw, newest first."""
    return rollouts.list_evidence(context, number, limit=limit, cursor=cursor)


@router.get("/rollouts/{number}/explain")
def explain(
    context: Here, number: int, gate: Annotated[str | None, Query(description="One gate alone.")] = None
) -> RolloutExplained:
    """Return the evidence round by round, computed again from what is stored."""
    return rollout_explain.explain(context, number, gate=gate)


@router.post("/rollouts/{number}/edit")
def edit_rollout(context: Here, actor: Actor, number: int, body: EditBody) -> RolloutDetail:
    """Give a rollout that has not begun another plan: whatever was approved of the one before is void."""
    return rollout_edits.edit_rollout(
        context, actor, number, body.request(), reason=body.reason, seen=body.digest
    )


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


@router.post("/rollouts/{number}/retry")
def retry(context: Here, actor: Actor, number: int, body: ReasonBody) -> RolloutDetail:
    """Give the version again to every device on which it failed."""
    return rollouts.retry(context, actor, number, body.reason)


@router.post("/rollouts/{number}/rollback")
def roll_back(context: Here, actor: Actor, number: int, body: RollbackBody) -> RolloutDetail:
    """Send devices back to the previous version, also after the rollout has completed."""
    way = WayBack(tuple(body.devices), body.stage, body.override)
    return rollouts.roll_back(context, actor, number, way, body.reason)

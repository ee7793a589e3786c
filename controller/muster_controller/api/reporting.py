"""``/reporting`` and the cost dial: how devices report, what it costs, and what it buys."""

from typing import Annotated

from fastapi import APIRouter, Query

from muster_controller.api.documents import ReasonBody
from muster_controller.api.parts import Actor, Here
from muster_controller.service import cost, reporting
from muster_controller.service.cost import CostView, PlanRequest, PlanView
from muster_controller.service.reporting import ReportingView

router = APIRouter(tags=["reporting"])


class ReportingBody(ReasonBody):
    """What is to change; what is left out stays as it is."""

    window_seconds: float | None = None
    window_rows: int | None = None
    sample: float | None = None
    heartbeat_seconds: float | None = None
    save_seconds: float | None = None
    epsilon: float | None = None


@router.get("/reporting")
def show_reporting(context: Here) -> ReportingView:
    """Return how every device reports."""
    return reporting.show(context)


@router.put("/reporting")
def change_reporting(context: Here, actor: Actor, body: ReportingBody) -> ReportingView:
    """Change how every device reports, from its next desired state on."""
    fields = body.model_dump(exclude_none=True, exclude={"reason"})
    return reporting.change(context, actor, fields, body.reason)


@router.post("/reporting/reset")
def reset_reporting(context: Here, actor: Actor, body: ReasonBody) -> ReportingView:
    """Let the settings file decide again."""
    return reporting.reset(context, actor, body.reason)


@router.get("/drift/plan")
def plan_reporting(
    context: Here,
    bytes_per_day: Annotated[float, Query(gt=0, le=1e12, description="Of the windows of one device.")],
    *,
    features: Annotated[int, Query(ge=1, le=4096)] = 20,
    model: Annotated[str | None, Query(description="Whose columns, devices and rows are taken.")] = None,
    devices: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    rows_per_day: Annotated[float | None, Query(ge=0, le=1e12)] = None,
    design_effect: Annotated[float, Query(ge=1, le=1e6)] = 1.0,
    shift: Annotated[float, Query(gt=0, le=10, description="To be noticed soon, in sd.")] = 0.25,
    epsilon: Annotated[float | None, Query(ge=0, le=100, description="Of differential privacy.")] = None,
) -> PlanView:
    """Return how devices should report within a budget, and what that buys; nothing is changed."""
    wanted = PlanRequest(bytes_per_day, features, model, devices, rows_per_day, design_effect, shift, epsilon)
    return cost.plan(context, wanted)


@router.get("/models/{model}/cost")
def show_cost(context: Here, model: str) -> CostView:
    """Return what the windows of a model took in the last day, and what that buys."""
    return cost.show(context, model)

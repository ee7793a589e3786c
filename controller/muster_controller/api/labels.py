"""``/labels`` and ``/models/{model}/labels``: the truth that comes late, and what it says."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from muster_controller.api.parts import Asks, Here
from muster_controller.service import label_pushing, labels
from muster_controller.service.label_lines import models_named
from muster_controller.service.label_pushing import Pushed
from muster_controller.service.label_views import ArmsView, LabelsView
from muster_controller.service.labels import LabelQuery

router = APIRouter(tags=["labels"])
_BODY = {
    "requestBody": {
        "description": "JSON objects, one a line or in a list.",
        "content": {"application/json": {}, "application/x-ndjson": {}},
        "required": True,
    }
}


@router.post("/labels", openapi_extra=_BODY)
async def push_labels(context: Here, asks: Asks, request: Request) -> Pushed:
    """Take in the truth about predictions; what was pushed before changes nothing."""
    body = await request.body()

    def push() -> Pushed:
        return label_pushing.push_labels(context, asks.about(models_named(body)), body)

    return await run_in_threadpool(push)


@router.get("/models/{model}/labels")
def show_labels(
    context: Here,
    model: str,
    *,
    subject: Annotated[str, Query(description="all, label=value, or a device id.")] = labels.ALL,
    seconds: Annotated[float | None, Query(gt=0, le=366 * 86_400, description="How far back.")] = None,
) -> LabelsView:
    """Return accuracy or mean error by labels, by version, and an estimate without labels."""
    return labels.show_labels(context, model, LabelQuery(subject, seconds))


@router.get("/rollouts/{number}/labels")
def show_arms(context: Here, number: int) -> ArmsView:
    """Return what labels say of both arms of a rollout."""
    return labels.show_arms(context, number)

"""``/models/{model}/drift``: what a model sees, against its baseline."""

from typing import Annotated

from fastapi import APIRouter, Query

from muster_controller.api.parts import Here
from muster_controller.service import drift
from muster_controller.service.drift import DriftQuery
from muster_controller.service.drift_views import DriftView

router = APIRouter(tags=["drift"])


@router.get("/models/{model}/drift")
def show_drift(
    context: Here,
    model: str,
    *,
    subject: Annotated[str, Query(description="all, label=value, or a device id.")] = drift.ALL,
    baseline: Annotated[str | None, Query(description="SHA-256; the one most windows have.")] = None,
    seconds: Annotated[float | None, Query(gt=0, le=366 * 86_400, description="How far back.")] = None,
) -> DriftView:
    """Return the distances of every column from its baseline, over recent windows."""
    return drift.show_drift(context, model, DriftQuery(subject, baseline, seconds))

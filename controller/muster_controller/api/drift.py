"""``/models/{model}/drift``: what a model sees, against its baseline."""

from typing import Annotated

from fastapi import APIRouter, Query

from muster_controller.api.parts import Here
from muster_controller.service import drift, drift_export, explaining
from muster_controller.service.drift import DriftQuery
from muster_controller.service.drift_export import ExportView
from muster_controller.service.drift_views import DriftView
from muster_controller.service.explaining import Explained

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


@router.get("/models/{model}/drift/export")
def export_windows(
    context: Here,
    model: str,
    *,
    after: Annotated[int, Query(ge=0, description="Number of the last window that is known.")] = 0,
) -> ExportView:
    """Return stored windows as plain counts, with the baselines that they belong to."""
    return drift_export.export(context, model, after=after)


@router.get("/alarms/{number}/explain")
def explain_alarm(
    context: Here,
    number: int,
    *,
    rounds: Annotated[int, Query(ge=1, le=10_000, description="How many rounds are shown.")] = 60,
) -> Explained:
    """Compute an alarm again from the stored windows or labels; ``how`` tells which, or that nothing is."""
    return explaining.explain(context, number, rounds=rounds)

"""``/models/{model}/drift``: what a model sees, against its baseline."""

from typing import Annotated

from fastapi import APIRouter, Query

from muster_controller.api.parts import Here
from muster_controller.service import drift, drift_export, explaining
from muster_controller.service.drift import DriftQuery
from muster_controller.service.drift_export import ExportView
from muster_controller.service.drift_threshold import Statistic, ThresholdView, show_threshold
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


@router.get("/models/{model}/drift/threshold")
def compare_with_threshold(
    context: Here,
    model: str,
    *,
    statistic: Annotated[Statistic, Query(description="What is held against the threshold.")],
    above: Annotated[float, Query(ge=0, le=1e6, description="The threshold.")],
    subject: Annotated[str, Query(description="all, label=value, or a device id.")] = drift.ALL,
    seconds: Annotated[float | None, Query(gt=0, le=366 * 86_400, description="How far back.")] = None,
) -> ThresholdView:
    """Return how often recent windows lie above a threshold, and how often they would without drift."""
    return show_threshold(context, model, DriftQuery(subject, None, seconds), statistic, above)


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

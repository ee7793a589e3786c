"""``/events``, ``/refusals``, ``/runs``, ``/alarms``, ``/audit``: what happened, newest first."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from muster_controller.api.limits import DEFAULT, Cursor, Limit
from muster_controller.api.parts import Here
from muster_controller.service import history
from muster_controller.store.views.alarms import AlarmFilter, AlarmView
from muster_controller.store.views.history import (
    AuditFilter,
    AuditView,
    EventFilter,
    EventView,
    RefusalView,
    RunView,
)
from muster_controller.store.views.paging import Page

router = APIRouter(tags=["history"])


@router.get("/events")
def list_events(
    context: Here,
    *,
    device: str | None = None,
    model: str | None = None,
    kind: str | None = None,
    reason: str | None = None,
    limit: Limit = DEFAULT,
    cursor: Cursor = None,
) -> Page[EventView]:
    """Return events of devices and of the controller."""
    return history.list_events(context, EventFilter(device, model, kind, reason), limit=limit, cursor=cursor)


@router.get("/refusals")
def list_refusals(context: Here, device: str | None = None) -> Page[RefusalView]:
    """Return what was refused at ingest, counted per device and reason."""
    return Page(history.list_refusals(context, device), None)


@router.get("/runs")
def list_runs(
    context: Here,
    *,
    device: str | None = None,
    model: str | None = None,
    version: Annotated[str | None, Query(description="model@version or a digest.")] = None,
    limit: Limit = DEFAULT,
    cursor: Cursor = None,
) -> Page[RunView]:
    """Return which device ran which version from when to when."""
    return history.list_runs(context, device=device, model=model, version=version, limit=limit, cursor=cursor)


@router.get("/alarms")
def list_alarms(
    context: Here,
    *,
    model: str | None = None,
    state: Literal["pending", "firing", "resolved"] | None = None,
    kind: str | None = None,
    level: Literal["device", "group", "fleet"] | None = None,
    subject: str | None = None,
    limit: Limit = DEFAULT,
    cursor: Cursor = None,
) -> Page[AlarmView]:
    """Return alarms."""
    wanted = AlarmFilter(model, state, kind, level, subject)
    return history.list_alarms(context, wanted, limit=limit, cursor=cursor)


@router.get("/alarms/{number}")
def show_alarm(context: Here, number: int) -> AlarmView:
    """Return one alarm with its evidence."""
    return history.show_alarm(context, number)


@router.get("/audit")
def list_audit(
    context: Here,
    *,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    limit: Limit = DEFAULT,
    cursor: Cursor = None,
) -> Page[AuditView]:
    """Return who did what, and why."""
    return history.list_audit(context, AuditFilter(actor, action, subject), limit=limit, cursor=cursor)

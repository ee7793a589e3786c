"""What happened: events, refusals, runs, alarms, and the audit trail."""

from muster_controller.service.context import Context
from muster_controller.service.versions import resolve
from muster_controller.store.views import alarms, history
from muster_controller.store.views.alarms import AlarmFilter, AlarmView
from muster_controller.store.views.history import (
    AuditFilter,
    AuditView,
    EventFilter,
    EventView,
    RefusalView,
    RunView,
)
from muster_controller.store.views.paging import DEFAULT_LIMIT, Page
from muster_models.errors import NotFoundError


def list_events(
    context: Context, wanted: EventFilter, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[EventView]:
    """Return events of devices and of the controller, newest first."""
    with context.reading() as session:
        return history.list_events(session, wanted, limit=limit, cursor=cursor)


def list_refusals(context: Context, device: str | None = None) -> tuple[RefusalView, ...]:
    """Return what was refused at ingest, latest first."""
    with context.reading() as session:
        return history.list_refusals(session, device)


def list_runs(
    context: Context,
    *,
    device: str | None = None,
    model: str | None = None,
    version: str | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[RunView]:
    """Return which device ran which version from when to when, latest first.

    Raises:
        NotFoundError: ``version`` (``model@version`` or a digest) names no version.
    """
    with context.reading() as session:
        digest = None if version is None else resolve(session, version).digest
        return history.list_runs(
            session, device=device, model=model, digest=digest, limit=limit, cursor=cursor
        )


def list_audit(
    context: Context, wanted: AuditFilter, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[AuditView]:
    """Return who did what, newest first."""
    with context.reading() as session:
        return history.list_audit(session, wanted, limit=limit, cursor=cursor)


def list_alarms(
    context: Context, wanted: AlarmFilter, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[AlarmView]:
    """Return alarms, newest first."""
    with context.reading() as session:
        page = alarms.list_alarms(session, wanted, limit=limit, cursor=cursor)
        return Page(alarms.attended(session, page.items, context.clock()), page.next)


def show_alarm(context: Context, number: int) -> AlarmView:
    """Return one alarm with its evidence.

    Raises:
        NotFoundError: No such alarm.
    """
    with context.reading() as session:
        found = alarms.find_alarm(session, number)
        if found is None:
            raise NotFoundError(f"no alarm {number}")
        return alarms.attended(session, [found], context.clock())[0]

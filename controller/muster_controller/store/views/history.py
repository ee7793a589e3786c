"""What happened: events, refusals, runs and the audit trail, newest first."""

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

from sqlmodel import Session, col, select

from muster_controller.store.tables import AuditEntry, EventRecord, Refusal, Run
from muster_controller.store.views.instants import instant
from muster_controller.store.views.names import VersionRef, name_versions
from muster_controller.store.views.paging import Page, cut, newest_first


@dataclass(frozen=True)
class EventView:
    """Something that happened once, on a device or (``device`` empty) at the controller."""

    id: int
    at: dt.datetime
    device: str
    kind: str
    model: str
    version: VersionRef | None
    reason: str
    detail: str


@dataclass(frozen=True)
class RefusalView:
    """Bytes that were refused at ingest, counted per device and reason."""

    device: str
    reason: str
    count: int
    last_at: dt.datetime
    last_detail: str


@dataclass(frozen=True)
class RunView:
    """Which device ran which version from when to when; ``until`` is None while it still does."""

    id: int
    device: str
    model: str
    version: VersionRef
    since: dt.datetime
    until: dt.datetime | None


@dataclass(frozen=True)
class AuditView:
    """Who did what, and why."""

    id: int
    at: dt.datetime
    actor: str
    action: str
    subject: str
    reason: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class EventFilter:
    """Which events are asked for; None means any."""

    device: str | None = None
    model: str | None = None
    kind: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class AuditFilter:
    """Which audit entries are asked for; None means any."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None


def list_events(
    session: Session, wanted: EventFilter, *, limit: int, cursor: str | None = None
) -> Page[EventView]:
    """Return events, newest first."""
    equal = (
        (EventRecord.device, wanted.device),
        (EventRecord.model, wanted.model),
        (EventRecord.kind, wanted.kind),
        (EventRecord.reason, wanted.reason),
    )
    query = newest_first(select(EventRecord), EventRecord.id, equal=equal, limit=limit, cursor=cursor)
    rows = session.exec(query).all()
    names = name_versions(session, (row.digest for row in rows))
    return cut(rows, limit, view=lambda row: _event(row, names), key=_event_key)


def rollout_notes(session: Session, number: int, *, limit: int) -> tuple[EventView, ...]:
    """Return what a rollout has told of its course, newest first."""
    prefix = f"rollout {number}: "
    query = (
        select(EventRecord)
        .where(EventRecord.device == "", EventRecord.kind == "rollout")
        .where(col(EventRecord.detail).startswith(prefix, autoescape=True))
        .order_by(col(EventRecord.id).desc())
        .limit(limit)
    )
    rows = session.exec(query).all()
    names = name_versions(session, (row.digest for row in rows))
    return tuple(replace(_event(row, names), detail=row.detail.removeprefix(prefix)) for row in rows)


def list_refusals(session: Session, device: str | None = None) -> tuple[RefusalView, ...]:
    """Return what was refused at ingest, latest first; one entry per device and reason, at most 500."""
    query = select(Refusal).order_by(col(Refusal.last_at).desc()).limit(500)
    if device is not None:
        query = query.where(col(Refusal.device) == device)
    return tuple(
        RefusalView(row.device, row.reason, row.count, instant(row.last_at), row.last_detail)
        for row in session.exec(query)
    )


def list_runs(
    session: Session,
    *,
    device: str | None = None,
    model: str | None = None,
    digest: str | None = None,
    limit: int,
    cursor: str | None = None,
) -> Page[RunView]:
    """Return runs, latest first."""
    equal = ((Run.device, device), (Run.model, model), (Run.digest, digest))
    query = newest_first(select(Run), Run.id, equal=equal, limit=limit, cursor=cursor)
    rows = session.exec(query).all()
    names = name_versions(session, (row.digest for row in rows))
    return cut(rows, limit, view=lambda row: _run(row, names), key=_run_key)


def list_audit(
    session: Session, wanted: AuditFilter, *, limit: int, cursor: str | None = None
) -> Page[AuditView]:
    """Return the audit trail, newest first."""
    equal = (
        (AuditEntry.actor, wanted.actor),
        (AuditEntry.action, wanted.action),
        (AuditEntry.subject, wanted.subject),
    )
    query = newest_first(select(AuditEntry), AuditEntry.id, equal=equal, limit=limit, cursor=cursor)
    return cut(session.exec(query).all(), limit, view=_audit, key=_audit_key)


def _event(row: EventRecord, names: dict[str, VersionRef]) -> EventView:
    return EventView(
        _event_key(row),
        instant(row.at),
        row.device,
        row.kind,
        row.model,
        names.get(row.digest),
        row.reason or "",
        row.detail,
    )


def _run(row: Run, names: dict[str, VersionRef]) -> RunView:
    return RunView(
        _run_key(row), row.device, row.model, names[row.digest], instant(row.since), instant(row.until)
    )


def _audit(row: AuditEntry) -> AuditView:
    return AuditView(
        _audit_key(row), instant(row.at), row.actor, row.action, row.subject, row.reason, row.detail
    )


def _event_key(row: EventRecord) -> int:
    assert row.id is not None
    return row.id


def _run_key(row: Run) -> int:
    assert row.id is not None
    return row.id


def _audit_key(row: AuditEntry) -> int:
    assert row.id is not None
    return row.id

"""Retraining jobs, newest first."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, select

from muster_controller.store.alarm_tables import Job
from muster_controller.store.views.instants import instant
from muster_controller.store.views.names import VersionRef, name_versions
from muster_controller.store.views.paging import Page, cut, newest_first


@dataclass(frozen=True)
class JobView:
    """One job.

    Attributes:
        trigger: Its name in ``controller.toml``.
        alarm: Number of the alarm that started it; ``cause`` is its kind.
        state: ``queued``, ``running``, ``done``, ``failed``, or ``unknown`` when nobody saw its end.
        runs: ``command``, or ``webhook`` and the receiver's name.
        parent: The version that drifted; None when none is on the alarm's baseline.
        evidence: What the job was given.
        output: The end of what a command said.
    """

    id: int
    trigger: str
    alarm: int
    model: str
    cause: str
    state: str
    runs: str
    parent: VersionRef | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    deadline_at: dt.datetime | None
    ended_at: dt.datetime | None
    exit_status: int | None
    detail: str
    output: str
    evidence: dict[str, Any]


def list_jobs(
    session: Session, *, model: str | None, state: str | None, limit: int, cursor: str | None
) -> Page[JobView]:
    """Return jobs, newest first."""
    equal = ((Job.model, model), (Job.state, state))
    query = newest_first(select(Job), Job.id, equal=equal, limit=limit, cursor=cursor)
    rows = session.exec(query).all()
    names = name_versions(session, (row.parent for row in rows if row.parent))
    return cut(rows, limit, view=lambda row: _view(row, names.get(row.parent)), key=_key)


def find_job(session: Session, number: int) -> JobView | None:
    """Return one job, None when there is none with that number."""
    row = session.get(Job, number)
    if row is None:
        return None
    names = name_versions(session, [row.parent] if row.parent else [])
    return _view(row, names.get(row.parent))


def _view(row: Job, parent: VersionRef | None) -> JobView:
    return JobView(
        id=_key(row),
        trigger=row.trigger,
        alarm=row.alarm,
        model=row.model,
        cause=row.cause,
        state=row.state,
        runs=row.runs,
        parent=parent,
        created_at=instant(row.created_at),
        started_at=instant(row.started_at),
        deadline_at=instant(row.deadline_at),
        ended_at=instant(row.ended_at),
        exit_status=row.exit_status,
        detail=row.detail,
        output=row.output,
        evidence=row.evidence,
    )


def _key(row: Job) -> int:
    assert row.id is not None
    return row.id

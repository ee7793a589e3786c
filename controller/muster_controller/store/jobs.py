"""Retraining jobs: rows whose state changes only as the domain allows, by whoever holds the fence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy
from sqlalchemy import Row, bindparam
from sqlmodel import Session, col, select

from muster_controller.domain.alarms.jobs import TRANSITIONS, JobEvent, JobState, Past
from muster_controller.store.alarm_tables import Job
from muster_controller.store.engine import ask, table
from muster_controller.store.instants import milliseconds, seconds
from muster_models.errors import ConflictError, NotFoundError

COMMAND = "command"
_COLUMNS = table(Job).c
_OVERDUE = (
    sqlalchemy.select(*_COLUMNS)
    .where(_COLUMNS.state == "running", _COLUMNS.runs != COMMAND, _COLUMNS.deadline_at < bindparam("now"))
    .order_by(_COLUMNS.id)
)


@dataclass(frozen=True)
class Found:
    """A job as who runs it needs it.

    Attributes:
        runs: ``command``, or ``webhook`` and the receiver's name.
    """

    id: int
    trigger: str
    alarm: int
    model: str
    state: JobState
    runs: str
    fence: str
    evidence: Mapping[str, Any]
    parent: str


@dataclass(frozen=True)
class Ending:
    """How a job ended."""

    event: JobEvent
    detail: str
    exit_status: int | None = None
    output: str = ""


def add(
    session: Session,
    trigger: str,
    *,
    alarm: int,
    model: str,
    cause: str,
    runs: str,
    evidence: Mapping[str, Any],
    parent: str,
    now: float,
) -> int:
    """Store a job that waits to be run, and return its number."""
    row = Job(
        trigger=trigger,
        alarm=alarm,
        model=model,
        cause=cause,
        state="queued",
        runs=runs,
        evidence=dict(evidence),
        parent=parent,
        created_at=milliseconds(now),
    )
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id


def past(session: Session, trigger: str, *, limit: int = 500) -> list[Past]:
    """Return the jobs of a trigger, newest first."""
    query = select(Job).where(Job.trigger == trigger).order_by(col(Job.id).desc()).limit(limit)
    return [
        Past(cast("int", row.id), row.alarm, row.model, row.cause, _state(row), seconds(row.created_at))
        for row in session.exec(query)
    ]


def get(session: Session, number: int) -> Found:
    """Return one job.

    Raises:
        NotFoundError: No such job.
    """
    return _found(_row(session, number))


def queued(session: Session) -> list[Found]:
    """Return the jobs that wait to be run, oldest first."""
    query = select(Job).where(Job.state == "queued").order_by(col(Job.id))
    return [_found(row) for row in session.exec(query)]


def overdue(session: Session, now: float) -> list[Found]:
    """Return the jobs of webhooks that should have ended by now."""
    return [_found(row) for row in ask(session, _OVERDUE, now=milliseconds(now))]


def orphans(session: Session, fence: str) -> list[Found]:
    """Return the commands that are said to run and that the holder of ``fence`` does not run."""
    query = select(Job).where(Job.state == "running", Job.runs == COMMAND, Job.fence != fence)
    return [_found(row) for row in session.exec(query.order_by(col(Job.id)))]


def start(session: Session, number: int, fence: str, *, deadline: float, now: float) -> bool:
    """Take a job; False when somebody else has it."""
    row = _row(session, number)
    if row.state != "queued":
        return False
    row.state, row.fence = _next(row, "start"), fence
    row.started_at, row.deadline_at = milliseconds(now), milliseconds(deadline)
    session.add(row)
    session.flush()
    return True


def end(session: Session, number: int, ending: Ending, *, now: float, fence: str | None = None) -> Found:
    """Note how a job ended.

    Args:
        fence: Of the one who ran it; None for a person or a receiver, who may say it without.

    Raises:
        NotFoundError: No such job.
        ConflictError: It has ended, or another one runs it.
    """
    row = _row(session, number)
    if fence is not None and row.fence != fence:
        raise ConflictError(f"job {number} is run by another process")
    row.state = _next(row, ending.event)
    row.detail, row.output = ending.detail, ending.output or row.output
    row.exit_status = ending.exit_status if ending.exit_status is not None else row.exit_status
    row.ended_at = milliseconds(now)
    session.add(row)
    session.flush()
    return _found(row)


def _next(row: Job, event: JobEvent) -> JobState:
    following = TRANSITIONS.get((_state(row), event))
    if following is None:
        raise ConflictError(f"job {row.id} is {row.state}")
    return following


def _row(session: Session, number: int) -> Job:
    row = session.get(Job, number)
    if row is None:
        raise NotFoundError(f"no job {number}")
    return row


def _state(row: Job | Row[Any]) -> JobState:
    return cast("JobState", row.state)


def _found(row: Job | Row[Any]) -> Found:
    assert row.id is not None
    return Found(
        id=row.id,
        trigger=row.trigger,
        alarm=row.alarm,
        model=row.model,
        state=_state(row),
        runs=row.runs,
        fence=row.fence,
        evidence=row.evidence,
        parent=row.parent,
    )

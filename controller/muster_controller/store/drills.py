"""Drills and what they measured; they are kept for ever, as proof."""

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlmodel import Session, col, select

from muster_controller.domain.drills import LIVE, Drill, DrillPhase
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.people_tables import DrillRecord
from muster_models.errors import NotFoundError


@dataclass(frozen=True)
class Stored:
    """A drill with who ordered it.

    Attributes:
        rollout: That moves the devices.
        at: When it was ordered, Unix seconds.
    """

    id: int
    kind: str
    model: str
    rollout: int
    drill: Drill
    reason: str
    by: str
    at: float


def add(session: Session, model: str, drill: Drill, *, rollout: int, by: str, reason: str) -> int:
    """Store a new drill of a rollback and return its number."""
    row = DrillRecord(
        kind="rollback",
        model=model,
        rollout=rollout,
        phase=drill.phase,
        state=_document(drill),
        reason=reason,
        started_by=by,
        started_at=milliseconds(drill.begun),
    )
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id


def save(session: Session, number: int, drill: Drill) -> None:
    """Store where a drill has come to."""
    row = session.get_one(DrillRecord, number)
    row.phase, row.state = drill.phase, _document(drill)
    row.ended_at = None if drill.ended is None else milliseconds(drill.ended)
    session.add(row)


def get(session: Session, number: int) -> Stored:
    """Return one drill.

    Raises:
        NotFoundError: No drill has that number.
    """
    row = session.get(DrillRecord, number)
    if row is None:
        raise NotFoundError(f"no drill {number}")
    return _stored(row)


def live(session: Session, model: str | None = None) -> list[Stored]:
    """Return the drills that are not over, oldest first."""
    query = select(DrillRecord).where(col(DrillRecord.phase).in_(LIVE)).order_by(col(DrillRecord.id))
    if model is not None:
        query = query.where(DrillRecord.model == model)
    return [_stored(row) for row in session.exec(query)]


def newest(session: Session, *, model: str | None, limit: int) -> list[Stored]:
    """Return drills, newest first."""
    query = select(DrillRecord).order_by(col(DrillRecord.id).desc()).limit(limit)
    if model is not None:
        query = query.where(DrillRecord.model == model)
    return [_stored(row) for row in session.exec(query)]


def last_done(session: Session, model: str) -> float | None:
    """Return when a drill of a model last ended well, Unix seconds; None for never."""
    query = (
        select(DrillRecord.ended_at)
        .where(DrillRecord.model == model, DrillRecord.phase == DrillPhase.DONE)
        .order_by(col(DrillRecord.ended_at).desc())
    )
    ended = session.exec(query).first()
    return None if ended is None else seconds(ended)


def _document(drill: Drill) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(drill)
    return document


def _stored(row: DrillRecord) -> Stored:
    assert row.id is not None
    return Stored(
        id=row.id,
        kind=row.kind,
        model=row.model,
        rollout=row.rollout,
        drill=msgspec.convert(row.state, Drill),
        reason=row.reason,
        by=row.started_by,
        at=seconds(row.started_at),
    )

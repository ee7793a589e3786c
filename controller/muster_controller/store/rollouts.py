"""Rollouts: the plan as it was given, the state as the domain last left it, and the evidence it judged by.

Plan and state are documents here; ``domain`` gives them their types.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import EvidenceRecord, RolloutRecord
from muster_models.errors import NotFoundError

Document = dict[str, Any]


@dataclass(frozen=True)
class Rollout:
    """A stored rollout.

    Attributes:
        previous: The version that devices had, and the control keeps; None for a first installation.
        created_at: Unix seconds.
    """

    id: int
    model: str
    digest: str
    previous: str | None
    phase: str
    plan: Document
    state: Document
    created_at: float
    created_by: str


@dataclass(frozen=True)
class Evidence:
    """What a rollout saw at one instant, and its verdict."""

    stage: int
    verdict: str
    content: Document


def add(
    session: Session,
    model: str,
    digest: str,
    *,
    previous: str | None,
    phase: str,
    plan: Mapping[str, Any],
    state: Mapping[str, Any],
    by: str,
    now: float,
) -> int:
    """Store a new rollout and return its number."""
    row = RolloutRecord(
        model=model,
        digest=digest,
        previous=previous,
        phase=phase,
        plan=dict(plan),
        state=dict(state),
        created_at=milliseconds(now),
        created_by=by,
        updated_at=milliseconds(now),
    )
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id


def get(session: Session, number: int) -> Rollout:
    """Return one rollout.

    Raises:
        NotFoundError: No rollout has that number.
    """
    return _rollout(_row(session, number))


def in_phases(session: Session, phases: Collection[str], *, model: str | None = None) -> list[Rollout]:
    """Return the rollouts that are in one of ``phases``, oldest first."""
    query = select(RolloutRecord).where(col(RolloutRecord.phase).in_(phases)).order_by(col(RolloutRecord.id))
    if model is not None:
        query = query.where(RolloutRecord.model == model)
    return [_rollout(row) for row in session.exec(query)]


def of_model(session: Session, model: str) -> list[Rollout]:
    """Return all rollouts of a model, newest first."""
    query = select(RolloutRecord).where(RolloutRecord.model == model).order_by(col(RolloutRecord.id).desc())
    return [_rollout(row) for row in session.exec(query)]


def models(session: Session) -> list[str]:
    """Return the models that have a rollout, in order."""
    return sorted(session.exec(select(RolloutRecord.model).distinct()))


def save(session: Session, number: int, *, phase: str, state: Mapping[str, Any], now: float) -> None:
    """Store where a rollout has come to.

    Raises:
        NotFoundError: No rollout has that number.
    """
    row = _row(session, number)
    row.phase = phase
    row.state = dict(state)
    row.updated_at = milliseconds(now)
    session.add(row)


def add_evidence(session: Session, number: int, evidence: Iterable[Evidence], now: float) -> None:
    """Store what a rollout saw; kept for ever, so that every step can be replayed."""
    for one in evidence:
        session.add(
            EvidenceRecord(
                rollout=number,
                at=milliseconds(now),
                stage=one.stage,
                verdict=one.verdict,
                content=one.content,
            )
        )


def _row(session: Session, number: int) -> RolloutRecord:
    row = session.get(RolloutRecord, number)
    if row is None:
        raise NotFoundError(f"no rollout {number}")
    return row


def _rollout(row: RolloutRecord) -> Rollout:
    assert row.id is not None
    return Rollout(
        id=row.id,
        model=row.model,
        digest=row.digest,
        previous=row.previous,
        phase=row.phase,
        plan=row.plan,
        state=row.state,
        created_at=seconds(row.created_at),
        created_by=row.created_by,
    )

"""Rollouts: the plan as it was given, the state as the domain last left it, and the evidence it judged by.

Plan and state are documents here, ``domain`` gives them their types; the members of a state have a table of
their own. A step is saved only where the one before it is still the last: its *fence* tells.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import CursorResult, bindparam, func, or_, update
from sqlmodel import Session, col, select

from muster_controller.domain.rollouts.members import Failure, Member
from muster_controller.store.engine import ask, table, upsert
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import EvidenceRecord, RolloutMember, RolloutRecord
from muster_models.errors import NotFoundError

Document = dict[str, Any]
LIVE = ("pending-approval", "scheduled", "running", "paused", "rolling-back", "rollback-incomplete")
_COLUMNS, _HELD = table(RolloutRecord).c, table(RolloutMember).c
_TICKING = (
    sqlalchemy.select(_COLUMNS.model, _COLUMNS.id, _COLUMNS.fence)
    .where(_COLUMNS.ticking)
    .order_by(_COLUMNS.model, _COLUMNS.id.desc())
)
_STEP = (
    update(table(RolloutRecord))
    .where(_COLUMNS.id == bindparam("number"), _COLUMNS.fence == bindparam("read"))
    .values(
        phase=bindparam("to_phase"),
        ticking=bindparam("to_ticking"),
        state=bindparam("to_state"),
        updated_at=bindparam("at"),
        fence=_COLUMNS.fence + 1,
    )
)
# Columns, not rows: a fleet has many members.
_MEMBERS = (
    sqlalchemy.select(
        _HELD.device,
        _HELD.arm,
        _HELD.given,
        _HELD.tries,
        _HELD.retry_at,
        _HELD.failure,
        _HELD.detail,
        _HELD.acknowledged,
        _HELD.withdrawn,
    )
    .where(_HELD.rollout == bindparam("number"))
    .order_by(_HELD.device)
)
_OTHERS = sqlalchemy.select(_COLUMNS.id).where(_COLUMNS.model == bindparam("model"))
_IS_LIVE, _IS_LATER = _COLUMNS.phase.in_(LIVE), _COLUMNS.id > bindparam("number")
_LIVE, _LATER = _OTHERS.where(_IS_LIVE), _OTHERS.where(_IS_LATER)
_RIVALS = _OTHERS.where(or_(_IS_LIVE, _IS_LATER), _COLUMNS.id != bindparam("number"))


@dataclass(frozen=True)
class Rollout:
    """A stored rollout.

    Attributes:
        previous: The version that devices had, and the control keeps; None for a first installation.
        created_at: Unix seconds.
        fence: Grows by one with every step.
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
    fence: int


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
    """Store a new rollout without members and return its number."""
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
    row = session.get(RolloutRecord, number)
    if row is None:
        raise NotFoundError(f"no rollout {number}")
    return _rollout(row)


def in_phases(session: Session, phases: Collection[str], *, model: str | None = None) -> list[Rollout]:
    """Return the rollouts that are in one of ``phases``, oldest first."""
    query = select(RolloutRecord).where(col(RolloutRecord.phase).in_(phases)).order_by(col(RolloutRecord.id))
    if model is not None:
        query = query.where(RolloutRecord.model == model)
    return [_rollout(row) for row in session.exec(query)]


def ticking(session: Session) -> dict[str, dict[int, int]]:
    """Return the rollouts that time alone may change: by model, the fence of each, newest first."""
    found: dict[str, dict[int, int]] = {}
    for model, number, fence in ask(session, _TICKING):
        found.setdefault(model, {})[number] = fence
    return found


def save(
    session: Session,
    number: int,
    *,
    fence: int,
    phase: str,
    ticking: bool,
    state: Mapping[str, Any],
    now: float,
) -> bool:
    """Store where a rollout has come to; change nothing and return False when another step was quicker.

    Args:
        fence: That was read with the state on which the step was decided.
    """
    done = ask(
        session,
        _STEP,
        number=number,
        read=fence,
        to_phase=phase,
        to_ticking=ticking,
        to_state=dict(state),
        at=milliseconds(now),
    )
    assert isinstance(done, CursorResult)
    return done.rowcount == 1


def keep_plan(
    session: Session, number: int, *, digest: str, previous: str | None, plan: Mapping[str, Any]
) -> None:
    """Store another plan of a rollout, in the transaction of the step that takes it."""
    values = {"digest": digest, "previous": previous, "plan": dict(plan)}
    edited = update(RolloutRecord).where(col(RolloutRecord.id) == number).values(values)
    session.execute(edited.execution_options(synchronize_session=False))


def members(session: Session, number: int) -> dict[str, Member]:
    """Return the members of a rollout, by device."""
    return {
        device: Member(
            arm,
            None if given is None else seconds(given),
            tries,
            None if retry_at is None else seconds(retry_at),
            None if failure is None else Failure(failure, detail),
            acknowledged,
            withdrawn,
        )
        for device, arm, given, tries, retry_at, failure, detail, acknowledged, withdrawn in ask(
            session, _MEMBERS, number=number
        )
    }


def save_members(session: Session, number: int, members: Mapping[str, Member]) -> None:
    """Store what has become of some members of a rollout; the others stay as they are."""
    rows = [
        {
            "rollout": number,
            "device": device,
            "arm": member.arm,
            "given": None if member.given is None else milliseconds(member.given),
            "tries": member.tries,
            "retry_at": None if member.retry_at is None else milliseconds(member.retry_at),
            "failure": None if member.failure is None else member.failure.reason,
            "detail": "" if member.failure is None else member.failure.detail,
            "acknowledged": member.acknowledged,
            "withdrawn": member.withdrawn,
        }
        for device, member in members.items()
    ]
    upsert(session, RolloutMember, rows)


def elsewhere(session: Session, model: str, number: int | None) -> dict[str, int]:
    """Return the devices that belong to another rollout of a model, live or newer, with its number.

    Args:
        number: Of the rollout that asks; None for one that is not stored yet.
    """
    if number is None:
        rivals = ask(session, _LIVE, model=model)
    else:
        rivals = ask(session, _RIVALS, model=model, number=number)
    found = list(rivals.scalars())
    query = select(RolloutMember.device, RolloutMember.rollout).where(col(RolloutMember.rollout).in_(found))
    return dict(session.exec(query).all()) if found else {}


def newer(session: Session, model: str, number: int) -> set[str]:
    """Return the devices that belong to a newer rollout of a model: that one decides for them."""
    found = list(ask(session, _LATER, model=model, number=number).scalars())
    query = select(RolloutMember.device).where(col(RolloutMember.rollout).in_(found))
    return set(session.exec(query)) if found else set()


def first_replaced(session: Session) -> dict[str, float]:
    """Return when each model's first version that had a predecessor was rolled out, Unix seconds."""
    query = (
        select(RolloutRecord.model, func.min(RolloutRecord.created_at))
        .where(col(RolloutRecord.previous).is_not(None))
        .group_by(RolloutRecord.model)
    )
    return {model: seconds(at) for model, at in session.exec(query)}


def returning_to(session: Session, digests: Collection[str]) -> list[Rollout]:
    """Return the rollouts that go back to one of some versions, oldest first."""
    query = select(RolloutRecord).where(col(RolloutRecord.previous).in_(digests))
    return [_rollout(row) for row in session.exec(query.order_by(col(RolloutRecord.id)))]


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


def evidence_of(session: Session, number: int) -> list[tuple[int, Evidence]]:
    """Return what a rollout saw, oldest first, each with the number of its record."""
    query = select(EvidenceRecord).where(EvidenceRecord.rollout == number).order_by(col(EvidenceRecord.id))
    return [(row.id or 0, Evidence(row.stage, row.verdict, row.content)) for row in session.exec(query)]


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
        fence=row.fence,
    )

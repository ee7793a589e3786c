"""Rollouts: the plan as it was given, the state as the domain last left it, and the evidence it judged by.

Plan and state are documents here, ``domain`` gives them their types; the members of a state have a table of
their own. A step is saved only where the one before it is still the last: its *fence* tells.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, func, or_, update
from sqlmodel import Session, col, select

from muster_controller.domain.rollouts.members import Failure, Member
from muster_controller.store.engine import upsert
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import EvidenceRecord, RolloutMember, RolloutRecord
from muster_models.errors import NotFoundError

Document = dict[str, Any]
LIVE = ("pending-approval", "scheduled", "running", "paused", "rolling-back", "rollback-incomplete")


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
    query = select(RolloutRecord.model, RolloutRecord.id, RolloutRecord.fence)
    found: dict[str, dict[int, int]] = {}
    for model, number, fence in session.exec(
        query.where(col(RolloutRecord.ticking)).order_by(RolloutRecord.model, col(RolloutRecord.id).desc())
    ):
        assert number is not None
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
    step = update(RolloutRecord).where(col(RolloutRecord.id) == number, col(RolloutRecord.fence) == fence)
    values = {
        "phase": phase,
        "ticking": ticking,
        "state": dict(state),
        "updated_at": milliseconds(now),
        "fence": fence + 1,
    }
    done = session.execute(step.values(values).execution_options(synchronize_session=False))
    assert isinstance(done, CursorResult)
    return done.rowcount == 1


def members(session: Session, number: int) -> dict[str, Member]:
    """Return the members of a rollout, by device."""
    # Columns, not rows: a fleet has many members.
    query = select(
        RolloutMember.device,
        RolloutMember.arm,
        RolloutMember.given,
        RolloutMember.tries,
        RolloutMember.retry_at,
        RolloutMember.failure,
        RolloutMember.detail,
        RolloutMember.acknowledged,
        RolloutMember.withdrawn,
    )  # type: ignore[call-overload]  # typed for four columns at most
    of_rollout = query.where(RolloutMember.rollout == number).order_by(RolloutMember.device)
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
        for device, arm, given, tries, retry_at, failure, detail, acknowledged, withdrawn in session.execute(
            of_rollout
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
    rivals: ColumnElement[bool] = col(RolloutRecord.phase).in_(LIVE)
    if number is not None:
        rivals = or_(rivals, col(RolloutRecord.id) > number)
    others = select(RolloutRecord.id).where(RolloutRecord.model == model, rivals, RolloutRecord.id != number)
    found = list(session.exec(others))
    query = select(RolloutMember.device, RolloutMember.rollout).where(col(RolloutMember.rollout).in_(found))
    return dict(session.exec(query).all()) if found else {}


def newer(session: Session, model: str, number: int) -> set[str]:
    """Return the devices that belong to a newer rollout of a model: that one decides for them."""
    later = select(RolloutRecord.id).where(RolloutRecord.model == model, col(RolloutRecord.id) > number)
    found = list(session.exec(later))
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

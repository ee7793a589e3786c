"""Rollouts as pages show them: where each is, what it saw, and what became of every device."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from sqlmodel import Session, col, select

from muster_controller.domain.rollouts.judging.evidence import Denominators, Evidence, Gate
from muster_controller.store.rollouts import LIVE
from muster_controller.store.tables import EvidenceRecord, RolloutRecord
from muster_controller.store.views.instants import instant
from muster_controller.store.views.names import VersionRef, name_versions
from muster_controller.store.views.paging import Page, cut, newest_first

# What a person should look at first.
BAD = ("rolling-back", "rolled-back", "rollback-incomplete")


@dataclass(frozen=True)
class EvidenceView:
    """What a rollout saw at one instant, and its verdict.

    Attributes:
        id: None for the newest evidence while it is not worth a record of its own.
        stage: Counted from 0.
        rounds: Compared rounds in this stage.
        missing: What is still needed for healthy, in words.
        failures: Failed devices by reason.
        experiment: Checks on the comparison itself; one that failed makes the verdict inconclusive.
        earliest_at: When the evidence would be enough for healthy, as far as that can be told.
    """

    id: int | None
    at: dt.datetime
    stage: int
    step: str
    verdict: str
    rounds: int
    denominators: Denominators
    gates: tuple[Gate, ...]
    missing: tuple[str, ...]
    failures: dict[str, int]
    experiment: tuple[Gate, ...]
    earliest_at: dt.datetime | None


@dataclass(frozen=True)
class RolloutView:
    """One rollout, as lists show it.

    Attributes:
        previous: The version that devices had, and the control keeps; None for a first installation.
        stage: Counted from 0; ``stages`` is their number.
        step: ``admit``, ``soak``, ``analyse`` or ``hold``; it counts while the phase is ``running``.
        verdict: Of the newest evidence; ``inconclusive`` before there is any.
        code: Why it is where it is, or what it waits for: one code, see ``domain.rollouts.states.Code``.
        waiting: What is waited for, in words.
        due: Devices of the stages admitted so far that have not been given the version yet.
        live: It still needs ticks.
    """

    id: int
    model: str
    version: VersionRef
    previous: VersionRef | None
    phase: str
    step: str
    stage: int
    stages: int
    verdict: str
    selector: str
    code: str
    waiting: str
    reason: str
    since: dt.datetime | None
    deadline: dt.datetime | None
    denominators: Denominators
    due: int
    live: bool
    created_at: dt.datetime
    created_by: str
    updated_at: dt.datetime


class _State(msgspec.Struct, frozen=True):
    stage: int
    step: str
    since: float
    deadline: float | None
    waiting: str
    reason: str
    evidence: Evidence | None
    code: str = ""
    due: int = 0


@dataclass(frozen=True)
class RolloutFilter:
    """Which rollouts are asked for; None means any."""

    model: str | None = None
    phase: str | None = None
    live: bool | None = None


def list_rollouts(
    session: Session, wanted: RolloutFilter, *, limit: int, cursor: str | None = None
) -> Page[RolloutView]:
    """Return rollouts, newest first."""
    equal = ((RolloutRecord.model, wanted.model), (RolloutRecord.phase, wanted.phase))
    query = newest_first(select(RolloutRecord), RolloutRecord.id, equal=equal, limit=limit, cursor=cursor)
    if wanted.live is not None:
        is_live = col(RolloutRecord.phase).in_(LIVE)
        query = query.where(is_live if wanted.live else ~is_live)
    rows = session.exec(query).all()
    names = name_versions(session, (digest for row in rows for digest in (row.digest, row.previous)))
    return cut(rows, limit, view=lambda row: _rollout(row, names), key=_key)


def find_rollout(session: Session, number: int) -> RolloutView | None:
    """Return one rollout, None when there is none with that number."""
    row = session.get(RolloutRecord, number)
    if row is None:
        return None
    return _rollout(row, name_versions(session, (row.digest, row.previous)))


def newest_evidence(session: Session, number: int) -> EvidenceView | None:
    """Return what a rollout saw last, None before its first evidence."""
    row = session.get(RolloutRecord, number)
    held = None if row is None else _state(row).evidence
    return None if held is None else _evidence(held, None)


def list_evidence(
    session: Session, number: int, *, limit: int, cursor: str | None = None
) -> Page[EvidenceView]:
    """Return what a rollout saw, newest first."""
    of_rollout = select(EvidenceRecord).where(EvidenceRecord.rollout == number)
    query = newest_first(of_rollout, EvidenceRecord.id, equal=(), limit=limit, cursor=cursor)
    return cut(session.exec(query).all(), limit, view=_record, key=_record_key)


def _rollout(row: RolloutRecord, names: Mapping[str, VersionRef]) -> RolloutView:
    state = _state(row)
    evidence = state.evidence
    return RolloutView(
        id=_key(row),
        model=row.model,
        version=names[row.digest],
        previous=names[row.previous] if row.previous else None,
        phase=row.phase,
        step=state.step,
        stage=state.stage,
        stages=len(row.plan["stages"]),
        verdict="inconclusive" if evidence is None else evidence.verdict,
        selector=row.plan["selector"],
        code=state.code,
        waiting=state.waiting,
        reason=state.reason,
        since=_moment(state.since or None),
        deadline=_moment(state.deadline),
        denominators=Denominators(0, 0, 0, 0, 0) if evidence is None else evidence.denominators,
        due=state.due,
        live=row.phase in LIVE,
        created_at=instant(row.created_at),
        created_by=row.created_by,
        updated_at=instant(row.updated_at),
    )


def _state(row: RolloutRecord) -> _State:
    return msgspec.convert(row.state, _State)


def _record(row: EvidenceRecord) -> EvidenceView:
    return _evidence(msgspec.convert(row.content, Evidence), _record_key(row))


def _evidence(held: Evidence, number: int | None) -> EvidenceView:
    return EvidenceView(
        id=number,
        at=dt.datetime.fromtimestamp(held.at, dt.UTC),
        stage=held.stage,
        step=held.step,
        verdict=held.verdict,
        rounds=held.rounds,
        denominators=held.denominators,
        gates=held.gates,
        missing=held.missing,
        failures=held.failures,
        experiment=held.experiment,
        earliest_at=_moment(held.earliest),
    )


def _moment(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


def _key(row: RolloutRecord) -> int:
    assert row.id is not None
    return row.id


def _record_key(row: EvidenceRecord) -> int:
    assert row.id is not None
    return row.id

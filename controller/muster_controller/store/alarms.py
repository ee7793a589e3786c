"""Alarms of any kind, what was done about them, and the silences."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy
from sqlalchemy import Row, and_, bindparam, or_
from sqlmodel import Session, col, select

from muster_controller.domain.alarms.alarm import Alarm, AlarmState, Care, Level
from muster_controller.domain.alarms.silences import Matcher, Silence
from muster_controller.store import tables
from muster_controller.store.alarm_tables import AlarmCare, SilenceRecord
from muster_controller.store.engine import ask, table
from muster_controller.store.instants import milliseconds, seconds
from muster_models.errors import ConflictError, NotFoundError

_AT_ONCE = 500  # SQLite takes a limited number of parameters
_IS_OVER = col(tables.Alarm.state) == "resolved"
_WAS_TOLD = and_(_IS_OVER, col(AlarmCare.told).is_not(None), col(AlarmCare.told) != "resolved")
_CARED_FOR = (
    select(tables.Alarm, AlarmCare)
    .join(AlarmCare, col(AlarmCare.alarm) == col(tables.Alarm.id), isouter=True)
    .order_by(col(tables.Alarm.id))
)
_UNSETTLED = _CARED_FOR.where(or_(~_IS_OVER, _WAS_TOLD))
_ALARMS, _QUIET = table(tables.Alarm).c, table(SilenceRecord).c
_ACTIVE = (
    sqlalchemy.select(*_ALARMS)
    .where(_ALARMS.kind == bindparam("kind"), _ALARMS.state != "resolved")
    .order_by(_ALARMS.id)
)
_SILENCES = sqlalchemy.select(*_QUIET).order_by(_QUIET.id.desc()).limit(bindparam("limit"))
_HOLDING = _SILENCES.where(_QUIET.until > bindparam("now"))


@dataclass(frozen=True)
class Known:
    """An alarm, what was done about it, and the labels of the device that it is about, if any."""

    alarm: Alarm
    care: Care
    labels: Mapping[str, str]


def get(session: Session, number: int) -> Known:
    """Return one alarm.

    Raises:
        NotFoundError: No such alarm.
    """
    found = several(session, [number])
    if not found:
        raise NotFoundError(f"no alarm {number}")
    return found[0]


def several(session: Session, numbers: Sequence[int]) -> list[Known]:
    """Return the alarms that have these numbers (one page of them), oldest first."""
    return _known(session, session.exec(_CARED_FOR.where(col(tables.Alarm.id).in_(numbers))).all())


def unsettled(session: Session) -> list[Known]:
    """Return every alarm that receivers may have to be told of: all that are not over, and told ends."""
    return _known(session, session.exec(_UNSETTLED).all())


def active(session: Session, kind: str) -> list[Alarm]:
    """Return the alarms of one kind that are pending or firing, oldest first."""
    return [_alarm(row) for row in ask(session, _ACTIVE, kind=kind)]


def save(session: Session, alarm: Alarm) -> tuple[int, AlarmState | None]:
    """Store an alarm as it stands; with the id 0, a new one.

    Returns:
        Its number, and the state that it was in before.
    """
    row = session.get(tables.Alarm, alarm.id) if alarm.id else None
    before = None if row is None else cast("AlarmState", row.state)
    if row is None:
        row = tables.Alarm(
            model=alarm.model,
            baseline=alarm.baseline,
            kind=alarm.kind,
            level=alarm.level,
            subject=alarm.subject,
            feature=alarm.feature,
            state=alarm.state,
            since=milliseconds(alarm.since),
            effect=alarm.effect,
            evidence={},
        )
    row.state, row.effect, row.unit = alarm.state, alarm.effect, alarm.unit
    row.evidence = dict(alarm.evidence)
    row.fired_at = None if alarm.fired_at is None else milliseconds(alarm.fired_at)
    row.resolved_at = None if alarm.resolved_at is None else milliseconds(alarm.resolved_at)
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id, before


def set_told(session: Session, number: int, state: AlarmState, now: float) -> None:
    """Remember what receivers were told of an alarm."""
    row = session.get(AlarmCare, number) or AlarmCare(alarm=number)
    row.told, row.told_at = state, milliseconds(now)
    session.add(row)
    session.flush()


def acknowledge(session: Session, number: int, actor: str, reason: str, now: float) -> None:
    """Remember who took an alarm on; that it may be is for ``domain.alarms`` to say."""
    row = session.get(AlarmCare, number) or AlarmCare(alarm=number)
    row.acknowledged_at, row.acknowledged_by, row.acknowledged_reason = milliseconds(now), actor, reason
    session.add(row)
    session.flush()


def add_silence(session: Session, silence: Silence) -> int:
    """Store a new silence and return its number."""
    matcher = silence.matcher
    row = SilenceRecord(
        model=matcher.model,
        kind=matcher.kind,
        level=matcher.level,
        selector=matcher.where,
        reason=silence.reason,
        actor=silence.actor,
        since=milliseconds(silence.since),
        until=milliseconds(silence.until),
    )
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id


def end_silence(session: Session, number: int, now: float) -> Silence:
    """End a silence before its time.

    Raises:
        NotFoundError: No such silence.
        ConflictError: It is over.
    """
    row = session.get(SilenceRecord, number)
    if row is None:
        raise NotFoundError(f"no silence {number}")
    if row.until <= milliseconds(now):
        raise ConflictError(f"silence {number} is over")
    row.until = milliseconds(now)
    session.add(row)
    return _silence(row)


def get_silence(session: Session, number: int) -> Silence:
    """Return one silence.

    Raises:
        NotFoundError: No such silence.
    """
    row = session.get(SilenceRecord, number)
    if row is None:
        raise NotFoundError(f"no silence {number}")
    return _silence(row)


def silences(session: Session, *, now: float | None = None, limit: int = 1000) -> list[Silence]:
    """Return the silences that hold at ``now``, or all, newest first."""
    if now is None:
        found = ask(session, _SILENCES, limit=limit)
    else:
        found = ask(session, _HOLDING, limit=limit, now=milliseconds(now))
    return [_silence(row) for row in found]


def _silence(row: SilenceRecord | Row[Any]) -> Silence:
    assert row.id is not None
    matcher = Matcher(row.model, row.kind, row.level, row.selector)
    return Silence(row.id, matcher, row.reason, row.actor, seconds(row.since), seconds(row.until))


def _known(session: Session, rows: Sequence[tuple[tables.Alarm, AlarmCare | None]]) -> list[Known]:
    labels = _labels(session, {alarm.subject for alarm, _ in rows if alarm.level == "device"})
    return [
        Known(_alarm(alarm), _care(care), labels.get(alarm.subject, {}) if alarm.level == "device" else {})
        for alarm, care in rows
    ]


def _labels(session: Session, devices: Collection[str]) -> Mapping[str, Mapping[str, str]]:
    names, found = sorted(devices), dict[str, Mapping[str, str]]()
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        query = select(tables.Device.id, tables.Device.labels).where(col(tables.Device.id).in_(part))
        found |= dict(session.exec(query).all())
    return found


def _care(row: AlarmCare | None) -> Care:
    if row is None:
        return Care()
    return Care(
        told=cast("AlarmState | None", row.told),
        told_at=seconds(row.told_at),
        acknowledged_at=_moment(row.acknowledged_at),
        acknowledged_by=row.acknowledged_by,
        acknowledged_reason=row.acknowledged_reason,
    )


def _alarm(row: tables.Alarm | Row[Any]) -> Alarm:
    assert row.id is not None
    evidence: dict[str, Any] = row.evidence
    return Alarm(
        id=row.id,
        model=row.model,
        kind=row.kind,
        level=cast("Level", row.level),
        subject=row.subject,
        state=cast("AlarmState", row.state),
        since=seconds(row.since),
        baseline=row.baseline,
        feature=row.feature,
        fired_at=_moment(row.fired_at),
        resolved_at=_moment(row.resolved_at),
        effect=row.effect,
        unit=row.unit,
        evidence=evidence,
    )


def _moment(stored: int | None) -> float | None:
    return None if stored is None else seconds(stored)

"""Alarms: drift signals that crossed their bound, the ones that matter first."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func
from sqlmodel import Session, col, select

from muster_controller.store.tables import Alarm
from muster_controller.store.views.instants import instant
from muster_controller.store.views.paging import Page, cut, newest_first


@dataclass(frozen=True)
class AlarmView:
    """One alarm.

    Attributes:
        kind: ``data-drift``, ``prediction-drift`` or ``data-quality``.
        level: ``device``, ``group`` or ``fleet``.
        subject: Device id, ``label=value``, or ``all``.
        state: ``pending``, ``firing`` or ``resolved``.
        effect: Size of the change, in ``unit``.
    """

    id: int
    model: str
    baseline: str
    kind: str
    level: str
    subject: str
    feature: str
    state: str
    since: dt.datetime
    fired_at: dt.datetime | None
    resolved_at: dt.datetime | None
    effect: float
    unit: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class AlarmFilter:
    """Which alarms are asked for; None means any."""

    model: str | None = None
    state: str | None = None
    kind: str | None = None
    level: str | None = None
    subject: str | None = None


def list_alarms(
    session: Session, wanted: AlarmFilter, *, limit: int, cursor: str | None = None
) -> Page[AlarmView]:
    """Return alarms, newest first."""
    equal = (
        (Alarm.model, wanted.model),
        (Alarm.state, wanted.state),
        (Alarm.kind, wanted.kind),
        (Alarm.level, wanted.level),
        (Alarm.subject, wanted.subject),
    )
    query = newest_first(select(Alarm), Alarm.id, equal=equal, limit=limit, cursor=cursor)
    return cut(session.exec(query).all(), limit, view=_alarm, key=_key)


def find_alarm(session: Session, number: int) -> AlarmView | None:
    """Return one alarm, None when there is none with that number."""
    row = session.get(Alarm, number)
    return None if row is None else _alarm(row)


def count_alarms(session: Session) -> dict[str, int]:
    """Return how many alarms are in each state; every state is in the answer."""
    query = select(Alarm.state, func.count()).group_by(col(Alarm.state))
    return {"pending": 0, "firing": 0, "resolved": 0} | dict(session.exec(query).all())


def count_firing(session: Session, level: str) -> dict[str, int]:
    """Return the number of firing alarms of one level, by subject."""
    query = (
        select(Alarm.subject, func.sum(case((col(Alarm.state) == "firing", 1), else_=0)))
        .where(col(Alarm.level) == level, col(Alarm.state) == "firing")
        .group_by(col(Alarm.subject))
    )
    return dict(session.exec(query).all())


def _alarm(row: Alarm) -> AlarmView:
    return AlarmView(
        id=_key(row),
        model=row.model,
        baseline=row.baseline,
        kind=row.kind,
        level=row.level,
        subject=row.subject,
        feature=row.feature,
        state=row.state,
        since=instant(row.since),
        fired_at=instant(row.fired_at),
        resolved_at=instant(row.resolved_at),
        effect=row.effect,
        unit=row.unit,
        evidence=row.evidence,
    )


def _key(row: Alarm) -> int:
    assert row.id is not None
    return row.id

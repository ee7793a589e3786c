"""Alarms: drift signals that crossed their bound, the ones that matter first."""

import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func
from sqlmodel import Session, col, select

from muster_controller.domain.alarms.silences import Silence, silenced_by
from muster_controller.domain.drift.sentence import say
from muster_controller.store.alarms import Known, several, silences
from muster_controller.store.drift import TRUTH
from muster_controller.store.tables import Alarm
from muster_controller.store.views.instants import instant
from muster_controller.store.views.paging import Page, cut, newest_first

DRIFT_KINDS = frozenset({"data-quality", "data-drift", "prediction-drift", "performance"})


@dataclass(frozen=True)
class AlarmView:
    """One alarm.

    Attributes:
        kind: ``data-drift``, ``prediction-drift``, ``data-quality``, …; ``silence`` of devices that are not
            heard of, ``job`` of a failed retraining job.
        level: ``device``, ``group`` or ``fleet``.
        subject: Device id, ``label=value``, or ``all``.
        state: ``pending``, ``firing`` or ``resolved``.
        effect: Size of the change, in ``unit``.
        acknowledged_at: None while nobody took it on.
        silence: Number of the silence that hides it now, see ``attended``.
        says: What moved, by how much, on whom and since when, in a sentence; empty where it is not of drift.
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
    acknowledged_at: dt.datetime | None = None
    acknowledged_by: str = ""
    acknowledged_reason: str = ""
    silence: int | None = None
    silenced_until: dt.datetime | None = None
    says: str = ""

    @property
    def needs_attention(self) -> bool:
        """It fires, and nobody took it on or silenced it."""
        return self.state == "firing" and self.acknowledged_at is None and self.silence is None

    @property
    def headline(self) -> tuple[str, str]:
        """What it is about, and what is known of it, each in a few words."""
        match self.kind:
            case "silence":
                return f"silence of {self.subject}", f"{self.effect:.0f} devices are not heard of"
            case "job":
                return f"job {self.subject} of {self.model} failed", str(self.evidence.get("detail", ""))
            case _:
                detail = self.says or f"{self.feature} moved by {self.effect:.3g} {self.unit}".rstrip()
                return f"{self.kind} of {self.model} at {self.subject}", detail


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


def attended(session: Session, views: Iterable[AlarmView], now: float) -> tuple[AlarmView, ...]:
    """Return alarms with who took them on, and what hides them at ``now`` (Unix seconds)."""
    shown, holding = tuple(views), silences(session, now=now)
    known = {one.alarm.id: one for one in several(session, [view.id for view in shown])}
    return tuple(_attended(view, known[view.id], holding, now) for view in shown)


def _attended(view: AlarmView, known: Known, holding: Sequence[Silence], now: float) -> AlarmView:
    silence = silenced_by(known.alarm, holding, known.labels, now)
    care = known.care
    return dataclasses.replace(
        view,
        acknowledged_at=_moment(care.acknowledged_at),
        acknowledged_by=care.acknowledged_by,
        acknowledged_reason=care.acknowledged_reason,
        silence=None if silence is None else silence.id,
        silenced_until=None if silence is None else _moment(silence.until),
    )


def _moment(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


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
        says=_say(row),
    )


def _say(row: Alarm) -> str:
    if row.kind == "concept-drift":
        return str(row.evidence.get("said", ""))
    if row.kind not in DRIFT_KINDS:
        return ""
    # What labels say of the same devices, where inputs that moved are the cause.
    truth = row.evidence.get(TRUTH, {}).get("said", "")
    began = row.evidence.get("began")
    moment = instant(row.since if began is None else round(began * 1000))
    sentence = say(
        level=row.level,
        subject=row.subject,
        feature=row.feature,
        effect=row.effect,
        unit=row.unit,
        since=f"{moment:%Y-%m-%d %H:%M} UTC",
        evidence=row.evidence,
    )
    return f"{sentence}; {truth}" if truth else sentence


def _key(row: Alarm) -> int:
    assert row.id is not None
    return row.id

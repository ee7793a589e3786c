"""The state of the drift signals of each model on each baseline, and the alarms that came of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from muster_controller.domain.drift.detector import Signal
from muster_controller.store.engine import ask, table, upsert
from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import Alarm, DriftState

TRUTH = "truth"  # in the evidence of an alarm about inputs: what labels say of the same devices

_STATES, _ALARMS = table(DriftState).c, table(Alarm).c
_JUDGED = sqlalchemy.select(_STATES.upto, _STATES.state).where(
    _STATES.model == bindparam("model"), _STATES.baseline == bindparam("baseline")
)
_ACTIVE_ALARM = (
    sqlalchemy.select(_ALARMS.id)
    .where(_ALARMS.model == bindparam("model"), _ALARMS.baseline == bindparam("baseline"))
    .where(_ALARMS.state != "resolved")
    .limit(1)
)


@dataclass(frozen=True)
class Judged:
    """Where the drift of one model on one baseline stands.

    Attributes:
        upto: Number of the newest window that is in ``state``.
        state: Bytes that the domain made.
    """

    upto: int
    state: bytes


def judged(session: Session, model: str, baseline: str) -> Judged | None:
    """Return the state of a model's drift signals, None before the first window."""
    row = ask(session, _JUDGED, model=model, baseline=baseline).first()
    return None if row is None else Judged(*row)


def save(session: Session, model: str, baseline: str, *, judged: Judged, now: float) -> None:
    """Store the state of a model's drift signals."""
    row = {
        "model": model,
        "baseline": baseline,
        "upto": judged.upto,
        "state": judged.state,
        "updated_at": milliseconds(now),
    }
    upsert(session, DriftState, [row])


def save_alarm(session: Session, model: str, baseline: str, *, signal: Signal) -> tuple[int, str | None]:
    """Store an alarm as it stands; return its number and the state it was in, None for a new one."""
    known = _alarm(session, model, baseline, signal=signal)
    before = None if known is None else known.state
    row = known or Alarm(
        model=model,
        baseline=baseline,
        kind=signal.kind,
        level=signal.level,
        subject=signal.subject,
        feature=signal.feature,
        state=signal.state,
        since=milliseconds(signal.since),
        effect=signal.effect,
        evidence={},
    )
    row.state, row.kind, row.feature = signal.state, signal.kind, signal.feature
    row.effect, row.unit, row.evidence = signal.effect, signal.unit, {**_noted(row), **signal.evidence}
    row.fired_at = None if signal.fired_at is None else milliseconds(signal.fired_at)
    row.resolved_at = None if signal.resolved_at is None else milliseconds(signal.resolved_at)
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id, before


def has_active_alarm(session: Session, model: str, baseline: str) -> bool:
    """Tell whether an alarm of a model on a baseline is pending or firing."""
    return ask(session, _ACTIVE_ALARM, model=model, baseline=baseline).first() is not None


def _alarm(session: Session, model: str, baseline: str, *, signal: Signal) -> Alarm | None:
    query = select(Alarm).where(
        Alarm.model == model,
        Alarm.baseline == baseline,
        Alarm.level == signal.level,
        Alarm.subject == signal.subject,
        Alarm.since == milliseconds(signal.since),
    )
    return session.exec(query).first()


@dataclass(frozen=True)
class Known:
    """An alarm about inputs that stands, and whom it is about."""

    number: int
    kind: str
    feature: str
    devices: tuple[str, ...]


def about_inputs(session: Session, model: str, baseline: str) -> list[Known]:
    """Return the alarms about a model's inputs that stand, oldest first."""
    query = (
        select(Alarm)
        .where(Alarm.model == model, Alarm.baseline == baseline, col(Alarm.state) != "resolved")
        .where(col(Alarm.kind).in_(("data-drift", "data-quality")))
        .order_by(col(Alarm.id))
    )
    return [
        Known(row.id or 0, row.kind, row.feature, tuple(row.evidence.get("devices", ())))
        for row in session.exec(query)
    ]


def note_truth(session: Session, number: int, truth: Mapping[str, Any]) -> None:
    """Write beside an alarm's evidence what labels say of its devices."""
    row = session.get_one(Alarm, number)
    row.evidence = {**row.evidence, TRUTH: dict(truth)}
    session.add(row)


def _noted(row: Alarm) -> dict[str, Any]:
    return {TRUTH: row.evidence[TRUTH]} if TRUTH in row.evidence else {}

"""The state of the drift signals of each model on each baseline, and the alarms that came of them."""

from dataclasses import dataclass

from sqlmodel import Session, col, select

from muster_controller.domain.drift.detector import Signal
from muster_controller.store.engine import upsert
from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import Alarm, DriftState


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
    row = session.get(DriftState, (model, baseline))
    return None if row is None else Judged(row.upto, row.state)


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


def save_alarm(session: Session, model: str, baseline: str, *, signal: Signal) -> str | None:
    """Store an alarm as it stands and return the state it was in, None for a new one."""
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
    row.effect, row.unit, row.evidence = signal.effect, signal.unit, dict(signal.evidence)
    row.fired_at = None if signal.fired_at is None else milliseconds(signal.fired_at)
    row.resolved_at = None if signal.resolved_at is None else milliseconds(signal.resolved_at)
    session.add(row)
    session.flush()
    return before


def has_active_alarm(session: Session, model: str, baseline: str) -> bool:
    """Tell whether an alarm of a model on a baseline is pending or firing."""
    query = select(Alarm).where(
        Alarm.model == model, Alarm.baseline == baseline, col(Alarm.state) != "resolved"
    )
    return session.exec(query).first() is not None


def _alarm(session: Session, model: str, baseline: str, *, signal: Signal) -> Alarm | None:
    query = select(Alarm).where(
        Alarm.model == model,
        Alarm.baseline == baseline,
        Alarm.level == signal.level,
        Alarm.subject == signal.subject,
        Alarm.since == milliseconds(signal.since),
    )
    return session.exec(query).first()

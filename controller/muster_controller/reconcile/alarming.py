"""Storing an alarm as it stands, and telling of what changed; whatever raised it."""

from sqlmodel import Session

from muster_controller.delivery.post import Post
from muster_controller.domain.drift.signals import Signal
from muster_controller.store import drift as drift_store
from muster_controller.store import events


def save_signal(
    session: Session, model: str, baseline: str, *, signal: Signal, post: Post, now: float
) -> None:
    """Store an alarm; receivers and the record of events are told when its state is another one."""
    number, before = drift_store.save_alarm(session, model, baseline, signal=signal)
    if signal.state != before:
        post.alarm_changed(session, number, now)
    if signal.state not in {before, "pending"}:
        effect = f"{signal.effect:+.2f} {signal.unit}".strip()
        detail = f"{signal.kind} of {signal.level} {signal.subject} {signal.state}: {signal.feature} {effect}"
        events.note(session, "drift", now=now, model=model, detail=detail)

"""Alarms in a database, put there as what raises them would."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Engine
from sqlmodel import col, select

from muster_controller.config import AlarmSettings, JobSettings, Settings, WebhookSettings
from muster_controller.delivery.post import Post
from muster_controller.domain.alarms.alarm import Alarm
from muster_controller.store import alarms
from muster_controller.store.alarm_tables import Delivery, ReceiverRecord
from muster_controller.store.engine import Reading, Unit

DRIFT = Alarm(
    id=0,
    model="digits",
    kind="data-drift",
    level="group",
    subject="site=berlin",
    state="firing",
    since=1000.0,
    fired_at=1010.0,
    feature="brightness",
    effect=-0.8,
    unit="sd",
    evidence={
        "features": [
            {"feature": "brightness", "leg": "location", "effect": -0.8, "unit": "sd", "evidence": 9.0}
        ],
        "devices": ["berlin-1", "berlin-2"],
        "value": 12.0,
        "bound": 9.0,
    },
)


def settings_of(*webhooks: WebhookSettings, jobs: tuple[JobSettings, ...] = (), **alarm: Any) -> Settings:
    """Return settings with these receivers."""
    return Settings(webhooks=webhooks, jobs=jobs, alarms=AlarmSettings(**alarm))


def raise_alarm(engine: Engine, settings: Settings, now: float, **changes: Any) -> int:
    """Store an alarm as it stands, tell of it in the same transaction, and return its number."""
    with Unit(engine) as session:
        number, _ = alarms.save(session, replace(DRIFT, **changes))
        Post(settings).alarm_changed(session, number, now)
    return number


def remind(engine: Engine, settings: Settings, now: float) -> None:
    with Unit(engine) as session:
        Post(settings).remind(session, now)


def deliveries(engine: Engine) -> list[Delivery]:
    """Return every message, in the order in which they were stored."""
    with Reading(engine) as session:
        return list(session.exec(select(Delivery).order_by(col(Delivery.id))))


def receiver_of(engine: Engine, name: str = "desk") -> ReceiverRecord | None:
    with Reading(engine) as session:
        return session.get(ReceiverRecord, name)

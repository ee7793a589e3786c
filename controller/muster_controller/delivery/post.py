"""Puts what happened into the outbox, in its own transaction, for every receiver that wants it."""

import datetime as dt
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session

from muster_controller.config import ROLLOUT, Settings, WebhookSettings
from muster_controller.domain.alarms import rollout_changes
from muster_controller.domain.alarms.alarm import Alarm, AlarmState, Care, due
from muster_controller.domain.alarms.notices import Join, Notice, Wanted, joined, place
from muster_controller.domain.alarms.silences import Silence, silenced_by
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.states import State
from muster_controller.store import alarms, outbox
from muster_controller.store.alarms import Known

MOST_DEVICES = 20
MOST_FEATURES = 10
_log = logging.getLogger(__name__)


class Post:
    """What every part that changes something hands its news to."""

    def __init__(self, settings: Settings) -> None:
        self._webhooks = settings.webhooks or ()
        self._group_seconds = settings.alarms.group_seconds
        self._repeat_seconds = settings.alarms.repeat_seconds

    def alarm_changed(self, session: Session, number: int, now: float) -> None:
        """Tell of an alarm what has not been told yet, unless it is silenced."""
        self._consider(session, alarms.get(session, number), alarms.silences(session, now=now), now)

    def remind(self, session: Session, now: float) -> None:
        """Tell again what goes on, and now what a silence has held back."""
        holding = alarms.silences(session, now=now)
        for known in alarms.unsettled(session):
            self._consider(session, known, holding, now)

    def has_to_remind(self, session: Session, now: float) -> bool:
        """Tell whether ``remind`` would tell anything; for a transaction that only reads."""
        holding = alarms.silences(session, now=now)
        return any(self._due(known, holding, now) is not None for known in alarms.unsettled(session))

    def acknowledged(self, session: Session, number: int, now: float) -> None:
        """Tell that somebody took an alarm on, where it was told before."""
        known = alarms.get(session, number)
        if known.care.told is not None:
            self.put(session, _alarm_notice(known.alarm, known.care, "acknowledged"), now)

    def rollout_changed(
        self, session: Session, number: int, plan: Plan, *, before: State, after: State, now: float
    ) -> None:
        """Tell that a rollout was started, held, completed, rolled back or aborted; else nothing."""
        change, model = rollout_changes.change(before, after), plan.model
        if change is None:
            return
        item = {
            "id": number,
            "model": model,
            "change": change,
            **rollout_changes.described(plan.digest, after),
        }
        notice = Notice(f"rollout.{change}", f"rollout/{number}", ROLLOUT, model=model, item=item)
        _log.info("rollout %d of %s: %s", number, model, change)
        self.put(session, notice, now)

    def ask(
        self, session: Session, webhook: str, number: int, evidence: Mapping[str, Any], now: float
    ) -> bool:
        """Ask one receiver to run a job, whatever else it wants to hear; False when it hears nothing."""
        item = {"id": number, "evidence": dict(evidence)}
        notice = Notice("job.requested", f"job/{number}", "job", model=str(evidence["model"]), item=item)
        asked = [self._put(session, one, notice, now) for one in self._webhooks if one.name == webhook]
        return any(message is not None for message in asked)

    def test(self, session: Session, receiver: WebhookSettings, now: float) -> int:
        """Send one receiver a message that means nothing, also when it said that it wants none."""
        outbox.come_back(session, receiver.name, receiver.url)
        notice = Notice("test", f"webhook/{receiver.name}", "test", item={"webhook": receiver.name})
        number = self._put(session, receiver, notice, now)
        assert number is not None
        return number

    def put(self, session: Session, notice: Notice, now: float) -> None:
        """Store a notice for every receiver that wants it."""
        for receiver in self._webhooks:
            wanted = Wanted(receiver.kinds, receiver.levels, receiver.models, receiver.pending)
            if wanted.takes(notice):
                self._put(session, receiver, notice, now)

    def _put(self, session: Session, receiver: WebhookSettings, notice: Notice, now: float) -> int | None:
        name = receiver.name
        if outbox.is_gone(session, name, receiver.url):
            outbox.count_refused(session, name, receiver.url)
            return None
        interval = self._group_seconds
        told = outbox.told(session, name, notice.group, now - interval) if notice.group else []
        where = place(notice, told, now=now, interval=interval)
        if isinstance(where, Join):
            outbox.replace(session, where.id, joined(outbox.content_of(session, where.id), notice.item))
            return where.id
        number = outbox.add(
            session,
            name,
            secrets.token_hex(16),
            notice_type=notice.type,
            subject=notice.group or notice.subject,
            group=notice.group,
            content=joined({}, notice.item),
            due=where.due,
            now=now,
        )
        why = f"more than {receiver.max_waiting} messages waited"
        lost = outbox.give_up(session, name, receiver.url, why, now=now, beyond=receiver.max_waiting)
        if lost:
            _log.warning("webhook %s: %d messages are given up: %s", name, lost, why)
        return number

    def _consider(self, session: Session, known: Known, holding: Sequence[Silence], now: float) -> None:
        state = self._due(known, holding, now)
        if state is None:
            return
        is_repeat = state == known.care.told
        alarm = known.alarm
        again = " still" if is_repeat else ""
        _log.info(
            "alarm %d%s %s: %s of %s %s", alarm.id, again, state, alarm.kind, alarm.level, alarm.subject
        )
        self.put(session, _alarm_notice(alarm, known.care, state, is_repeat=is_repeat), now)
        alarms.set_told(session, alarm.id, state, now)

    def _due(self, known: Known, holding: Sequence[Silence], now: float) -> AlarmState | None:
        is_silenced = silenced_by(known.alarm, holding, known.labels, now) is not None
        return due(
            known.alarm, known.care, is_silenced=is_silenced, now=now, repeat_seconds=self._repeat_seconds
        )


def _alarm_notice(alarm: Alarm, care: Care, change: str, *, is_repeat: bool = False) -> Notice:
    devices = list(alarm.evidence.get("devices", ()))
    item = {
        "id": alarm.id,
        "model": alarm.model,
        "kind": alarm.kind,
        "level": alarm.level,
        "subject": alarm.subject,
        "state": alarm.state,
        "repeat": is_repeat,
        "feature": alarm.feature,
        "effect": alarm.effect,
        "unit": alarm.unit,
        "since": _instant(alarm.since),
        "fired_at": _instant(alarm.fired_at),
        "resolved_at": _instant(alarm.resolved_at),
        "acknowledged": {"by": care.acknowledged_by, "reason": care.acknowledged_reason}
        if care.is_acknowledged
        else None,
        "features": list(alarm.evidence.get("features", ()))[:MOST_FEATURES],
        "devices": devices[:MOST_DEVICES],
        "devices_total": int(alarm.evidence.get("devices_total", len(devices))),
    }
    return Notice(
        f"alarm.{change}",
        f"alarm/{alarm.id}",
        alarm.kind,
        level=alarm.level,
        model=alarm.model,
        group=alarm.group,
        has_fired=alarm.fired_at is not None,
        item=item,
    )


def _instant(moment: float | None) -> str | None:
    return None if moment is None else dt.datetime.fromtimestamp(moment, dt.UTC).isoformat()

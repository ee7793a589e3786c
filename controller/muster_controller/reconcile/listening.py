"""One step of the loop: devices that are not heard of become alarms of kind ``silence``."""

import logging
from collections.abc import Sequence

from sqlalchemy import Engine
from sqlmodel import Session

from muster_controller.config import Settings
from muster_controller.delivery.post import Post
from muster_controller.domain import selector
from muster_controller.domain.alarms.alarm import Alarm
from muster_controller.domain.alarms.quiet import Hush, Term, Watched, term, watch
from muster_controller.domain.drift.groups import groups_of
from muster_controller.store import alarms, devices, events, reporting
from muster_controller.store.device_facts import DeviceBook
from muster_controller.store.engine import Reading, Unit

KIND = "silence"
MOST_DEVICES = 200  # whose names a record holds
LOOKS_PER_LIMIT = 20
_NO_MODEL = ""  # devices alone
_log = logging.getLogger(__name__)


class Listening:
    """Watches who is not heard of."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._post = Post(settings)
        self._usual = settings.reporting
        self._missed = settings.silence.missed_heartbeats
        self._reachable = settings.reachable_seconds
        self._labels = settings.silence.group_labels
        where = settings.silence.where
        self._chosen = selector.parse(where) if where else None
        self._book = DeviceBook()
        self._since: float | None = None
        self._last = float("-inf")
        self._pause = 0.0

    def listen(self, now: float) -> None:
        """Judge who is silent, now and then: a small part of the time that silence may last."""
        self._since = now if self._since is None else self._since
        # A clock that was set back must not stop the watch.
        if 0 <= now - self._last < self._pause:
            return
        self._last = now
        with Reading(self._engine) as session:
            config = self._term(session)
            self._pause = config.limit / LOOKS_PER_LIMIT
            active = alarms.active(session, KIND)
            if not active and not devices.has_silent(session, now - config.limit):
                return
            watched = self._watched(session)
        hushes = [_hush(alarm) for alarm in active]
        found = watch(watched, hushes, config, listening=self._since, now=now)
        known = {alarm.id: alarm for alarm in active}
        changed = [one for one in map(_alarm, found) if one != known.get(one.id)]
        if not changed:
            return
        with Unit(self._engine) as session:
            for alarm in changed:
                self._save(session, alarm, now)

    def _term(self, session: Session) -> Term:
        heartbeat = reporting.current(session, self._usual).heartbeat_seconds
        return term(heartbeat, missed=self._missed, reachable=self._reachable)

    def _watched(self, session: Session) -> Sequence[Watched]:
        if self._chosen is None:
            return []
        return [
            Watched(name, device.seen, groups_of(device.labels, self._labels))
            for name, device in sorted(self._book.read(session, _NO_MODEL).items())
            if device.seen is not None and self._chosen.matches(selector.known_by(name, device.labels))
        ]

    def _save(self, session: Session, alarm: Alarm, now: float) -> None:
        number, before = alarms.save(session, alarm)
        if alarm.state == before:
            return
        self._post.alarm_changed(session, number, now)
        if alarm.state == "firing" or (alarm.state == "resolved" and alarm.fired_at is not None):
            count = alarm.evidence["devices_total"]
            word = f"silent ({count} devices)" if alarm.state == "firing" else "heard again"
            detail = f"{alarm.level} {alarm.subject} {word}"
            _log.info("%s", detail)
            events.note(session, KIND, now=now, detail=detail)


def _alarm(hush: Hush) -> Alarm:
    state = "resolved" if hush.resolved_at is not None else "pending" if hush.fired_at is None else "firing"
    return Alarm(
        id=hush.id or 0,
        model="",
        kind=KIND,
        level=hush.level,
        subject=hush.subject,
        state=state,  # type: ignore[arg-type]  # one of three literals
        since=hush.since,
        fired_at=hush.fired_at,
        resolved_at=hush.resolved_at,
        effect=float(len(hush.devices)),
        unit="devices",
        evidence={
            "devices": list(hush.devices[:MOST_DEVICES]),
            "devices_total": len(hush.devices),
            "last_heard": hush.seen,
        },
    )


def _hush(alarm: Alarm) -> Hush:
    return Hush(
        level=alarm.level,
        subject=alarm.subject,
        since=alarm.since,
        id=alarm.id,
        fired_at=alarm.fired_at,
        devices=tuple(alarm.evidence.get("devices", ())),
        seen=float(alarm.evidence.get("last_heard", 0.0)),
    )

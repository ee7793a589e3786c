"""What is known of the devices, and of one model on them: gathered once, or again and again."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy
from sqlalchemy import and_
from sqlmodel import Session

from muster_controller.domain.drift.groups import Groups, groups_of
from muster_controller.domain.facts import DeviceFacts
from muster_controller.domain.fleet import NEVER, Columns, Fleet
from muster_controller.store import devices
from muster_controller.store.engine import table
from muster_controller.store.instants import seconds
from muster_controller.store.tables import Device, Running
from muster_models.errors import Reason
from muster_models.wire import Phase


def device_facts(session: Session, model: str) -> dict[str, DeviceFacts]:
    """Return what is known of every device that was not revoked, and of one model on it."""
    query = _of_devices(model).where(_DEVICES.revoked_at.is_(None)).order_by(_DEVICES.id)
    return {row[1]: _device(row) for row in session.execute(query)}


def some_facts(session: Session, model: str, names: Collection[str]) -> dict[str, DeviceFacts]:
    """Return what is known of some devices, those that were revoked left out, and of one model on them."""
    query = _of_devices(model).where(_DEVICES.revoked_at.is_(None), _DEVICES.id.in_(names))
    return {row[1]: _device(row) for row in session.execute(query)}


class DeviceBook:
    """What is known of every device, kept from one pass of the loop to the next: only what is new is read."""

    def __init__(self) -> None:
        self._known: dict[str, Fleet] = {}
        self._revisions: dict[str, int] = {}

    def read(self, session: Session, model: str) -> Fleet:
        """Return what ``device_facts`` returns, in any order; it changes with the next call."""
        newest = devices.revision(session)
        seen = self._revisions.get(model)
        if seen is None or newest < seen:  # a database that was restored begins anew
            self._known[model] = Fleet(_device)
            everybody = _of_devices(model).where(_DEVICES.revoked_at.is_(None)).order_by(_DEVICES.id)
            _take(self._known[model], session, everybody)
        elif newest > seen:
            _take(self._known[model], session, _of_devices(model).where(_DEVICES.revision > seen))
        self._revisions[model] = newest
        return self._known[model]

    def keep(self, models: Collection[str]) -> None:
        """Forget all models but these."""
        for model in self._known.keys() - set(models):
            del self._known[model], self._revisions[model]


class GroupBook:
    """The groups that every device belongs to, kept in the same way."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._known: dict[str, tuple[str, ...]] = {}
        self._texts: dict[str, str] = {}  # of the labels that the groups follow from
        self._seen = -1

    def read(self, session: Session) -> Groups:
        """Return the groups of every device that was not revoked; they change with the next call."""
        newest = devices.revision(session)
        if newest < self._seen:  # a database that was restored begins anew
            self._known, self._texts, self._seen = {}, {}, -1
        if newest > self._seen:
            columns = _DEVICES.id, _DEVICES.revoked_at, _text("labels")
            fresh = sqlalchemy.select(*columns).where(_DEVICES.revision > self._seen)
            for part in session.execute(fresh).partitions(_AT_ONCE):
                for name, revoked_at, labels in part:
                    self._take(name, labels if revoked_at is None else None)
        self._seen = newest
        return self._known

    def _take(self, name: str, labels: str | None) -> None:
        if labels is None:
            self._known.pop(name, None)
            self._texts.pop(name, None)
        elif self._texts.get(name) != labels:  # most have only given a sign of life
            self._texts[name] = labels
            self._known[name] = groups_of(_read(labels), self._labels)


def _text(column: str) -> sqlalchemy.Label[str]:
    """Return a column of JSON as it is stored: most of it is never looked at."""
    return sqlalchemy.cast(_DEVICES[column], sqlalchemy.Text).label(column)


_AT_ONCE = 10_000  # rows in memory together besides what is kept of them
_DEVICES, _RUNNING = table(Device).c, table(Running).c
_COLUMNS = (
    _DEVICES.revoked_at,
    _DEVICES.id,
    _text("labels"),
    _DEVICES.last_seen,
    _RUNNING.current,
    _RUNNING.target,
    _RUNNING.phase,
    _RUNNING.reason,
    _RUNNING.detail,
    _DEVICES.time_zone,
    _DEVICES.hardware,
    _DEVICES.agent,
    _text("runtimes"),
    _DEVICES.memory_bytes,
    _DEVICES.disk_free_bytes,
)
_PHASES: Mapping[str | None, Phase] = {None: Phase.IDLE} | {str(phase): phase for phase in Phase}
_REASONS: Mapping[str | None, Reason | None] = {None: None} | {str(reason): reason for reason in Reason}
_read = msgspec.json.Decoder(dict[str, str]).decode


def _of_devices(model: str) -> sqlalchemy.Select[*tuple[Any, ...]]:
    # Columns, not rows: a fleet has many devices.
    of_model = and_(_RUNNING.device == _DEVICES.id, _RUNNING.model == model)
    return sqlalchemy.select(*_COLUMNS).join_from(table(Device), table(Running), of_model, isouter=True)


def _take(fleet: Fleet, session: Session, query: sqlalchemy.Select[*tuple[Any, ...]]) -> None:
    """Put what is known of devices into a fleet."""
    for rows in session.execute(query).partitions(_AT_ONCE):
        fleet.drop([row[1] for row in rows if row[0] is not None])
        _put(fleet, [tuple(row) for row in rows if row[0] is None])


def _put(fleet: Fleet, told: Sequence[tuple[Any, ...]]) -> None:
    if not told:
        return
    _, names, _, seen, current, target, phases, reasons, _, zones, *_ = zip(*told, strict=True)
    fleet.take(
        Columns(
            devices=names,
            seen=[NEVER if at is None else seconds(at) for at in seen],
            current=current,
            target=target,
            zone=zones,
            phase=[phase or Phase.IDLE for phase in phases],
            reason=reasons,
        ),
        told,
    )


def _device(row: Sequence[Any]) -> DeviceFacts:
    (
        _,
        device,
        labels,
        seen,
        current,
        target,
        phase,
        reason,
        detail,
        zone,
        hardware,
        agent,
        runtimes,
        *sizes,
    ) = row
    return DeviceFacts(
        device,
        _read(labels),
        None if seen is None else seconds(seen),
        current,
        target,
        _PHASES[phase],
        _REASONS[reason],
        detail or "",
        zone,
        hardware,
        agent,
        _read(runtimes),
        *sizes,
    )

"""What is known of the devices, and of one model on them: gathered once, or again and again."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import and_
from sqlmodel import Session, col

from muster_controller.domain.drift.groups import Groups, groups_of
from muster_controller.domain.facts import DeviceFacts
from muster_controller.store import devices
from muster_controller.store.instants import seconds
from muster_controller.store.tables import Device, Running
from muster_models.errors import Reason
from muster_models.wire import Phase


def device_facts(session: Session, model: str) -> dict[str, DeviceFacts]:
    """Return what is known of every device that was not revoked, and of one model on it."""
    query = _of_devices(model).where(col(Device.revoked_at).is_(None)).order_by(col(Device.id))
    return {row[0]: _device(*row) for _, *row in session.execute(query)}


def some_facts(session: Session, model: str, names: Collection[str]) -> dict[str, DeviceFacts]:
    """Return what is known of some devices, those that were revoked left out, and of one model on them."""
    query = _of_devices(model).where(col(Device.revoked_at).is_(None), col(Device.id).in_(names))
    return {row[0]: _device(*row) for _, *row in session.execute(query)}


class DeviceBook:
    """What is known of every device, kept from one pass of the loop to the next: only what is new is read."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, DeviceFacts]] = {}
        self._revisions: dict[str, int] = {}

    def read(self, session: Session, model: str) -> Mapping[str, DeviceFacts]:
        """Return what ``device_facts`` returns, in any order; it changes with the next call."""
        newest = devices.revision(session)
        seen = self._revisions.get(model)
        if seen is None or newest < seen:  # a database that was restored begins anew
            self._known[model] = device_facts(session, model)
        elif newest > seen:
            known = self._known[model]
            for revoked_at, *row in session.execute(_of_devices(model).where(col(Device.revision) > seen)):
                if revoked_at is None:
                    known[row[0]] = _device(*row)
                else:
                    known.pop(row[0], None)
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
        self._seen = -1

    def read(self, session: Session) -> Groups:
        """Return the groups of every device that was not revoked; they change with the next call."""
        newest = devices.revision(session)
        if newest < self._seen:  # a database that was restored begins anew
            self._known, self._seen = {}, -1
        if newest > self._seen:
            columns = sqlalchemy.select(col(Device.id), col(Device.revoked_at), col(Device.labels))
            for name, revoked_at, labels in session.execute(columns.where(col(Device.revision) > self._seen)):
                if revoked_at is None:
                    self._known[name] = groups_of(labels, self._labels)
                else:
                    self._known.pop(name, None)
        self._seen = newest
        return self._known


def _of_devices(model: str) -> sqlalchemy.Select[*tuple[Any, ...]]:
    # Columns, not rows: a fleet has many devices.
    of_model = and_(col(Running.device) == col(Device.id), col(Running.model) == model)
    return sqlalchemy.select(col(Device.revoked_at), *_COLUMNS).join_from(
        Device, Running, of_model, isouter=True
    )


_COLUMNS = (
    col(Device.id),
    col(Device.labels),
    col(Device.last_seen),
    col(Running.current),
    col(Running.target),
    col(Running.phase),
    col(Running.reason),
    col(Running.detail),
    col(Device.time_zone),
    col(Device.hardware),
    col(Device.agent),
    col(Device.runtimes),
    col(Device.memory_bytes),
    col(Device.disk_free_bytes),
)
_PHASES: Mapping[str | None, Phase] = {None: Phase.IDLE} | {str(phase): phase for phase in Phase}
_REASONS: Mapping[str | None, Reason | None] = {None: None} | {str(reason): reason for reason in Reason}


def _device(  # noqa: PLR0917 - one per column
    device: str,
    labels: dict[str, str],
    seen: int | None,
    current: str | None,
    target: str | None,
    phase: str | None,
    reason: str | None,
    detail: str | None,
    *said: Any,
) -> DeviceFacts:
    known = None if seen is None else seconds(seen)
    return DeviceFacts(
        device, labels, known, current, target, _PHASES[phase], _REASONS[reason], detail or "", *said
    )

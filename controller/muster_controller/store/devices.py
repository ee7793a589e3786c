"""The devices, as the loop that decides sees them, and what they say about themselves."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec
import sqlalchemy
from sqlalchemy import Executable, bindparam, exists, func, update
from sqlmodel import Session, col, select

from muster_controller.store.engine import ask, table
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import Certificate, Device
from muster_models.errors import NotFoundError
from muster_models.wire import Health, Hello

_AT_ONCE = 500  # SQLite takes a limited number of parameters
_COLUMNS, _CERTIFICATES = table(Device).c, table(Certificate).c
_IS_GOOD = _COLUMNS.revoked_at.is_(None)
_ASKED = _COLUMNS.id.in_(bindparam("devices", expanding=True))
_HAS_GOOD = exists().where(_CERTIFICATES.device == _COLUMNS.id, _CERTIFICATES.revoked_at.is_(None))
_MEMBERS = (
    sqlalchemy.select(_COLUMNS.id, _COLUMNS.labels, _COLUMNS.last_seen, _COLUMNS.desired_held)
    .where(_IS_GOOD)
    .order_by(_COLUMNS.id)
)
_SOME = _MEMBERS.where(_ASKED)
_NEXT = (
    sqlalchemy.select(_COLUMNS.id)
    .where(_COLUMNS.id > bindparam("device"), _IS_GOOD)
    .order_by(_COLUMNS.id)
    .limit(bindparam("limit"))
)
_SILENT = sqlalchemy.select(_COLUMNS.id).where(_COLUMNS.last_seen < bindparam("before"), _IS_GOOD).limit(1)
_ACTIVE = sqlalchemy.select(_COLUMNS.id).where(_ASKED, _IS_GOOD, _HAS_GOOD)
_NEWEST = sqlalchemy.select(func.coalesce(func.max(_COLUMNS.revision), 0))
_OTHER = table(Device).alias().c
# Whoever writes waits for whoever wrote before, so the order of revisions is that of commits.
_TOUCH = (
    update(table(Device))
    .where(_ASKED)
    .values(revision=sqlalchemy.select(func.coalesce(func.max(_OTHER.revision), 0) + 1).scalar_subquery())
)
_SAW = _TOUCH.values(last_seen=bindparam("at"))


@dataclass(frozen=True)
class Member:
    """An enrolled device that was not revoked.

    Attributes:
        last_seen: Unix seconds by the controller's clock; None when it never said anything.
        held: Sequence of the newest desired state that the device says it holds.
    """

    id: str
    labels: Mapping[str, str]
    last_seen: float | None
    held: int


def members(session: Session) -> list[Member]:
    """Return all devices that were not revoked, by id."""
    return _members(session, _MEMBERS)


def some(session: Session, devices: Collection[str]) -> list[Member]:
    """Return those of some devices that were not revoked, by id."""
    return _members(session, _SOME, devices=list(devices))


def next_after(session: Session, device: str, limit: int) -> list[str]:
    """Return the ids of the devices that follow one in the order of ids, and were not revoked."""
    return list(ask(session, _NEXT, device=device, limit=limit).scalars())


def revoked(session: Session) -> dict[str, Mapping[str, str]]:
    """Return the labels of the devices that were revoked, by id."""
    query = select(Device.id, Device.labels).where(col(Device.revoked_at).is_not(None)).order_by(Device.id)
    return dict(session.exec(query).all())


def has_silent(session: Session, before: float) -> bool:
    """Tell whether a device that was not revoked was last heard of before an instant (Unix seconds)."""
    return ask(session, _SILENT, before=milliseconds(before)).first() is not None


def active(session: Session, devices: Iterable[str]) -> set[str]:
    """Return which of the given devices are enrolled, not revoked, and hold a certificate that is not either.

    A device that is about to be enrolled again holds none: until it is, only the old one speaks in its name.
    """
    return set(ask(session, _ACTIVE, devices=list(set(devices))).scalars())


def known(session: Session, devices: Iterable[str]) -> set[str]:
    """Return which of the given devices were ever enrolled, revoked ones included."""
    wanted = sorted(set(devices))
    found: set[str] = set()
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        found |= set(session.exec(select(Device.id).where(col(Device.id).in_(part))))
    return found


def set_labels(session: Session, device: str, labels: Mapping[str, str]) -> None:
    """Replace the labels of a device.

    Raises:
        NotFoundError: No such device.
    """
    row = session.get(Device, device)
    if row is None:
        raise NotFoundError(f"no device {device!r}")
    row.labels = dict(labels)
    session.add(row)
    touch(session, [device])


def greet(session: Session, hello: Hello) -> None:
    """Remember what an enrolled device said about itself."""
    with session.no_autoflush:  # what else a batch says is written with this, and not before it
        row = session.get_one(Device, hello.device)
    row.hardware = hello.hardware
    row.agent = hello.agent
    row.runtimes = dict(hello.runtimes)
    row.isolation = hello.isolation
    row.time_zone = hello.time_zone
    row.memory_bytes = hello.memory_bytes
    row.disk_free_bytes = hello.disk_free_bytes
    row.outbox_waiting = hello.outbox.waiting
    row.outbox_merged = hello.outbox.merged
    row.outbox_dropped = hello.outbox.dropped
    row.desired_held = hello.desired
    session.add(row)


def feel(session: Session, device: str, health: Health, *, skew: float | None = None) -> None:
    """Remember how an enrolled device says that it is.

    Args:
        skew: Seconds by which its clock is ahead of ours; None keeps what is known, because reports may have
            waited.
    """
    row = session.get_one(Device, device)
    known = (row.health or {}).get("skew_seconds")
    row.health = {**msgspec.structs.asdict(health), "skew_seconds": known if skew is None else skew}
    session.add(row)


def saw(session: Session, devices: Iterable[str], now: float) -> None:
    """Note that devices were heard of, whatever they said."""
    ask(session, _SAW, devices=list(set(devices)), at=milliseconds(now))


def touch(session: Session, devices: Iterable[str]) -> None:
    """Note that something new is known of devices, so that a ``DeviceBook`` reads them again."""
    ask(session, _TOUCH, devices=list(set(devices)))


def revision(session: Session) -> int:
    """Return the newest revision of any device."""
    return int(ask(session, _NEWEST).scalar_one())


def _members(session: Session, query: Executable, **asked: list[str]) -> list[Member]:
    return [
        Member(id_, labels, None if seen is None else seconds(seen), held)
        for id_, labels, seen, held in ask(session, query, **asked)
    ]

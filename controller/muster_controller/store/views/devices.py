"""Devices as pages show them: what each should run, what it says it runs, and how it is."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import msgspec
from sqlalchemy import ColumnElement, and_, case, exists, func, literal, or_
from sqlmodel import Session, col, select

from muster_controller.domain.selector import known_by
from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import Assignment, DesiredState, Device, Refusal, Running, StopOrder
from muster_controller.store.views import shadows
from muster_controller.store.views.alarms import AlarmFilter, AlarmView, count_firing, list_alarms
from muster_controller.store.views.history import (
    EventFilter,
    EventView,
    RefusalView,
    RunView,
    list_events,
    list_refusals,
    list_runs,
)
from muster_controller.store.views.instants import instant
from muster_controller.store.views.names import VersionRef, name_versions
from muster_controller.store.views.paging import Page, encode_cursor, text_cursor
from muster_controller.store.views.shadows import ShadowView
from muster_models.wire import Health, Phase

# In this order: the first that holds is the state of the device.
State = Literal["revoked", "failed", "new", "silent", "updating", "healthy"]
STATES: Final = get_args(State)
FAILED: Final = (Phase.FAILED, Phase.REJECTED, Phase.ROLLED_BACK)
MOVING: Final = (
    Phase.ASSIGNED,
    Phase.DOWNLOADING,
    Phase.VERIFYING,
    Phase.STAGED,
    Phase.SHADOW,
    Phase.ACTIVATING,
    Phase.PROBATION,
)
DETAIL_ROWS = 50
_BATCH = 500  # devices read at once while a selector is looked for


@dataclass(frozen=True)
class DeviceModelView:
    """One model on one device.

    Attributes:
        desired: What the controller wants; None when nothing is assigned.
        current, previous: By the device's own report.
        target: What the device last worked towards; its outcome is ``phase`` and ``reason``.
        stopped: The device says that it answers with the fallback.
        stop_ordered: The controller wants it to.
        in_step: The device runs what it should.
        rollout: The rollout that assigned the version.
    """

    model: str
    desired: VersionRef | None
    current: VersionRef | None
    previous: VersionRef | None
    target: VersionRef | None
    phase: str
    reason: str
    detail: str
    tries: int
    stopped: bool
    stop_ordered: bool
    in_step: bool
    rollout: int | None
    since: dt.datetime | None
    reported_at: dt.datetime | None


@dataclass(frozen=True)
class DeviceView:
    """One device, as lists show it.

    Attributes:
        firing: Alarms that name this device.
        refusals: Messages of it that were refused at ingest.
    """

    id: str
    labels: dict[str, str]
    state: State
    hardware: str
    agent: str
    enrolled_at: dt.datetime
    revoked_at: dt.datetime | None
    last_seen: dt.datetime | None
    models: tuple[DeviceModelView, ...]
    firing: int
    refusals: int


@dataclass(frozen=True)
class OutboxView:
    """What the device has not yet been told is stored, and what it lost."""

    waiting: int
    merged: int
    dropped: int


@dataclass(frozen=True)
class HealthView:
    """How the device last said that it was.

    Attributes:
        at: By the device's clock.
        load: Average of runnable processes over a minute, per processor.
        memory_bytes: Of the agent and its workers.
        celsius: The warmest part; None where the device measures none.
        behind_seconds: How far its clock lies behind the newest time that it saw signed.
        skew_seconds: How far its clock was ahead of the controller's, when it last said hello.
    """

    at: dt.datetime
    load: float
    memory_bytes: int
    waiting: int
    celsius: float | None
    behind_seconds: float
    skew_seconds: float | None


@dataclass(frozen=True)
class DesiredView:
    """The newest signed desired state; ``held`` is the sequence the device says it holds."""

    sequence: int
    held: int
    issued_at: dt.datetime
    expires_at: dt.datetime
    sent_at: dt.datetime | None


@dataclass(frozen=True)
class DeviceDetail:
    """One device with its latest history (at most 50 entries of each kind)."""

    device: DeviceView
    runtimes: dict[str, str]
    isolation: str
    time_zone: str
    memory_bytes: int
    disk_free_bytes: int
    health: HealthView | None
    certificate_serial: str
    certificate_expires: dt.datetime
    outbox: OutboxView
    desired: DesiredView | None
    runs: tuple[RunView, ...]
    events: tuple[EventView, ...]
    refusals: tuple[RefusalView, ...]
    alarms: tuple[AlarmView, ...]
    shadows: tuple[ShadowView, ...]


@dataclass(frozen=True)
class DeviceFilter:
    """Which devices are asked for; None means any.

    Attributes:
        text: Part of the device id.
        digest: Runs this version now.
        matches: Says yes to what a device is known by.
    """

    text: str | None = None
    state: State | None = None
    model: str | None = None
    digest: str | None = None
    matches: Callable[[Mapping[str, str]], bool] | None = None


def list_devices(
    session: Session, wanted: DeviceFilter, *, silent_before: int, limit: int, cursor: str | None = None
) -> Page[DeviceView]:
    """Return devices by id.

    Args:
        session: Of one transaction.
        wanted: The filter.
        silent_before: A device that was last seen before this (milliseconds) is silent.
        limit: Devices of a page.
        cursor: Where the page before ended.
    """
    found: list[tuple[Device, str]] = []
    after = text_cursor(cursor) or ""
    while len(found) <= limit:
        batch = _read(session, wanted, silent_before=silent_before, after=after, count=max(_BATCH, limit + 1))
        found += [
            row
            for row in batch
            if wanted.matches is None or wanted.matches(known_by(row[0].id, row[0].labels))
        ]
        if len(batch) < max(_BATCH, limit + 1):
            break
        after = batch[-1][0].id
    shown = found[:limit]
    following = encode_cursor(shown[-1][0].id) if len(found) > limit else None
    return Page(_views(session, shown), following)


def find_device(session: Session, device: str, *, silent_before: int) -> DeviceDetail | None:
    """Return one device, None when nobody enrolled it."""
    query = select(Device, _state(silent_before)).where(col(Device.id) == device)
    found = session.exec(query).first()
    if found is None:
        return None
    row = found[0]
    return DeviceDetail(
        device=_views(session, [(row, found[1])])[0],
        runtimes=row.runtimes,
        isolation=row.isolation,
        time_zone=row.time_zone,
        memory_bytes=row.memory_bytes,
        disk_free_bytes=row.disk_free_bytes,
        health=_health(row),
        certificate_serial=row.certificate_serial,
        certificate_expires=instant(row.certificate_expires),
        outbox=OutboxView(row.outbox_waiting, row.outbox_merged, row.outbox_dropped),
        desired=_desired(session, row),
        runs=list_runs(session, device=device, limit=DETAIL_ROWS).items,
        events=list_events(session, EventFilter(device=device), limit=DETAIL_ROWS).items,
        refusals=list_refusals(session, device),
        alarms=list_alarms(session, AlarmFilter(level="device", subject=device), limit=DETAIL_ROWS).items,
        shadows=shadows.of_device(session, device, DETAIL_ROWS),
    )


def count_states(session: Session, *, silent_before: int) -> dict[str, int]:
    """Return how many devices are in each state; every state is in the answer."""
    state = _state(silent_before).label("state")
    inner = select(state).subquery()
    rows = session.exec(select(inner.c.state, func.count()).group_by(inner.c.state)).all()
    return dict.fromkeys(STATES, 0) | dict(rows)


def all_labels(session: Session) -> list[tuple[str, dict[str, str]]]:
    """Return id and labels of every device that was not revoked, by id."""
    query = select(Device.id, Device.labels).where(col(Device.revoked_at).is_(None)).order_by(col(Device.id))
    return [(device, dict(labels)) for device, labels in session.exec(query)]


def _read(
    session: Session, wanted: DeviceFilter, *, silent_before: int, after: str, count: int
) -> Sequence[tuple[Device, str]]:
    state = _state(silent_before)
    query = select(Device, state).where(col(Device.id) > after).order_by(col(Device.id)).limit(count)
    if wanted.text is not None:
        query = query.where(col(Device.id).contains(wanted.text, autoescape=True))
    if wanted.state is not None:
        query = query.where(state == wanted.state)
    if wanted.model is not None or wanted.digest is not None:
        query = query.where(_runs(wanted.model, wanted.digest))
    return session.exec(query).all()


def _runs(model: str | None, digest: str | None) -> ColumnElement[bool]:
    terms = [col(Running.device) == col(Device.id)]
    if model is not None:
        terms.append(col(Running.model) == model)
    if digest is not None:
        terms.append(col(Running.current) == digest)
    return exists().where(and_(*terms))


def _state(silent_before: int) -> ColumnElement[str]:
    own = col(Running.device) == col(Device.id)
    failed = exists().where(own, col(Running.phase).in_(FAILED))
    moving = exists().where(own, col(Running.phase).in_(MOVING))
    # Assigned, but the device says that it runs something else, or nothing.
    reached = exists().where(
        col(Running.device) == col(Assignment.device),
        col(Running.model) == col(Assignment.model),
        col(Running.current) == col(Assignment.digest),
    )
    behind = exists().where(col(Assignment.device) == col(Device.id), ~reached)
    return case(
        (col(Device.revoked_at).is_not(None), literal("revoked")),
        (failed, literal("failed")),
        (col(Device.last_seen).is_(None), literal("new")),
        (col(Device.last_seen) < silent_before, literal("silent")),
        (or_(moving, behind), literal("updating")),
        else_=literal("healthy"),
    )


def _views(session: Session, rows: Sequence[tuple[Device, str]]) -> tuple[DeviceView, ...]:
    ids = [device.id for device, _ in rows]
    models = _models(session, ids)
    firing = count_firing(session, "device")
    refused = dict(
        session.exec(
            select(Refusal.device, func.sum(Refusal.count))
            .where(col(Refusal.device).in_(ids))
            .group_by(col(Refusal.device))
        ).all()
    )
    return tuple(
        DeviceView(
            id=row.id,
            labels=row.labels,
            state=_as_state(state),
            hardware=row.hardware,
            agent=row.agent,
            enrolled_at=instant(row.enrolled_at),
            revoked_at=instant(row.revoked_at),
            last_seen=instant(row.last_seen),
            models=models.get(row.id, ()),
            firing=firing.get(row.id, 0),
            refusals=refused.get(row.id, 0),
        )
        for row, state in rows
    )


def _as_state(text: str) -> State:
    return next(state for state in STATES if state == text)


def _models(session: Session, ids: Sequence[str]) -> dict[str, tuple[DeviceModelView, ...]]:
    assigned = {
        (row.device, row.model): row
        for row in session.exec(select(Assignment).where(col(Assignment.device).in_(ids)))
    }
    running = {
        (row.device, row.model): row
        for row in session.exec(select(Running).where(col(Running.device).in_(ids)))
    }
    names = name_versions(session, _digests(assigned.values(), running.values()))
    stopped = set(session.exec(select(StopOrder.model)))
    views: dict[str, tuple[DeviceModelView, ...]] = {}
    for device, model in sorted(assigned.keys() | running.keys()):
        pair = assigned.get((device, model)), running.get((device, model))
        view = _model(model, *pair, names=names, stop_ordered=model in stopped)
        views[device] = (*views.get(device, ()), view)
    return views


def _digests(assigned: Iterable[Assignment], running: Iterable[Running]) -> Iterable[str | None]:
    yield from (row.digest for row in assigned)
    for row in running:
        yield from (row.current, row.previous, row.target)


def _model(
    model: str,
    assigned: Assignment | None,
    running: Running | None,
    *,
    names: Mapping[str, VersionRef],
    stop_ordered: bool,
) -> DeviceModelView:
    def name(digest: str | None) -> VersionRef | None:
        return names[digest] if digest else None

    desired = None if assigned is None else assigned.digest
    current = None if running is None else running.current
    return DeviceModelView(
        model=model,
        desired=name(desired),
        current=name(current),
        previous=None if running is None else name(running.previous),
        target=None if running is None else name(running.target),
        phase=Phase.ASSIGNED if running is None else running.phase,
        reason="" if running is None else running.reason or "",
        detail="" if running is None else running.detail,
        tries=0 if running is None else running.tries,
        stopped=running is not None and running.stopped,
        stop_ordered=stop_ordered,
        in_step=desired == current,
        rollout=None if assigned is None else assigned.rollout,
        since=None if assigned is None else instant(assigned.since),
        reported_at=None if running is None else instant(running.at),
    )


def _health(row: Device) -> HealthView | None:
    if row.health is None:
        return None
    known = msgspec.convert(row.health, Health)
    return HealthView(
        at=instant(milliseconds(known.at)),
        load=known.load,
        memory_bytes=known.memory_bytes,
        waiting=known.waiting,
        celsius=known.celsius,
        behind_seconds=known.behind_seconds,
        skew_seconds=row.health.get("skew_seconds"),
    )


def _desired(session: Session, row: Device) -> DesiredView | None:
    newest = session.get(DesiredState, row.id)
    if newest is None:
        return None
    return DesiredView(
        newest.sequence,
        row.desired_held,
        instant(newest.issued_at),
        instant(newest.expires_at),
        instant(newest.sent_at),
    )

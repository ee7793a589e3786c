"""The first page: what needs a person now, how the fleet is, what is running."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from sqlmodel import Session

from muster_controller.service import drills
from muster_controller.service.context import Context
from muster_controller.store.instants import milliseconds
from muster_controller.store.views import devices, models
from muster_controller.store.views.alarms import AlarmFilter, attended, count_alarms, list_alarms
from muster_controller.store.views.devices import DeviceFilter
from muster_controller.store.views.history import (
    AuditFilter,
    EventFilter,
    EventView,
    list_audit,
    list_events,
    list_refusals,
)
from muster_controller.store.views.instants import instant
from muster_controller.store.views.models import ModelView
from muster_controller.store.views.paging import MAX_LIMIT
from muster_controller.store.views.rollouts import BAD, RolloutFilter, RolloutView, list_rollouts
from muster_models import __version__
from muster_models.trust.roles import MODEL_PREFIX

# How long something that is over still asks for a look.
RECENT_SECONDS = 24 * 3600.0
EXPIRES_SOON = dt.timedelta(days=14)
SHOWN = 20


@dataclass(frozen=True)
class Attention:
    """Something a person should look at.

    Attributes:
        kind: ``rollout``, ``alarm``, ``version``, ``device``, ``refusal``, ``model`` or ``repository``: what
            ``subject`` names.
        subject: A number or an id.
        what: A state or a reason, in one word.
    """

    kind: str
    subject: str
    what: str
    title: str
    detail: str
    at: dt.datetime


@dataclass(frozen=True)
class Overview:
    """The first page.

    Attributes:
        attention: The most serious kind first; empty when all is well.
        states: Devices by state.
        alarms: Alarms by state.
        rollouts: Live ones.
        events: The latest.
    """

    attention: tuple[Attention, ...]
    states: dict[str, int]
    alarms: dict[str, int]
    models: tuple[ModelView, ...]
    rollouts: tuple[RolloutView, ...]
    events: tuple[EventView, ...]


@dataclass(frozen=True)
class Status:
    """How the controller itself is.

    Attributes:
        health: One word or sentence per part that runs: database, broker, link, loop.
        expires: When each signed role expires.
    """

    version: str
    now: dt.datetime
    repository: bool
    devices: dict[str, int]
    alarms: dict[str, int]
    rollouts: int
    models: int
    attention: int
    health: dict[str, str]
    expires: dict[str, dt.datetime]


def show_overview(context: Context) -> Overview:
    """Return the first page."""
    with context.reading() as session:
        live = list_rollouts(session, RolloutFilter(live=True), limit=SHOWN).items
        return Overview(
            attention=_attention(context, session),
            states=devices.count_states(session, silent_before=context.silent_before),
            alarms=count_alarms(session),
            models=models.list_models(session),
            rollouts=live,
            events=list_events(session, EventFilter(), limit=SHOWN).items,
        )


def show_status(context: Context) -> Status:
    """Return how the controller itself is."""
    overview = show_overview(context)
    return Status(
        version=__version__,
        now=dt.datetime.fromtimestamp(context.clock(), dt.UTC),
        repository=context.repository.is_installed,
        devices=overview.states,
        alarms=overview.alarms,
        rollouts=len(overview.rollouts),
        models=len(overview.models),
        attention=len(overview.attention),
        health=dict(context.health()),
        expires=context.repository.expiries(),
    )


def _attention(context: Context, session: Session) -> tuple[Attention, ...]:
    since = instant(milliseconds(context.clock() - RECENT_SECONDS))
    return (
        *_stopped(session),
        *_rollouts(session, since),
        *_alarms(context, session),
        *_withdrawn(session),
        *_devices(context, session),
        *_refusals(session, since),
        *_drills(context, session),
        *_expiries(context),
    )


def _stopped(session: Session) -> Iterable[Attention]:
    for model in models.list_models(session):
        if model.stop_ordered:
            deeds = list_audit(session, AuditFilter(action="model.stop", subject=model.model), limit=1).items
            told = f"{model.stopped} of {model.assigned} devices have said that they obey"
            detail = "".join(f"stopped by {deed.actor}: {deed.reason}" for deed in deeds)
            at = deeds[0].at if deeds else instant(0)
            yield Attention("model", model.model, "stopped", f"{model.model} is stopped: {told}", detail, at)


def _rollouts(session: Session, since: dt.datetime) -> Iterable[Attention]:
    for rollout in list_rollouts(session, RolloutFilter(), limit=SHOWN).items:
        held = rollout.phase in {"paused", "pending-approval"} or (
            rollout.phase == "running" and rollout.step == "hold"
        )
        if held or (rollout.phase in BAD and (rollout.live or rollout.updated_at >= since)):
            what = rollout.step if rollout.phase == "running" else rollout.phase
            title = f"{rollout.version.name} to {rollout.selector}"
            asks = rollout.phase == "pending-approval"
            detail = f"waits for {rollout.waiting}" if asks else rollout.reason or rollout.waiting
            yield Attention("rollout", str(rollout.id), what, title, detail, rollout.updated_at)


def _alarms(context: Context, session: Session) -> Iterable[Attention]:
    # Many may be acknowledged: those that are not must not hide behind them.
    firing = list_alarms(session, AlarmFilter(state="firing"), limit=MAX_LIMIT).items
    open_ones = (one for one in attended(session, firing, context.clock()) if one.needs_attention)
    for alarm in islice(open_ones, SHOWN):
        title, detail = alarm.headline
        yield Attention("alarm", str(alarm.id), alarm.kind, title, detail, alarm.fired_at or alarm.since)


def _withdrawn(session: Session) -> Iterable[Attention]:
    for version in models.list_withdrawn(session):
        assert version.withdrawn_at is not None
        title = (
            f"{version.name} was withdrawn; {version.assigned} devices should run it, {version.running} do"
        )
        detail = "they stop at their next look at the repository: roll out another version"
        yield Attention("version", version.digest, "withdrawn", title, detail, version.withdrawn_at)


def _devices(context: Context, session: Session) -> Iterable[Attention]:
    failed = devices.list_devices(
        session, DeviceFilter(state="failed"), silent_before=context.silent_before, limit=SHOWN
    )
    for device in failed.items:
        for model in device.models:
            if model.phase in devices.FAILED:
                target = model.target or model.desired
                title = f"{device.id}: {target.name if target else model.model} {model.phase}"
                at = model.reported_at or device.enrolled_at
                yield Attention("device", device.id, model.reason or model.phase, title, model.detail, at)


def _refusals(session: Session, since: dt.datetime) -> Iterable[Attention]:
    for refusal in list_refusals(session)[:SHOWN]:
        if refusal.last_at >= since:
            title = f"{refusal.count} messages of {refusal.device or 'an unknown device'} refused"
            yield Attention(
                "refusal", refusal.device, refusal.reason, title, refusal.last_detail, refusal.last_at
            )


def _expiries(context: Context) -> Iterable[Attention]:
    now = dt.datetime.fromtimestamp(context.clock(), dt.UTC)
    for role, expires in context.repository.expiries().items():
        if role not in {"snapshot", "timestamp"} and expires - now < EXPIRES_SOON:
            title = f"the signature of {role} expires"
            detail = f"sign it again: muster keys renew {role.removeprefix(MODEL_PREFIX)} --keys DIR"
            yield Attention("repository", role, "expired", title, detail, expires)


def _drills(context: Context, session: Session) -> Iterable[Attention]:
    for late in drills.overdue(context, session):
        yield Attention("model", late.model, "drill", late.title, late.fix, late.since)

"""Drills: rehearsing a rollback on some devices, with the same rollout and the same orders as in earnest."""

import datetime as dt
import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlmodel import Session

from muster_controller.domain import selector
from muster_controller.domain.drills import Drill, DrillPhase, Trip, look
from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts import machine as rollout
from muster_controller.domain.rollouts.machine import RolloutPhase
from muster_controller.domain.rollouts.planning.plan import DAY_SECONDS
from muster_controller.service import rollouts
from muster_controller.service.context import Context, Deed, record
from muster_controller.service.rollout_plans import RolloutRequest, gather
from muster_controller.service.versions import resolve
from muster_controller.store import assignments, running, versions
from muster_controller.store import drills as store
from muster_controller.store import rollouts as rollout_store
from muster_controller.store.device_facts import some_facts
from muster_controller.store.views.names import VersionRef, name_versions
from muster_models.errors import ConflictError, NotFoundError, RequestError

DEVICES = 3  # when the order does not say: those devices are away for a moment
MAX_DEVICES = 10  # that are chosen by id
MAX_NAMED = 500  # that a selector may name: a drill is no rollout
PATIENCE_SECONDS = 900.0
SHOWN = 50
_MOVING = frozenset({RolloutPhase.RUNNING, RolloutPhase.PAUSED, RolloutPhase.COMPLETED})


@dataclass(frozen=True)
class DrillRequest:
    """What is rehearsed, and on which devices.

    Attributes:
        where: A selector; None for all devices of the model.
        devices: How many of those, drawn by chance; None for three, or all that ``where`` names.
        other: ``model@version`` they are sent to; None for the one that most of them ran before.
        patience: Seconds after which a drill goes on without devices that do not move, on each way.
    """

    model: str
    where: str | None = None
    devices: int | None = None
    other: str | None = None
    patience: float = PATIENCE_SECONDS


@dataclass(frozen=True)
class TripView:
    """One device of a drill; times in seconds after the orders, None for never."""

    device: str
    away_seconds: float | None
    back_seconds: float | None


@dataclass(frozen=True)
class DrillView:
    """A drill.

    Attributes:
        version: What the devices ran and came back to, from ``other``.
        rollout: Number of the rollout that moved them.
        phase: ``away``, ``back``, ``done`` or ``incomplete``.
        seconds: From the order to come back until the last device had; None unless every one did.
        why: What was not as it should be, in words.
    """

    id: int
    kind: str
    model: str
    version: VersionRef
    other: VersionRef
    rollout: int
    phase: str
    started_at: dt.datetime
    started_by: str
    reason: str
    ended_at: dt.datetime | None
    seconds: float | None
    devices: tuple[TripView, ...]
    why: str


@dataclass(frozen=True)
class Overdue:
    """A model whose rollback was not rehearsed for too long.

    Attributes:
        fix: The command that rehearses it.
        since: When it last was, or when there first was something to go back to.
    """

    model: str
    title: str
    fix: str
    since: dt.datetime


def start(context: Context, actor: str, request: DrillRequest, reason: str = "") -> DrillView:
    """Send some devices to another version, so that their way back can be timed.

    Raises:
        NotFoundError: No such model or version.
        RequestError: The selector, the number or the patience is not of the expected form.
        ConflictError: No device is fit for it, or something else moves them now: the message says what.
    """
    _check(request)
    now = context.clock()
    with context.unit() as session:
        facts = gather(context, session, request.model)
        version, chosen = _choose(session, facts, request)
        other = _other(session, request, version=version, devices=chosen)
        order = RolloutRequest(other, version, _terms(request, chosen))
        number = rollouts.begin(
            context, session, actor, order, reason=f"drill: {reason}" if reason else "drill"
        )
        drill = Drill(version, other, {name: Trip() for name in chosen}, now, request.patience)
        made = store.add(session, request.model, drill, rollout=number, by=actor, reason=reason)
        detail = {"rollout": number, "devices": list(chosen)}
        record(session, Deed(actor, "drill.start", f"drill {made}", reason, detail), now)
    context.wake()
    return show(context, made)


def show(context: Context, number: int) -> DrillView:
    """Return one drill.

    Raises:
        NotFoundError: No such drill.
    """
    with context.reading() as session:
        return _views(session, [store.get(session, number)])[0]


def list_drills(context: Context, model: str | None = None, *, limit: int = SHOWN) -> tuple[DrillView, ...]:
    """Return drills, newest first."""
    with context.reading() as session:
        return _views(session, store.newest(session, model=model, limit=limit))


def overdue(context: Context, session: Session) -> Iterator[Overdue]:
    """Yield the models whose rollback was not rehearsed for longer than the settings allow.

    The count begins when a version first replaced another one: before that there is nothing to go back to.
    """
    days = context.settings.drill_days
    if not days:
        return
    for model, first in rollout_store.first_replaced(session).items():
        done = store.last_done(session, model)
        since = first if done is None else done
        if context.clock() - since > days * DAY_SECONDS:
            told = (
                "was never rehearsed" if done is None else f"was last rehearsed on {_moment(done):%Y-%m-%d}"
            )
            title = f"the rollback of {model} {told}; at least every {days:g} days is asked for"
            yield Overdue(model, title, f"muster drill rollback {model}", _moment(since))


def carry_on(context: Context, now: float) -> None:
    """Look at every drill that is under way, and order its devices back when that is due."""
    with context.reading() as session:
        numbers = [stored.id for stored in store.live(session)]
    for number in numbers:
        _carry_on(context, number, now)


def _carry_on(context: Context, number: int, now: float) -> None:
    with context.unit() as session:
        stored = store.get(session, number)
        phase = RolloutPhase(rollout_store.get(session, stored.rollout).phase)
        devices = some_facts(session, stored.model, stored.drill.trips)
        seen = look(stored.drill, devices, moving=phase in _MOVING, now=now)
        if seen.drill == stored.drill:
            return
        following = seen.drill
        if seen.order_back:
            why = _order_back(context, session, stored, now)
            following = following if not why else _failed(following, why, now)
        store.save(session, number, following)
        if following.ended is not None:
            detail = {"phase": following.phase.value, "seconds": following.seconds, "why": following.why}
            record(session, Deed("controller", "drill.end", f"drill {number}", detail=detail), now)


def _order_back(context: Context, session: Session, stored: store.Stored, now: float) -> str:
    """Roll the drill's rollout back, and return why that was refused; empty when it was not."""
    event = rollout.RollBack("controller", f"drill {stored.id}", now)
    deed = Deed("controller", "rollout.rollback", rollouts.subject_of(stored.rollout), f"drill {stored.id}")
    try:
        rollouts.apply(context, session, stored.rollout, event, deed=deed)
    except ConflictError as error:
        return str(error)
    return ""


def _failed(drill: Drill, why: str, now: float) -> Drill:
    trips, phase = drill.trips, DrillPhase.INCOMPLETE
    return Drill(
        drill.version, drill.other, trips, drill.begun, drill.patience, phase, drill.ordered, now, why
    )


def _check(request: DrillRequest) -> None:
    if request.where is not None:
        selector.parse(request.where)
    if request.devices is not None and not 1 <= request.devices <= MAX_DEVICES:
        raise RequestError(f"devices: expected 1 to {MAX_DEVICES}, got {request.devices}")
    if not 1 <= request.patience <= 86_400:  # noqa: PLR2004 - a second, and a day
        raise RequestError(f"patience: expected 1 to 86400 seconds, got {request.patience:g}")


def _choose(session: Session, facts: Facts, request: DrillRequest) -> tuple[str, tuple[str, ...]]:
    """Return the version that most fit devices run, and the devices of the drill, which all run it."""
    if not versions.of_model(session, request.model):
        raise NotFoundError(f"no model {request.model!r}")
    assigned = assignments.of_model(session, request.model)
    wanted = selector.parse(request.where or "all")
    fit = [
        device
        for device in facts.devices.values()
        if wanted.matches(selector.known_by(device.device, device.labels))
        and facts.is_reachable(device)
        and device.current is not None
        and device.current == assigned.get(device.device)
    ]
    if not fit:
        told = f"that {request.where!r} names " if request.where else ""
        raise ConflictError(f"no device {told}is reachable and runs the version of {request.model} it should")
    version = _most(fit)
    same = [device.device for device in fit if device.current == version]
    if request.devices is None and request.where is not None and len(same) > MAX_NAMED:
        raise ConflictError(f"{request.where!r} names {len(same)} devices, expected at most {MAX_NAMED}")
    limit = request.devices or (DEVICES if request.where is None else len(same))
    seed = secrets.token_hex(4)
    drawn = sorted(same, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    return version, tuple(sorted(drawn[:limit]))


def _most(devices: list[DeviceFacts]) -> str:
    counted = Counter(device.current for device in devices if device.current is not None)
    return min(counted, key=lambda digest: (-counted[digest], digest))


def _other(session: Session, request: DrillRequest, *, version: str, devices: tuple[str, ...]) -> str:
    """Return the digest of the version that a drill goes to: one that may run."""
    if request.other is not None:
        return resolve(session, request.other).digest
    states = running.of_model(session, request.model)
    held = Counter(
        previous for name in devices if name in states and (previous := states[name].previous) is not None
    )
    listed = [one for one in versions.of_model(session, request.model) if one.withdrawn_at is None]
    own = next((one for one in listed if one.digest == version), None)
    older = [one for one in listed if own is not None and one.manifest.release < own.manifest.release]
    candidates = sorted(older, key=lambda one: (-held[one.digest], -one.manifest.release))
    if not candidates:
        raise ConflictError(
            f"{request.model} has no earlier version that may run: there is nothing to rehearse"
        )
    return candidates[0].digest


def _terms(request: DrillRequest, chosen: tuple[str, ...]) -> dict[str, object]:
    """Return a plan without waiting and without a control: the drill itself ends it."""
    by_id = len(chosen) <= MAX_DEVICES
    named = ", ".join(f'"{name}"' for name in chosen)
    return {
        "selector": f"device in ({named})" if by_id else request.where,
        "stages": [{"percent": 100, "soak_seconds": 0.0}],
        "control": 0.0,
        "probation_seconds": 0.0,
        "stage_deadline_seconds": request.patience,
        "rollback_deadline_seconds": request.patience,
    }


def _views(session: Session, found: list[store.Stored]) -> tuple[DrillView, ...]:
    digests = {digest for one in found for digest in (one.drill.version, one.drill.other)}
    names = name_versions(session, digests)
    return tuple(_view(one, names[one.drill.version], names[one.drill.other]) for one in found)


def _view(stored: store.Stored, version: VersionRef, other: VersionRef) -> DrillView:
    drill = stored.drill
    return DrillView(
        id=stored.id,
        kind=stored.kind,
        model=stored.model,
        version=version,
        other=other,
        rollout=stored.rollout,
        phase=drill.phase,
        started_at=_moment(stored.at),
        started_by=stored.by,
        reason=stored.reason,
        ended_at=None if drill.ended is None else _moment(drill.ended),
        seconds=drill.seconds,
        devices=tuple(
            TripView(name, _after(drill.begun, trip.away), _after(drill.ordered, trip.back))
            for name, trip in sorted(drill.trips.items())
        ),
        why=drill.why,
    )


def _after(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)

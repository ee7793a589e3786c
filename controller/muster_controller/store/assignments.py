"""Which version each device should run, and the orders that stop a model everywhere."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec
import sqlalchemy
from sqlalchemy import bindparam
from sqlmodel import Session, select

from muster_controller.store import untold
from muster_controller.store.engine import ask, table, upsert
from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import Assignment, StopOrder
from muster_models.errors import ConflictError, NotFoundError
from muster_models.wire import Shadow

_COLUMNS = table(Assignment).c
_OF_DEVICES = (
    sqlalchemy.select(
        _COLUMNS.device, _COLUMNS.model, _COLUMNS.digest, _COLUMNS.probation_seconds, _COLUMNS.shadow
    )
    .where(_COLUMNS.device.in_(bindparam("devices", expanding=True)))
    .order_by(_COLUMNS.device, _COLUMNS.model)
)
_OF_MODEL = sqlalchemy.select(_COLUMNS.device, _COLUMNS.digest).where(_COLUMNS.model == bindparam("model"))
_STOPPED = sqlalchemy.select(table(StopOrder).c.model)

_MANY = 1_000  # devices that are noted by one statement, and not each by itself


@dataclass(frozen=True)
class Wanted:
    """What one device should run of one model.

    Attributes:
        probation_seconds: How long a new version must run without failing before it is committed.
        shadow: What comes before its activation; None for nothing.
    """

    model: str
    digest: str
    probation_seconds: float
    shadow: Shadow | None = None


def of_devices(session: Session, devices: Collection[str]) -> dict[str, list[Wanted]]:
    """Return what each of some devices should run, models in order; who should run nothing is left out."""
    wanted: dict[str, list[Wanted]] = {}
    for device, model, digest, probation_seconds, order in ask(session, _OF_DEVICES, devices=list(devices)):
        shadow = None if order is None else msgspec.convert(order, Shadow)
        wanted.setdefault(device, []).append(Wanted(model, digest, probation_seconds, shadow))
    return wanted


def of_model(session: Session, model: str) -> dict[str, str]:
    """Return the digest that each device should run of one model."""
    return dict(ask(session, _OF_MODEL, model=model).all())


def deciders(session: Session, model: str) -> dict[str, int]:
    """Return the number of the rollout that last assigned each device its version of one model."""
    query = select(Assignment.device, Assignment.rollout).where(Assignment.model == model)
    return {device: rollout for device, rollout in session.exec(query) if rollout is not None}


def assign(
    session: Session,
    model: str,
    digests: Mapping[str, str | None],
    *,
    rollout: int,
    probation_seconds: float,
    now: float,
    candidate: str | None = None,
    shadow: Shadow | None = None,
) -> None:
    """Assign a version of ``model`` to devices, by device; None takes the model away from one.

    What is already so stays as it is. Only ``candidate`` is to answer in ``shadow`` first: whoever keeps a
    version, or goes back to one, is not to wait for it.
    """
    order = None if shadow is None else msgspec.to_builtins(shadow)
    held = of_model(session, model)
    rows = [
        {
            "device": device,
            "model": model,
            "digest": digest,
            "rollout": rollout,
            "since": milliseconds(now),
            "probation_seconds": probation_seconds,
            "shadow": order if digest == candidate else None,
        }
        for device, digest in digests.items()
        if digest is not None and held.get(device) != digest
    ]
    upsert(session, Assignment, rows)
    gone = [device for device, digest in digests.items() if digest is None and device in held]
    for device in gone:
        session.delete(session.get_one(Assignment, (device, model)))
    if len(rows) > _MANY:
        untold.note_assigned(session, rollout, milliseconds(now))
        untold.note(session, gone)
    else:
        untold.note(session, [*(str(row["device"]) for row in rows), *gone])


def stop(session: Session, model: str, now: float) -> None:
    """Order that a model answers with its fallback on every device.

    Raises:
        ConflictError: It is stopped already.
    """
    if session.get(StopOrder, model) is not None:
        raise ConflictError(f"{model} is stopped already")
    session.add(StopOrder(model=model, at=milliseconds(now)))
    untold.note_model(session, model)


def start(session: Session, model: str) -> None:
    """Lift the order that stopped a model.

    Raises:
        NotFoundError: It is not stopped.
    """
    order = session.get(StopOrder, model)
    if order is None:
        raise NotFoundError(f"{model} is not stopped")
    session.delete(order)
    untold.note_model(session, model)


def stopped(session: Session) -> frozenset[str]:
    """Return the models that are stopped."""
    return frozenset(ask(session, _STOPPED).scalars())

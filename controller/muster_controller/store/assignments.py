"""Which version each device should run, and the orders that stop a model everywhere."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec
from sqlmodel import Session, col, select

from muster_controller.store import untold
from muster_controller.store.engine import upsert
from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import Assignment, StopOrder
from muster_models.errors import ConflictError, NotFoundError
from muster_models.wire import Shadow


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
    query = select(Assignment).where(col(Assignment.device).in_(devices))
    for row in session.exec(query.order_by(Assignment.device, Assignment.model)):
        shadow = None if row.shadow is None else msgspec.convert(row.shadow, Shadow)
        wanted.setdefault(row.device, []).append(Wanted(row.model, row.digest, row.probation_seconds, shadow))
    return wanted


def of_model(session: Session, model: str) -> dict[str, str]:
    """Return the digest that each device should run of one model."""
    query = select(Assignment.device, Assignment.digest).where(Assignment.model == model)
    return dict(session.exec(query).all())


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
    return frozenset(session.exec(select(col(StopOrder.model))))

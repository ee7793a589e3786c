"""Machines that ask to be let in without a token: a bounded number of them, for a bounded time.

Anybody who reaches the device side may ask, so asking costs little, and tells nothing about other devices.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, delete, func, select

from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import Device, EnrolmentRequest
from muster_models.errors import ConflictError, NotFoundError
from muster_models.keycode import code_of
from muster_models.topics import check_device

MAX_WAITING = 100  # requests that nobody decided
MAX_PER_ADDRESS = 20  # of them from one address, so that one machine cannot use up all places
MAX_PER_MINUTE = 30  # new requests
WAIT_SECONDS = 3600.0  # for the operator, and then for the machine to come back
MINUTE = 60.0


@dataclass(frozen=True)
class Asking:
    """Who asks.

    Attributes:
        key: Fingerprint of its key, which its request for a certificate proved that it holds.
        device: The id that it asks for.
        address: Where it comes from.
    """

    key: str
    device: str
    address: str


def find(session: Session, asking: Asking, now: float) -> EnrolmentRequest | None:
    """Return what became of a request; None when it is new, and there is a place for it.

    Raises:
        MessageError: The id that is asked for is not legal.
        ConflictError: The same key asked for another id, another key has the same code, or too many ask.
    """
    check_device(asking.device)
    row = session.get(EnrolmentRequest, asking.key)
    if row is not None and row.expires_at > milliseconds(now):
        if row.device != asking.device:
            raise ConflictError(f"this key asked to be {row.device} before, got {asking.device}")
        return row
    _check_place(session, asking, now)
    return None


def add(session: Session, asking: Asking, now: float) -> EnrolmentRequest:
    """Let a machine wait for an operator, or go on waiting; those whose time is over are forgotten.

    Raises:
        ConflictError: As ``find``.
    """
    session.exec(delete(EnrolmentRequest).where(col(EnrolmentRequest.expires_at) <= milliseconds(now)))
    found = find(session, asking, now)
    if found is not None:
        return found
    row = EnrolmentRequest(
        key=asking.key,
        code=code_of(asking.key),
        device=asking.device,
        address=asking.address,
        state="pending",
        asked_at=milliseconds(now),
        expires_at=milliseconds(now + WAIT_SECONDS),
    )
    session.add(row)
    return row


def listed(session: Session, now: float) -> list[EnrolmentRequest]:
    """Return the requests whose time is not over, oldest first."""
    query = select(EnrolmentRequest).where(col(EnrolmentRequest.expires_at) > milliseconds(now))
    return list(session.exec(query.order_by(col(EnrolmentRequest.asked_at), col(EnrolmentRequest.code))))


def accept(session: Session, code: str, labels: Mapping[str, str], now: float) -> EnrolmentRequest:
    """Let a machine in when it comes back.

    Raises:
        NotFoundError: Nobody waits with this code.
        ConflictError: The id is a device's already, or another machine was promised it.
    """
    row = _waiting(session, code, now)
    promised = select(EnrolmentRequest).where(
        EnrolmentRequest.device == row.device, EnrolmentRequest.state == "accepted"
    )
    if session.get(Device, row.device) is not None or session.exec(promised).first() is not None:
        raise ConflictError(
            f"{row.device} is taken; to enrol a device again, make a token: muster device token ID --again"
        )
    row.state = "accepted"
    row.labels = dict(labels)
    row.expires_at = milliseconds(now + WAIT_SECONDS)
    session.add(row)
    return row


def refuse(session: Session, code: str, now: float) -> EnrolmentRequest:
    """Turn a machine away; until its time is over it is not asked about again.

    Raises:
        NotFoundError: Nobody waits with this code.
    """
    row = _waiting(session, code, now)
    row.state = "refused"
    session.add(row)
    return row


def complete(session: Session, row: EnrolmentRequest, certificate: str) -> None:
    """Keep what a machine was given, for when its answer gets lost."""
    row.state = "enrolled"
    row.certificate = certificate
    session.add(row)


def _waiting(session: Session, code: str, now: float) -> EnrolmentRequest:
    row = session.exec(select(EnrolmentRequest).where(EnrolmentRequest.code == code)).first()
    if row is None or row.state != "pending" or row.expires_at <= milliseconds(now):
        raise NotFoundError(f"no machine waits with the code {code[:20]!r}")
    return row


def _check_place(session: Session, asking: Asking, now: float) -> None:
    live = col(EnrolmentRequest.expires_at) > milliseconds(now)
    waiting = (live, EnrolmentRequest.state == "pending")
    if _count(session, *waiting) >= MAX_WAITING:
        raise ConflictError(f"{MAX_WAITING} machines wait already; try again later")
    if _count(session, *waiting, EnrolmentRequest.address == asking.address) >= MAX_PER_ADDRESS:
        raise ConflictError(f"{MAX_PER_ADDRESS} machines at this address wait already; try again later")
    if _count(session, col(EnrolmentRequest.asked_at) > milliseconds(now - MINUTE)) >= MAX_PER_MINUTE:
        raise ConflictError("too many machines ask at once; try again in a minute")
    if _count(session, live, EnrolmentRequest.code == code_of(asking.key)) > 0:
        raise ConflictError("another machine waits with the code of this key; make another key")


def _count(session: Session, *terms: ColumnElement[bool] | bool) -> int:
    return session.exec(select(func.count()).select_from(EnrolmentRequest).where(*terms)).one()

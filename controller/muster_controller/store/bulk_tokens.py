"""Tokens that admit several devices, as a factory needs them. Only the hash of a token is stored."""

import hashlib
import itertools
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from sqlmodel import Session, col, select

from muster_controller.store.enrolment import SECRET_BYTES, Permit
from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import BulkToken, BulkUse, Device, EnrolmentRequest, EnrolmentToken
from muster_models.errors import ConflictError, ForbiddenError, Reason, RequestError
from muster_models.topics import check_device

TOKEN_FORM = "msb1"  # noqa: S105 - the name of the form, no secret
MAX_COUNT = 10_000
PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{1,40}")


@dataclass(frozen=True)
class Admission:
    """What a bulk token allows one machine.

    Attributes:
        token: The short id of the token, for the audit trail.
        certificate: PEM that was issued to the same key before, when its answer got lost; else empty.
    """

    permit: Permit
    token: str
    certificate: str = ""


def create(
    session: Session,
    prefix: str,
    *,
    count: int,
    labels: Mapping[str, str],
    authority: str,
    now: float,
    lifetime: float,
) -> str:
    """Return the text of a new token for ``count`` devices, ``msb1.<prefix>.<secret>.<authority>``.

    Raises:
        RequestError: No such number of devices, or ids that begin so are not legal.
    """
    if not 1 <= count <= MAX_COUNT:
        raise RequestError(f"a token admits 1 to {MAX_COUNT} devices, got {count}")
    if PREFIX.fullmatch(prefix) is None:
        raise RequestError(f"a prefix must match {PREFIX.pattern}, got {prefix[:80]!r}")
    secret = secrets.token_urlsafe(SECRET_BYTES)
    session.add(
        BulkToken(
            digest=_hash(prefix, secret),
            prefix=prefix,
            labels=dict(labels),
            count=count,
            created_at=milliseconds(now),
            expires_at=milliseconds(now + lifetime),
        )
    )
    return f"{TOKEN_FORM}.{prefix}.{secret}.{authority}"


def admit(session: Session, token: str, *, key: str, wanted: str | None, now: float) -> Admission:
    """Choose the id of one more device; a key that was admitted before is the same device.

    Args:
        session: Of the unit of work that also enrols the device and calls ``use``.
        token: As it was shown once.
        key: Fingerprint of the machine's key.
        wanted: The id that the machine asks for; None lets the controller number it.
        now: Unix seconds.

    Raises:
        ForbiddenError: Not a token of this controller, revoked, expired, or it admitted all its devices.
        ConflictError: The id that is asked for is taken, or has another prefix.
        MessageError: The id that is asked for is not legal.
    """
    row = _find(session, token, now)
    before = session.get(BulkUse, (row.digest, key))
    if before is not None:
        return Admission(Permit(before.device, dict(row.labels)), short(row.digest), before.certificate)
    if row.used >= row.count:
        raise ForbiddenError(f"the token admitted all its {row.count} devices", Reason.REPLAYED)
    taken = _taken(session, row.prefix, now)
    device = _number(row, taken) if wanted is None else _check_wanted(row, wanted, taken)
    return Admission(Permit(device, dict(row.labels)), short(row.digest))


def use(session: Session, token: str, *, key: str, device: str, certificate: str, now: float) -> None:
    """Count a device that was admitted, and keep what it was given."""
    row = _find(session, token, now)
    row.used += 1
    session.add(row)
    session.add(
        BulkUse(digest=row.digest, key=key, device=device, certificate=certificate, at=milliseconds(now))
    )


def short(digest: str) -> str:
    """Return the id by which people name a token; it tells nothing of its secret."""
    return digest[:12]


def _find(session: Session, token: str, now: float) -> BulkToken:
    parts = token.split(".")
    known = len(parts) == 4 and parts[0] == TOKEN_FORM  # noqa: PLR2004 - the form in create
    row = session.get(BulkToken, _hash(parts[1], parts[2])) if known else None
    if row is None:
        raise ForbiddenError("the enrolment token is not known; ask for a new one", Reason.UNSIGNED)
    if row.revoked_at is not None:
        raise ForbiddenError(f"the enrolment token of {row.prefix}* was revoked", Reason.UNSIGNED)
    if row.expires_at <= milliseconds(now):
        raise ForbiddenError(f"the enrolment token of {row.prefix}* has expired", Reason.EXPIRED)
    return row


def _taken(session: Session, prefix: str, now: float) -> set[str]:
    """Return every id with a prefix that is, or was promised to be, a device's."""
    live = milliseconds(now)
    queries = (
        select(Device.id).where(col(Device.id).startswith(prefix, autoescape=True)),
        select(EnrolmentToken.device).where(col(EnrolmentToken.expires_at) > live),
        # Whoever merely asks for an id does not take it from those who may have it.
        select(EnrolmentRequest.device).where(
            EnrolmentRequest.state == "accepted", col(EnrolmentRequest.expires_at) > live
        ),
    )
    return {device for query in queries for device in session.exec(query)}


def _number(row: BulkToken, taken: set[str]) -> str:
    width = len(str(row.count))
    ids = (f"{row.prefix}{number:0{width}}" for number in itertools.count(1))
    return check_device(next(device for device in ids if device not in taken))


def _check_wanted(row: BulkToken, wanted: str, taken: set[str]) -> str:
    if not check_device(wanted).startswith(row.prefix) or wanted == row.prefix:
        raise ConflictError(f"the token admits ids that begin with {row.prefix!r}, got {wanted!r}")
    if wanted in taken:
        raise ConflictError(f"{wanted} is taken: choose another id")
    return wanted


def _hash(prefix: str, secret: str) -> str:
    return hashlib.sha256(f"{TOKEN_FORM}.{prefix}.{secret}".encode()).hexdigest()

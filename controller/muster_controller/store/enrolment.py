"""Who may have a certificate: one-time tokens, the certificates that were issued for them, revocation.

The text of a token is shown once; only its hash is stored.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy
from sqlmodel import Session, col, select

from muster_controller.pki import Issued
from muster_controller.store import certificates, devices, untold
from muster_controller.store.engine import ask, table
from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import Device, EnrolmentToken
from muster_models.errors import ConflictError, ForbiddenError, NotFoundError, Reason
from muster_models.topics import check_device

TOKEN_FORM = "mst1"  # noqa: S105 - the name of the form, no secret
TOKEN_SECONDS = 24 * 3600.0
SECRET_BYTES = 24
_REVOKED = (
    sqlalchemy.select(table(Device).c.id)
    .where(table(Device).c.revoked_at.is_not(None))
    .order_by(table(Device).c.id)
)


@dataclass(frozen=True)
class Permit:
    """What a token allowed: one certificate for one device."""

    device: str
    labels: Mapping[str, str]


def create_token(
    session: Session,
    device: str,
    *,
    labels: Mapping[str, str],
    authority: str,
    now: float,
    lifetime: float = TOKEN_SECONDS,
    again: bool = False,
) -> str:
    """Return the text of a new one-time token, ``mst1.<device>.<secret>.<authority>``.

    ``authority`` is the SHA-256 of the CA certificate, in hex, which the device pins; ``lifetime`` is in
    seconds. Earlier tokens of the device that nobody used stop working. With ``again`` the token is for a
    device that is enrolled and lost its identity: its certificates are refused from now on.

    Raises:
        MessageError: Not a legal device id.
        ConflictError: The device is enrolled, and ``again`` was not asked for; or it was revoked, and a
            revoked name is spent.
        NotFoundError: ``again`` was asked for, and the device is not enrolled.
    """
    _check_free(session, check_device(device), again=again)
    if again:
        certificates.revoke_all(session, device, now)
    for unused in session.exec(
        select(EnrolmentToken).where(EnrolmentToken.device == device, col(EnrolmentToken.used_at).is_(None))
    ):
        session.delete(unused)
    secret = secrets.token_urlsafe(SECRET_BYTES)
    session.add(
        EnrolmentToken(
            digest=_hash(device, secret),
            device=device,
            labels=dict(labels),
            created_at=milliseconds(now),
            expires_at=milliseconds(now + lifetime),
            again=again,
        )
    )
    return f"{TOKEN_FORM}.{device}.{secret}.{authority}"


def consume_token(session: Session, token: str, now: float) -> Permit:
    """Use up a token. It stays unused when the unit of work fails, for instance because the request is bad.

    Raises:
        ForbiddenError: Not a token of this controller, used before, revoked, expired, or replaced by a newer
            one; or its device was enrolled by other means since.
    """
    parts = token.split(".")
    known = len(parts) == 4 and parts[0] == TOKEN_FORM  # noqa: PLR2004 - the form in create_token
    row = session.get(EnrolmentToken, _hash(parts[1], parts[2])) if known else None
    if row is None:
        raise ForbiddenError("the enrolment token is not known; ask for a new one", Reason.UNSIGNED)
    if row.revoked_at is not None:
        raise ForbiddenError(f"the enrolment token of {row.device} was revoked", Reason.UNSIGNED)
    if row.used_at is not None:
        raise ForbiddenError(f"the enrolment token of {row.device} was used before", Reason.REPLAYED)
    if row.expires_at <= milliseconds(now):
        raise ForbiddenError(f"the enrolment token of {row.device} has expired", Reason.EXPIRED)
    if not row.again and session.get(Device, row.device) is not None:
        raise ForbiddenError(f"{row.device} was enrolled by other means since", Reason.REPLAYED)
    row.used_at = milliseconds(now)
    session.add(row)
    return Permit(row.device, dict(row.labels))


def enrol(session: Session, permit: Permit, issued: Issued, now: float) -> None:
    """Remember a device with its first certificate, or, when it was replaced, with its new one alone."""
    row = session.get(Device, permit.device)
    if row is None:
        row = Device(
            id=permit.device, enrolled_at=milliseconds(now), certificate_serial="", certificate_expires=0
        )
    else:
        certificates.revoke_all(session, permit.device, now)
    row.labels = dict(permit.labels) or row.labels
    _hold(session, row, issued)
    devices.touch(session, [permit.device])
    untold.note(session, [permit.device])


def renew(session: Session, device: str, issued: Issued) -> None:
    """Remember the next certificate of a device; the present one stays good, because renewals overlap.

    Raises:
        ForbiddenError: The device is not enrolled, or was revoked.
    """
    row = session.get(Device, device)
    if row is None or row.revoked_at is not None:
        raise ForbiddenError(f"{device} is not enrolled", Reason.WRONG_DEVICE)
    _hold(session, row, issued)


def revoke(session: Session, device: str, now: float) -> None:
    """Refuse everything from a device from now on; its tokens stop working too.

    Raises:
        NotFoundError: No such device.
    """
    row = session.get(Device, device)
    if row is None:
        raise NotFoundError(f"no device {device!r}")
    row.revoked_at = row.revoked_at or milliseconds(now)
    session.add(row)
    devices.touch(session, [device])
    for token in session.exec(select(EnrolmentToken).where(EnrolmentToken.device == device)):
        token.revoked_at = token.revoked_at or milliseconds(now)
        session.add(token)
    certificates.revoke_all(session, device, now)


def is_free(session: Session, device: str) -> bool:
    """Tell whether an id was never a device's."""
    return session.get(Device, device) is None


def is_active(session: Session, device: str) -> bool:
    """Tell whether a device is enrolled and not revoked."""
    row = session.get(Device, device)
    return row is not None and row.revoked_at is None


def may_connect(session: Session, device: str, serial: str) -> bool:
    """Tell whether a device is enrolled and not revoked, and neither is the certificate that it shows."""
    return is_active(session, device) and certificates.is_good(session, device, serial)


def revoked(session: Session) -> tuple[str, ...]:
    """Return the ids of the devices that were revoked, in order: what the broker must refuse."""
    return tuple(ask(session, _REVOKED).scalars())


def _check_free(session: Session, device: str, *, again: bool) -> None:
    held = session.get(Device, device)
    if held is not None and held.revoked_at is not None:
        raise ConflictError(f"{device} was revoked, and a revoked name is not given again: choose another")
    if held is not None and not again:
        raise ConflictError(
            f"{device} is enrolled; if it lost its identity, make the token with --again, "
            "and its present certificate is refused from then on"
        )
    if held is None and again:
        raise NotFoundError(f"no device {device!r} to enrol again; make the token without --again")


def _hold(session: Session, row: Device, issued: Issued) -> None:
    row.certificate_serial = issued.serial
    row.certificate_expires = milliseconds(issued.expires)
    session.add(row)
    certificates.add(session, row.id, issued)


def _hash(device: str, secret: str) -> str:
    return hashlib.sha256(f"{device}.{secret}".encode()).hexdigest()

"""Which certificates of which devices are good: several of one device may be, because a renewal overlaps."""

from collections.abc import Mapping

import sqlalchemy
from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from muster_controller.pki import Issued
from muster_controller.store.engine import ask, table
from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import Certificate

_COLUMNS = table(Certificate).c
_REVOKED = (
    sqlalchemy.select(_COLUMNS.serial, _COLUMNS.device)
    .where(_COLUMNS.revoked_at.is_not(None), _COLUMNS.expires_at > bindparam("now"))
    .order_by(_COLUMNS.serial)
)


def add(session: Session, device: str, issued: Issued) -> None:
    """Remember a certificate as good; those that the device has stay as they are."""
    expires = milliseconds(issued.expires)
    session.merge(Certificate(device=device, serial=issued.serial, expires_at=expires, revoked_at=None))


def revoke_all(session: Session, device: str, now: float) -> None:
    """Refuse every certificate that a device has until now."""
    query = select(Certificate).where(Certificate.device == device, col(Certificate.revoked_at).is_(None))
    for row in session.exec(query):
        row.revoked_at = milliseconds(now)
        session.add(row)
    session.flush()


def is_good(session: Session, device: str, serial: str) -> bool:
    """Tell whether a certificate, whose signature and dates TLS has verified, was not revoked since."""
    row = session.get(Certificate, (device, serial))
    return row is not None and row.revoked_at is None


def revoked(session: Session, now: float) -> Mapping[str, str]:
    """Return the device of every revoked certificate that has not ended by itself, by serial (hex)."""
    return dict(ask(session, _REVOKED, now=milliseconds(now)).all())

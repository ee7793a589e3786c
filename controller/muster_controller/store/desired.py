"""The newest signed desired state of each device, and which ones still have to be sent."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import sqlalchemy
from sqlalchemy import bindparam, update
from sqlmodel import Session

from muster_controller.domain.desired import Held
from muster_controller.store import untold
from muster_controller.store.engine import ask, table, upsert
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import DesiredState, Device

_COLUMNS = table(DesiredState).c
_HELD = sqlalchemy.select(
    _COLUMNS.device, _COLUMNS.sequence, _COLUMNS.content, _COLUMNS.issued_at, _COLUMNS.expires_at
).where(_COLUMNS.device.in_(bindparam("devices", expanding=True)))
_SEQUENCE = sqlalchemy.select(_COLUMNS.sequence).where(_COLUMNS.device == bindparam("device"))
_UNSENT = (
    sqlalchemy.select(_COLUMNS.device, _COLUMNS.sequence, _COLUMNS.envelope)
    .join(table(Device), table(Device).c.id == _COLUMNS.device)
    .where(_COLUMNS.sent_at.is_(None), table(Device).c.revoked_at.is_(None))
    .limit(bindparam("limit"))
)
_SEND = update(table(DesiredState)).where(_COLUMNS.device == bindparam("to")).values(sent_at=None)
_MARK_SENT = (
    update(table(DesiredState))
    .where(_COLUMNS.device == bindparam("to"), _COLUMNS.sequence == bindparam("number"))
    .values(sent_at=bindparam("at"))
)


@dataclass(frozen=True)
class Signed:
    """A signed desired state.

    Attributes:
        content: Names what it says apart from sequence and times.
        issued, expires: Unix seconds.
    """

    device: str
    sequence: int
    envelope: bytes
    content: str
    issued: float
    expires: float


def held(session: Session, devices: Collection[str]) -> dict[str, Held]:
    """Return the newest desired state that was made for each of some devices, without its bytes."""
    return {
        device: Held(sequence, content, seconds(issued), seconds(expires))
        for device, sequence, content, issued, expires in ask(session, _HELD, devices=list(devices))
    }


def save(session: Session, states: Iterable[Signed]) -> None:
    """Make these the newest desired states of their devices; none of them counts as sent."""
    rows = [
        {
            "device": state.device,
            "sequence": state.sequence,
            "envelope": state.envelope,
            "content": state.content,
            "issued_at": milliseconds(state.issued),
            "expires_at": milliseconds(state.expires),
            "sent_at": None,
        }
        for state in states
    ]
    upsert(session, DesiredState, rows)


def sign_again(session: Session) -> None:
    """Let every desired state be signed and sent anew, as it must be when another key signs them."""
    session.execute(update(DesiredState).values(content=""))
    untold.note_all(session)


def send_again(session: Session, device: str, held: int) -> bool:
    """Mark a desired state to be sent when its device holds an older one; return whether it does.

    A device that holds a newer one than we know, or has none yet, is noted: a new one may have to be signed.
    """
    made = session.execute(_SEQUENCE, {"device": device}).scalar()
    if made is None or made < held:
        untold.note(session, [device])
        return False
    if made == held:
        return False
    session.execute(_SEND, {"to": device})
    return True


def unsent(session: Session, limit: int) -> list[tuple[str, int, bytes]]:
    """Return device, sequence and envelope of what must be sent to devices that were not revoked."""
    return [(device, sequence, envelope) for device, sequence, envelope in ask(session, _UNSENT, limit=limit)]


def mark_sent(session: Session, sent: Iterable[tuple[str, int]], now: float) -> None:
    """Note that these (device, sequence) were sent; one that was replaced meanwhile stays unsent."""
    at = milliseconds(now)
    rows = [{"to": device, "number": sequence, "at": at} for device, sequence in sent]
    if rows:
        session.connection().execute(_MARK_SENT, rows)

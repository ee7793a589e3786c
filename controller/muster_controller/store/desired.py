"""The newest signed desired state of each device, and which ones still have to be sent."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import sqlalchemy
from sqlalchemy import bindparam, update
from sqlmodel import Session, col, select

from muster_controller.domain.desired import Held
from muster_controller.store import untold
from muster_controller.store.engine import table, upsert
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.tables import DesiredState, Device


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
    columns = table(DesiredState).c
    query = sqlalchemy.select(
        columns.device, columns.sequence, columns.content, columns.issued_at, columns.expires_at
    ).where(columns.device.in_(devices))
    return {
        device: Held(sequence, content, seconds(issued), seconds(expires))
        for device, sequence, content, issued, expires in session.execute(query)
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
    columns = table(DesiredState).c
    made = session.execute(sqlalchemy.select(columns.sequence).where(columns.device == device)).scalar()
    if made is None or made < held:
        untold.note(session, [device])
        return False
    if made == held:
        return False
    session.execute(update(DesiredState).where(col(DesiredState.device) == device).values(sent_at=None))
    return True


def unsent(session: Session, limit: int) -> list[tuple[str, int, bytes]]:
    """Return device, sequence and envelope of what must be sent to devices that were not revoked."""
    query = (
        select(DesiredState.device, DesiredState.sequence, DesiredState.envelope)
        .join(Device, col(Device.id) == col(DesiredState.device))
        .where(col(DesiredState.sent_at).is_(None), col(Device.revoked_at).is_(None))
        .limit(limit)
    )
    return [(device, sequence, envelope) for device, sequence, envelope in session.exec(query)]


def mark_sent(session: Session, sent: Iterable[tuple[str, int]], now: float) -> None:
    """Note that these (device, sequence) were sent; one that was replaced meanwhile stays unsent."""
    columns = table(DesiredState).c
    statement = (
        update(table(DesiredState))
        .where(columns.device == bindparam("to"), columns.sequence == bindparam("number"))
        .values(sent_at=milliseconds(now))
    )
    rows = [{"to": device, "number": sequence} for device, sequence in sent]
    if rows:
        session.connection().execute(statement, rows)

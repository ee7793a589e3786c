"""How every device reports: what an operator ordered, or what the settings file says."""

from dataclasses import dataclass

import msgspec
import sqlalchemy
from sqlmodel import Session, delete

from muster_controller.store import untold
from muster_controller.store.engine import ask, table, upsert
from muster_controller.store.instants import milliseconds, seconds
from muster_controller.store.order_tables import ReportingRecord
from muster_models.wire import Reporting

_COLUMNS = table(ReportingRecord).c
_ORDERED = sqlalchemy.select(_COLUMNS.content, _COLUMNS.changed_at).where(_COLUMNS.id == 1)


@dataclass(frozen=True)
class Ordered:
    """What an operator ordered, and when (Unix seconds)."""

    reporting: Reporting
    changed_at: float


def ordered(session: Session) -> Ordered | None:
    """Return what an operator ordered; None where the settings file decides."""
    row = ask(session, _ORDERED).first()
    if row is None:
        return None
    content, changed_at = row
    return Ordered(msgspec.convert(content, Reporting), seconds(changed_at))


def current(session: Session, default: Reporting) -> Reporting:
    """Return how devices report; ``default`` is that of the settings file."""
    found = ordered(session)
    return default if found is None else found.reporting


def order(session: Session, reporting: Reporting, now: float) -> None:
    """Let every device report so from now on."""
    row = {"id": 1, "content": msgspec.to_builtins(reporting), "changed_at": milliseconds(now)}
    upsert(session, ReportingRecord, [row])
    untold.note_all(session)


def forget(session: Session) -> None:
    """Let the settings file decide again."""
    session.execute(delete(ReportingRecord))
    untold.note_all(session)

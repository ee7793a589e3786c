"""Devices that may have to be told something else: noted with what changed it, in the same transaction.

So a pass of the loop looks at these, and not at every device of the fleet. Whoever changes what a device
should be told notes it here; a note too many costs one look.
"""

from collections.abc import Collection, Iterable

import sqlalchemy
from sqlalchemy import bindparam, delete, insert
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from muster_controller.store.engine import ask, table
from muster_controller.store.order_tables import Untold
from muster_controller.store.tables import Assignment, Device

_AT_ONCE = 1_000
_COLUMNS = table(Untold).c
_FIRST = sqlalchemy.select(_COLUMNS.id, _COLUMNS.device).order_by(_COLUMNS.id).limit(bindparam("limit"))


def note(session: Session, devices: Iterable[str]) -> None:
    """Note devices."""
    rows = [{"device": device} for device in devices]
    if rows:
        session.execute(insert(table(Untold)), rows)


def note_model(session: Session, model: str) -> None:
    """Note every device that should run some version of a model."""
    _note(session, select(Assignment.device).where(Assignment.model == model))


def note_assigned(session: Session, rollout: int, since: int) -> None:
    """Note every device that a rollout assigned a version at one instant, Unix milliseconds."""
    _note(session, select(Assignment.device).where(Assignment.rollout == rollout, Assignment.since == since))


def note_all(session: Session) -> None:
    """Note every device that was not revoked."""
    _note(session, select(Device.id).where(col(Device.revoked_at).is_(None)))


def first(session: Session, limit: int) -> list[tuple[int, str]]:
    """Return the oldest notes, each with its number; a device may be among them more than once."""
    return [(number, device) for number, device in ask(session, _FIRST, limit=limit)]


def settle(session: Session, numbers: Collection[int]) -> None:
    """Forget notes, by their numbers; what was noted since stays."""
    wanted = sorted(numbers)
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        session.execute(delete(Untold).where(col(Untold.id).in_(part)))


def _note(session: Session, devices: SelectOfScalar[str]) -> None:
    target = table(Untold)
    session.execute(insert(target).from_select([target.c.device], devices))

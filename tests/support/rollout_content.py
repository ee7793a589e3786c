"""What a database says, apart from what a repeat may change: numbers of rows, random ids, counted tries."""

import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine, Table, select
from sqlmodel import Session, SQLModel

from muster_controller.store.engine import Reading, table
from muster_controller.store.tables import RolloutRecord, WindowRecord

Rows = list[dict[str, Any]]
# An undone transaction leaves a gap in PostgreSQL's numbers; a step that was decided twice, one in fences.
REPEATED = {
    "desiredstate": {"envelope"},  # signed anew
    "delivery": {"message", "tries"},
    "device": {"revision"},  # a number that grows when it is heard again
    "rollout": {"fence", "updated_at"},
    "audit": {"id"},
    "event": {"id"},
    "evidence": {"id"},
    "run": {"id"},
}


def content(engine: Engine, tables: Iterable[str] = ()) -> dict[str, Rows]:
    """Return the rows of some tables, or of every table, in their order."""
    known = SQLModel.metadata.tables
    with Reading(engine) as session:
        names = _Names(session)
        return {name: _rows(session, known[name], names) for name in sorted(tables or known)}


class _Names:
    """Calls rollouts and windows by their place in the order, not by their number."""

    def __init__(self, session: Session) -> None:
        self._rollouts = _numbers(session, RolloutRecord)
        self._windows = _numbers(session, WindowRecord)

    def rollout(self, number: int | None) -> int | None:
        """Return the place of a rollout; 0 and None are none."""
        return number if not number else bisect_right(self._rollouts, number)

    def window(self, number: int) -> int:
        """Return how many windows there are up to a number."""
        return bisect_right(self._windows, number)

    def within(self, value: Any) -> Any:
        """Return a document or a text with its rollouts and windows called by their places."""
        match value:
            case str():
                return re.sub(
                    r"(rollouts?[ /])(\d+)", lambda found: f"{found[1]}#{self.rollout(int(found[2]))}", value
                )
            case dict():
                return {key: self._named(key, one) for key, one in value.items()}
            case list():
                return [self.within(one) for one in value]
            case _:
                return value

    def _named(self, key: str, value: Any) -> Any:
        match key, value:
            case "rollout", int():
                return self.rollout(value)
            case "upto", int():
                return self.window(value)
            case "journal", list():  # entries as domain.rollouts.ledger writes them
                return [[kind, current, self.window(upto), *rest] for kind, current, upto, *rest in value]
            case "items", list():  # of what receivers are told: here, changes of rollouts
                return [{**self.within(item), "id": self.rollout(item["id"])} for item in value]
            case _:
                return self.within(value)


def _numbers(session: Session, model: type[SQLModel]) -> list[int]:
    return sorted(session.execute(select(table(model).c.id)).scalars())


def _rows(session: Session, one: Table, names: _Names) -> Rows:
    ordered = select(one).order_by(*one.primary_key)
    left_out = REPEATED.get(one.name, set()) | _numbered(one)
    found = session.execute(ordered).mappings()
    rows = [{key: value for key, value in row.items() if key not in left_out} for row in found]
    # The numbers of a watermark are the device's own.
    return rows if one.name == "watermark" else [names.within(row) for row in rows]


def _numbered(one: Table) -> set[str]:
    """Return the name of the column that the database numbers by itself."""
    column = one.autoincrement_column
    return set() if column is None else {column.name}

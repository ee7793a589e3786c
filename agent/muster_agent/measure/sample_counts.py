"""How many rows each order has had, in the outbox's database: no order gets more, whatever is started again.

The count is stored in the transaction that puts the rows into the outbox.
"""

import sqlite3
from collections.abc import Iterable

from muster_models.wire import Sample

_PREFIX = "sample:"


def rows_of(database: sqlite3.Connection, order: int) -> int:
    """Return how many rows an order has had."""
    return _fact(database, f"{_PREFIX}{order}:rows")


def count(database: sqlite3.Connection, sample: Sample, *, most: int) -> bool:
    """Count a message that answers an order; False where it must not be added.

    Args:
        most: Rows that the order may have in all. A reason why none come is told once.
    """
    order = f"{_PREFIX}{sample.order}:"
    if sample.reason is not None:
        name, more, most = f"{order}{sample.reason}", 1, 1
    else:
        name, more = f"{order}rows", sample.rows
    had = _fact(database, name)
    if had + more > most:
        return False
    database.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, had + more))
    return True


def forget_others(database: sqlite3.Connection, orders: Iterable[int]) -> None:
    """Forget every order but these."""
    held = {str(order) for order in orders}
    names = [name for (name,) in database.execute("SELECT name FROM fact WHERE name LIKE 'sample:%'")]
    gone = [(name,) for name in names if name.split(":")[1] not in held]
    database.executemany("DELETE FROM fact WHERE name = ?", gone)


def _fact(database: sqlite3.Connection, name: str) -> int:
    row = database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])

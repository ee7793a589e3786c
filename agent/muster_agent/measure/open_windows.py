"""Copies of windows that are still measured, in the outbox's database: what a killed agent does not lose.

A row stands for a recorder that runs, one for each version. It holds the newest copy of its open window, or
none since the last window ended. Ending a window and forgetting its copy is one transaction, so a window is
never handed out twice. Rows that are there at a start belong to an agent that was killed.
"""

import datetime as dt
import sqlite3
from dataclasses import dataclass

SCHEMA = """
CREATE TABLE IF NOT EXISTS open_window (
    grouping TEXT PRIMARY KEY,
    at REAL NOT NULL,
    payload BLOB
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Left:
    """What a killed agent left of one version.

    Attributes:
        at: Up to when it is known what was seen, Unix seconds.
        payload: The message of its open window; None where nothing was seen since the last one ended.
    """

    grouping: str
    at: float
    payload: bytes | None


def save(database: sqlite3.Connection, grouping: str, at: float, payload: bytes | None) -> None:
    """Keep a copy of the open window of a version; None says that a recorder has begun."""
    database.execute("INSERT OR REPLACE INTO open_window VALUES (?, ?, ?)", (grouping, at, payload))


def end(database: sqlite3.Connection, grouping: str, at: float) -> None:
    """Forget the copy of a window that ended; the version is measured on."""
    database.execute("UPDATE open_window SET at = ?, payload = NULL WHERE grouping = ?", (at, grouping))


def forget(database: sqlite3.Connection, grouping: str) -> None:
    """Forget a version that is measured no more."""
    database.execute("DELETE FROM open_window WHERE grouping = ?", (grouping,))


def take_all(database: sqlite3.Connection) -> list[Left]:
    """Return everything that was left, and forget it."""
    rows = database.execute("DELETE FROM open_window RETURNING grouping, at, payload").fetchall()
    return [Left(*row) for row in sorted(rows)]


def tell(left: Left, *, is_sent: bool, now: float) -> str:
    """Say what is lost of the windows of a killed agent, for an event."""
    until = dt.datetime.fromtimestamp(left.at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kept = "the open window was handed out up to then" if is_sent else "its windows before are kept"
    seconds = max(0.0, now - left.at)
    return f"the agent was killed: what it saw from {until} on, at most {seconds:.0f} s, is lost; {kept}"

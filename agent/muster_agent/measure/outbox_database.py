"""The database file of the outbox: opened, checked, and put aside when it is damaged."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from muster_agent.measure import open_windows
from muster_models.durable import refusal
from muster_models.errors import Reason, StorageError

# A message is a few hundred bytes and touches some fifteen pages on its way, which go into the log whole;
# with SQLite's usual 4,096 a device writes more than twice as much in a day, see benchmarks/wear.py.
PAGE_BYTES = 1024
_SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sequence INTEGER UNIQUE,
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    grouping TEXT NOT NULL,
    parts INTEGER NOT NULL,
    is_fixed INTEGER NOT NULL DEFAULT 0,
    payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS waiting ON message (kind, grouping, id, parts, is_fixed) WHERE sequence IS NULL;
CREATE INDEX IF NOT EXISTS waiting_age ON message (kind, at) WHERE sequence IS NULL;
"""

_log = logging.getLogger(__name__)


def open_or_begin(path: Path, draw: Callable[[], int]) -> tuple[sqlite3.Connection, bool]:
    """Return the database at ``path``, and whether one that was damaged had to be put aside for it.

    Args:
        draw: Returns the epoch of a new one.

    Raises:
        sqlite3.OperationalError: The file is locked or unreadable, or the disk is full.
        OSError: The damaged file could not be put aside.
    """
    try:
        return _open(path, draw), False
    except sqlite3.OperationalError:
        raise  # locked, full or unreadable: not damaged
    except sqlite3.DatabaseError as error:
        _log.warning("the outbox %s is damaged and put aside: %s", path, error)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.replace(path.with_name(path.name + ".damaged"))
        return _open(path, draw), True


def _open(path: Path | str, draw: Callable[[], int]) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file; an older one keeps what it has
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)  # noqa: TRY301 - damage found by asking is damage too
        database.executescript(_SCHEMA + open_windows.SCHEMA)
        facts = (("epoch", draw()), ("last", 0), ("merged", 0), ("dropped", 0))
        database.executemany("INSERT OR IGNORE INTO fact VALUES (?, ?)", facts)
    except BaseException:
        database.close()
        raise
    return database


def hold(draw: Callable[[], int]) -> sqlite3.Connection:
    """Return a database in memory, for as long as the disk can hold none."""
    return _open(":memory:", draw)


def move(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Put every message of one database behind those of another; each gets its number there.

    Raises:
        sqlite3.OperationalError: The disk refused; nothing was moved.
    """
    columns = "kind, at, grouping, parts, is_fixed, payload"
    rows = source.execute(f"SELECT {columns} FROM message ORDER BY id").fetchall()  # noqa: S608 - constant
    with target:
        target.execute("BEGIN IMMEDIATE")
        target.executemany(
            f"INSERT INTO message ({columns}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant
            rows,
        )


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn whatever SQLite or the operating system refuses into a ``StorageError`` that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        reason = Reason.NO_SPACE if full else Reason.STORAGE_FAILED
        raise StorageError(f"{path.name}: {error}", reason) from error
    except OSError as error:
        raise refusal(error, path.name) from error

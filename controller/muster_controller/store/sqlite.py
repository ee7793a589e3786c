"""What is SQLite's own: the file and how it is kept, its transactions, its upserts, its log."""

import sqlite3
from collections.abc import Callable, Hashable
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from muster_models.errors import StorageError


def open_file(path: Path, *, busy_seconds: float) -> Engine:
    """Open the database file, which is made when it does not exist.

    Raises:
        StorageError: The file cannot be opened or is not a database.
    """
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": busy_seconds})
    event.listen(engine, "connect", _prepare)
    try:
        with engine.connect():
            pass
    except Exception as error:
        engine.dispose()
        raise StorageError(f"{path}: {getattr(error, 'orig', error)}") from error
    return engine


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # Transactions begin where ``begin`` says so, not at the first statement that the driver thinks writes.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: a device forgets what the watermark covers, so a commit must survive a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def begin(connection: Connection, *, writes: bool) -> None:
    """Begin a transaction; one that will write takes its lock at once: it never fails half way for it."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def insert(target: Table) -> Insert:
    """Return an insertion that can say what becomes of a row whose key is there."""
    return insert_sqlite(target)


def overwrite_deleted(connection: Connection) -> None:
    """Let what this transaction deletes be overwritten with zeros."""
    connection.exec_driver_sql("PRAGMA secure_delete = ON")


def erase_deleted(engine: Engine, _table: Table) -> None:
    """Empty the log, as far as nobody reads at this moment; later commits empty it too."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    finally:
        connection.close()


def last_number(connection: Connection, table: Table) -> int:
    """Return the last number that a row of a table got; 0 where the table's numbers are given anew."""
    found = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,))
    return int(found.scalar() or 0)


def set_last_number(connection: Connection, table: Table, number: int) -> None:
    """Let the next row of a table get a higher number, where a table's numbers are given only once."""
    if table.dialect_options["sqlite"]["autoincrement"]:
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
        row = (table.name, number)
        connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", row)


def looker(engine: Engine) -> Callable[[], Hashable]:
    """Return what tells whether another connection has committed since."""
    connection = engine.raw_connection()

    def look() -> Hashable:
        cursor = connection.cursor()
        version: int = cursor.execute("PRAGMA data_version").fetchone()[0]
        cursor.close()
        return version

    return look


def describe(_engine: Engine) -> str:
    """Return which program reads the file."""
    return f"SQLite {sqlite3.sqlite_version}"

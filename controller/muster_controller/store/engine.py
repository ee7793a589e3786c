"""The database: opening it, bringing its tables up to date, and one transaction at a time.

Only this module knows that it is SQLite.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlmodel import Session, SQLModel

from muster_models.errors import StorageError

BUSY_SECONDS = 30.0  # how long a transaction waits for the one that writes
MIGRATIONS = Path(__file__).parent / "migrations"
_WRITES = "muster_writes"


def open_database(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """Open the database file, which is made when it does not exist; ``migrate`` makes its tables.

    Raises:
        StorageError: The file cannot be opened or is not a database.
    """
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": busy_seconds})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    try:
        engine.connect().close()
    except Exception as error:
        engine.dispose()
        raise StorageError(f"{path}: {getattr(error, 'orig', error)}") from error
    return engine


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # Transactions begin where ``_begin`` says so, not at the first statement that the driver thinks writes.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: a device forgets what the watermark covers, so a commit must survive a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    # A transaction that will write takes its lock at once: it waits for its turn, and never fails half way.
    writes = connection.get_execution_options().get(_WRITES, True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def migrate(engine: Engine) -> None:
    """Bring the tables to the form this program needs, in one transaction.

    Raises:
        StorageError: The database was written by a newer Muster.
    """
    _run_alembic(engine, "upgrade", "head")


def unmigrate(engine: Engine, revision: str) -> None:
    """Bring the tables back to an earlier form (``base``: none); what that form cannot hold is lost."""
    _run_alembic(engine, "downgrade", revision)


def _run_alembic(engine: Engine, direction: str, revision: str) -> None:
    config = Config()
    # Percent signs are interpolated by the configuration's format.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            getattr(command, direction)(config, revision)
    except CommandError as error:
        raise StorageError(f"the database does not fit this version of Muster: {error}") from error


class Unit:
    """One unit of work: everything inside is stored together, or nothing is when an error leaves it.

    ``with Unit(engine) as session:`` hands out the session that every function of the store takes. Units
    write one after the other; a unit that only reads is a ``Reading``, which nothing holds up.
    """

    writes = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(**{_WRITES: self.writes})

    def __enter__(self) -> Session:
        self._session = Session(self._engine, expire_on_commit=False)
        try:
            self._session.connection()  # begins now, and waits now for whoever writes
        except BaseException:
            self._session.close()
            raise
        return self._session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
            else:
                self._session.rollback()
        finally:
            self._session.close()

    def _commit(self) -> None:
        try:
            self._session.commit()
        except BaseException:
            # A disk that refuses a commit may leave the transaction open: the connection is spent.
            self._session.invalidate()
            raise


class Reading(Unit):
    """A consistent view of the database that waits for nobody and writes nothing."""

    writes = False


def insert_new(session: Session, model: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; those whose key is already there stay as they are."""
    if rows:
        session.execute(insert(table(model)).on_conflict_do_nothing(), list(rows))


def upsert(session: Session, model: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or replace the given columns of those whose key is already there."""
    if not rows:
        return
    target = table(model)
    statement: Insert = insert(target)
    keys = [column.name for column in target.primary_key]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    session.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), list(rows))


def table(model: type[SQLModel]) -> Table:
    """Return the table behind a row class."""
    found = SQLModel.metadata.tables[str(model.__tablename__)]
    assert isinstance(found, Table)
    return found


def overwrite_deleted(session: Session) -> None:
    """Let what this transaction deletes be overwritten, and not only be marked as free."""
    session.connection().exec_driver_sql("PRAGMA secure_delete = ON")


def erase_log(engine: Engine) -> None:
    """Empty the log of past transactions, as far as nobody reads at this moment; later ones empty it too."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    finally:
        connection.close()


class Changes:
    """A number that changes whenever another connection commits: a cheap way to notice that there is news."""

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.raw_connection()

    def number(self) -> int:
        """Return the number now; only its being different from before says something."""
        cursor = self._connection.cursor()
        number: int = cursor.execute("PRAGMA data_version").fetchone()[0]
        cursor.close()
        return number

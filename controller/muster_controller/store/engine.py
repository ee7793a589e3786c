"""The database: opening it, bringing its tables up to date, and one transaction at a time.

Which database it is, and what is its own, only ``sqlite`` and ``postgres`` know.
"""

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Executable, Result, Table, event, inspect
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlmodel import Session, SQLModel

from muster_controller.store import postgres, sqlite
from muster_models.errors import StorageError

BUSY_SECONDS = 30.0  # how long a transaction waits for the one that writes
MIGRATIONS = Path(__file__).parent / "migrations"
_WRITES = "muster_writes"


class _Kind(Protocol):
    """What each database does in a way of its own."""

    def begin(self, connection: Connection, *, writes: bool) -> None: ...

    def insert(self, target: Table, /) -> PostgresInsert | SqliteInsert: ...

    def overwrite_deleted(self, connection: Connection, /) -> None: ...

    def erase_deleted(self, engine: Engine, target: Table, /) -> None: ...

    def last_number(self, connection: Connection, target: Table, /) -> int: ...

    def set_last_number(self, connection: Connection, target: Table, number: int, /) -> None: ...

    def looker(self, engine: Engine) -> Callable[[], Hashable]: ...

    def describe(self, engine: Engine) -> str: ...


_KINDS: Mapping[str, _Kind] = {"sqlite": sqlite, "postgresql": postgres}


def open_database(place: Path | str, *, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """Open the database, whose tables ``migrate`` makes.

    Args:
        place: A file of SQLite, which is made when it does not exist, or the URL of a PostgreSQL database.
        busy_seconds: How long a transaction waits for the one that writes.

    Raises:
        InvalidInputError: The URL is not one of PostgreSQL.
        StorageError: The file cannot be opened or is not a database; the server does not answer or refuses.
    """
    if isinstance(place, Path):
        engine = sqlite.open_file(place, busy_seconds=busy_seconds)
    else:
        engine = postgres.open_url(place, busy_seconds=busy_seconds)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, True)
    _KINDS[connection.dialect.name].begin(connection, writes=writes)


def is_empty(engine: Engine) -> bool:
    """Tell whether the database has no tables yet."""
    with engine.connect() as connection:
        return not inspect(connection).get_table_names()


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
        self._engine = engine

    def __enter__(self) -> Session:
        self._session = Session(self._engine, expire_on_commit=False)
        try:
            # Begins now, and waits now for whoever writes.
            self._session.connection(execution_options={_WRITES: self.writes})
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


def ask(session: Session, statement: Executable, **asked: object) -> Result[*tuple[Any, ...]]:
    """Run a statement over tables, made once, after what the session still holds back.

    One that is made anew for every call costs three times as much, and one over row classes twice; by way of
    the session, which would look for row classes in it, a sixth more.
    """
    session.flush()
    return session.connection().execute(statement, asked)


def insert_new(session: Session, model: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; those whose key is already there stay as they are."""
    if rows:
        session.execute(_insertion(_dialect(session), model), list(rows))


def upsert(session: Session, model: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or replace the given columns of those whose key is already there."""
    if rows:
        session.execute(_replacement(_dialect(session), model, tuple(rows[0])), list(rows))


def table(model: type[SQLModel]) -> Table:
    """Return the table behind a row class."""
    found = SQLModel.metadata.tables[str(model.__tablename__)]
    assert isinstance(found, Table)
    return found


def overwrite_deleted(session: Session) -> None:
    """Let what this transaction deletes be overwritten, and not only be marked as free."""
    connection = session.connection()
    _KINDS[connection.dialect.name].overwrite_deleted(connection)


def erase_deleted(engine: Engine, model: type[SQLModel]) -> None:
    """Erase what was deleted of a table from the files, as far as nobody reads it at this moment."""
    _KINDS[engine.dialect.name].erase_deleted(engine, table(model))


def last_number(session: Session, target: Table) -> int:
    """Return the last number that a row of a table got, also one that was removed since; 0 for none."""
    connection = session.connection()
    return _KINDS[connection.dialect.name].last_number(connection, target)


def set_last_number(session: Session, target: Table, number: int) -> None:
    """Let the next row of a table that the database numbers get a number above ``number``."""
    connection = session.connection()
    _KINDS[connection.dialect.name].set_last_number(connection, target, number)


def describe(engine: Engine) -> str:
    """Return in a few words which database it is, and whether it answers."""
    return _KINDS[engine.dialect.name].describe(engine)


class Changes:
    """A number that changes whenever another connection commits: a cheap way to notice that there is news."""

    def __init__(self, engine: Engine) -> None:
        self._look = _KINDS[engine.dialect.name].looker(engine)
        self._seen: Hashable = None
        self._number = 0

    def number(self) -> int:
        """Return the number now; only its being different from before says something."""
        seen = self._look()
        if seen != self._seen:
            self._seen, self._number = seen, self._number + 1
        return self._number


def _dialect(session: Session) -> str:
    return session.connection().dialect.name


@functools.cache
def _insertion(dialect: str, model: type[SQLModel]) -> PostgresInsert | SqliteInsert:
    return _KINDS[dialect].insert(table(model)).on_conflict_do_nothing()


@functools.cache
def _replacement(
    dialect: str, model: type[SQLModel], names: tuple[str, ...]
) -> PostgresInsert | SqliteInsert:
    """Return the insertion of rows with these columns that replaces those of the same key."""
    target = table(model)
    statement = _KINDS[dialect].insert(target)
    keys = [column.name for column in target.primary_key]
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)

"""What is PostgreSQL's own: how it is reached, its types, its transactions, its upserts.

Tables mean the same as in SQLite: whole numbers have 64 bits, text sorts by its bytes, documents are the text
that was given. The driver is in the extra ``postgres``, and is imported only when a database is opened.
"""

import logging
import math
from collections.abc import Callable, Hashable
from typing import Any

from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    Connection,
    Engine,
    Integer,
    String,
    Table,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.postgresql.base import PGTypeCompiler
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from muster_models.errors import InvalidInputError, Reason, StorageError

OLDEST = 130_000  # the first release that has pg_current_snapshot, as the server counts
CONNECT_SECONDS = 10
IDLE_SECONDS = (
    60.0  # a transaction whose process hangs is undone by the server, so that others get their turn
)
WRITING = 0x4D757374  # the number of the lock that one writer holds: "Must"
DRIVERS = ("postgresql", "postgres", "postgresql+psycopg")
READ_COMMITTED, REPEATABLE_READ = 2, 3  # as psycopg counts
_NONE = "AUTOCOMMIT"  # each statement for itself
_log = logging.getLogger(__name__)


def open_url(text: str, *, busy_seconds: float) -> Engine:
    """Reach a database; it must exist and its user own it.

    Raises:
        InvalidInputError: The URL is not one of PostgreSQL.
        StorageError: The driver is not installed, the server does not answer or refuses, or cannot serve.
    """
    url = parse_url(text)
    shown = url.set(drivername="postgresql").render_as_string(hide_password=True)
    registry.register("postgresql.muster", __name__, "Postgres")
    try:
        engine = create_engine(
            url.set(drivername="postgresql+muster"),
            pool_pre_ping=True,  # the server may have been restarted
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "muster",
                "client_encoding": "utf8",
            },
        )
    except ModuleNotFoundError as error:
        raise StorageError(f"{shown}: expected psycopg; install muster-fleet[postgres]") from error
    event.listen(engine, "connect", _Preparing(busy_seconds).prepare)
    try:
        with engine.connect() as connection:
            _check_server(connection, shown)
    except DBAPIError as error:
        engine.dispose()
        raise StorageError(f"{shown}: {str(error.orig).strip()}") from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def parse_url(text: str) -> URL:
    """Return what a setting names.

    Raises:
        InvalidInputError: It is no URL of PostgreSQL; a password in it is not repeated.
    """
    expected = "expected postgresql://USER@HOST:PORT/DATABASE"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise InvalidInputError(Reason.BAD_SETTING, f"database: {expected}") from error
    if url.drivername not in DRIVERS:
        raise InvalidInputError(Reason.BAD_SETTING, f"database: {expected}, got {url.drivername!r}")
    if not url.database:
        raise InvalidInputError(Reason.BAD_SETTING, f"database: {expected}, got no name of a database")
    return url


def _check_server(connection: Connection, shown: str) -> None:
    version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    if version < OLDEST:
        raise StorageError(f"{shown}: expected PostgreSQL 13 or newer, got {version // 10_000}")
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise StorageError(f"{shown}: expected the encoding UTF8, got {encoding}")


class _Preparing:
    """Makes each new connection what the store expects."""

    def __init__(self, busy_seconds: float) -> None:
        settings = {
            "lock_timeout": f"{math.ceil(busy_seconds * 1000)}ms",
            "idle_in_transaction_session_timeout": f"{math.ceil(IDLE_SECONDS * 1000)}ms",
            # A device forgets what the watermark covers, so a commit must survive a power cut.
            "synchronous_commit": "on",
            # A machine that lost its power says no farewell, and its transaction must not hold others up.
            "tcp_keepalives_idle": "15",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        }
        self._statement = "; ".join(f"SET {name} = '{value}'" for name, value in settings.items())

    def prepare(self, connection: Any, _record: object) -> None:
        """Set what holds for the whole session, and how answers are read."""
        connection.autocommit = True
        connection.execute(self._statement)
        connection.autocommit = False
        connection.adapters.register_loader("numeric", _Sum)
        connection.adapters.register_loader("json", _AsText)


class _Sum:
    """Reads what a sum of whole numbers is; no column has fractions of ten."""

    format = 0  # text

    def __init__(self, _oid: int, _context: object = None) -> None:
        """Keep nothing."""

    def load(self, data: bytes | bytearray | memoryview) -> float:
        """Return a number of Python's own."""
        text = bytes(data).decode()
        return float(text) if "." in text or "N" in text else int(text)


class _AsText:
    """Reads documents as text, of which SQLAlchemy makes values."""

    format = 0  # text

    def __init__(self, _oid: int, _context: object = None) -> None:
        """Keep nothing."""

    def load(self, data: bytes | bytearray | memoryview) -> str:
        """Return the text."""
        return bytes(data).decode()


class _Whole(BigInteger):
    """A whole number, sent without a cast: some functions of the server take 32 bits."""


class _Text(String):
    render_bind_cast = True

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None]:  # noqa: ARG002 - SQLAlchemy's form
        """Replace the one sign that this server has no place for: a device may send it."""
        return lambda value: value.replace("\0", "\ufffd") if isinstance(value, str) else value


class _Document(JSON):
    render_bind_cast = True


class _Types(PGTypeCompiler):
    """Names of types, in tables and in casts."""

    def visit_INTEGER(self, type_: Any, **kw: Any) -> str:  # noqa: ARG002, N802 - SQLAlchemy's form
        """64 bits, as in SQLite: times are in milliseconds."""
        return "BIGINT"

    def visit_VARCHAR(self, type_: Any, **kw: Any) -> str:  # noqa: ARG002, N802 - SQLAlchemy's form
        """Text; a table's sorts by its bytes, whatever the language of the server is."""
        return 'VARCHAR COLLATE "C"' if "type_expression" in kw else "VARCHAR"

    def visit_JSON(self, type_: Any, **kw: Any) -> str:  # noqa: ARG002, N802 - SQLAlchemy's form
        """Text: documents are only read whole, and some hold NaN, which the server's JSON has no word for."""
        return "TEXT"


class Postgres(PGDialect_psycopg):
    """PostgreSQL by psycopg, with the types above."""

    supports_statement_cache = True
    # Documents are text here, which the driver knows nothing else about.
    supports_native_json_serialization = supports_native_json_deserialization = False
    type_compiler_cls = _Types
    colspecs = {**PGDialect_psycopg.colspecs, Integer: _Whole, String: _Text, JSON: _Document}  # noqa: RUF012 - SQLAlchemy's form


def begin(connection: Connection, *, writes: bool) -> None:
    """Begin a transaction. One that will write waits for its turn, and then sees all that others committed.

    The lock is not a row's, so that readers go on, and the server lets go of it when the transaction ends,
    however it ends. Each statement must see what was committed before the lock was got: READ COMMITTED.
    """
    if connection.get_execution_options().get("isolation_level") == _NONE:
        return
    driver: Any = connection.connection.driver_connection
    driver.read_only = not writes
    driver.isolation_level = READ_COMMITTED if writes else REPEATABLE_READ
    if writes:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITING})")


def insert(target: Table) -> Insert:
    """Return an insertion that can say what becomes of a row whose key is there."""
    return insert_postgresql(target)


def overwrite_deleted(_connection: Connection) -> None:
    """Do nothing yet: ``erase_deleted`` writes the table anew."""


def erase_deleted(engine: Engine, table: Table) -> None:
    """Write a table anew without what was deleted, and remove the old file; the log is the server's."""
    with engine.execution_options(isolation_level=_NONE).connect() as connection:
        try:
            connection.exec_driver_sql(f'VACUUM (FULL) "{table.name}"')
        except OperationalError as error:  # somebody reads it for long: the server reuses the space later
            _log.warning("deleted rows of %s are not erased yet: %s", table.name, error.orig)


def last_number(connection: Connection, table: Table) -> int:
    """Return the last number that a row of a table got."""
    sequence = _sequence(connection, table)
    if sequence is None:
        return 0
    found = connection.exec_driver_sql(f"SELECT last_value, is_called FROM {sequence}").one()  # noqa: S608 - the server's own word
    return int(found.last_value) if found.is_called else 0


def set_last_number(connection: Connection, table: Table, number: int) -> None:
    """Let the next row of a table get a higher number, and one above those that are there."""
    sequence, column = _sequence(connection, table), table.autoincrement_column
    if sequence is not None and column is not None:
        highest = f'SELECT coalesce(max("{column.name}"), 0) FROM "{table.name}"'  # noqa: S608 - our own names
        last = max(number, connection.exec_driver_sql(highest).scalar_one())
        if last > 0:
            connection.exec_driver_sql("SELECT setval(%s, %s)", (sequence, last))


def _sequence(connection: Connection, table: Table) -> str | None:
    """Return what numbers the rows of a table."""
    if table.autoincrement_column is None:
        return None
    names = (f'"{table.name}"', table.autoincrement_column.name)
    found = connection.exec_driver_sql("SELECT pg_get_serial_sequence(%s, %s)", names).scalar_one()
    return None if found is None else str(found)


def looker(engine: Engine) -> Callable[[], Hashable]:
    """Return what tells whether somebody has committed since: which transactions a reader would see now."""

    def look() -> Hashable:
        try:
            with engine.execution_options(isolation_level=_NONE).connect() as connection:
                return str(connection.exec_driver_sql("SELECT pg_current_snapshot()::text").scalar_one())
        except DBAPIError:
            return None  # the server is away: that is a change, and so is its coming back

    return look


def describe(engine: Engine) -> str:
    """Return which server it is, or that it does not answer."""
    try:
        with engine.execution_options(isolation_level=_NONE).connect() as connection:
            return f"PostgreSQL {connection.exec_driver_sql('SHOW server_version').scalar_one()}"
    except DBAPIError as error:
        return f"PostgreSQL does not answer: {str(error.orig).strip()}"

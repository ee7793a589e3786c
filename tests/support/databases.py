"""Which database a test has: a file of SQLite, or a database of a real PostgreSQL server.

A test of what both must do is marked ``database_marks.BOTH`` and asks ``place`` where its database is.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from muster_controller.store.engine import migrate, open_database

if TYPE_CHECKING:
    from support.postgres import Cluster

ROOT = Path(__file__).parents[2]
KINDS = ("sqlite", "postgres")


class _Now:
    """What the test that runs at this moment has.

    Attributes:
        cluster: The server, once a test needed it; one for all tests of a process.
        urls: Databases that were made, by the folder that they are for.
        template: A database with all tables and no rows.
    """

    def __init__(self) -> None:
        self.kind = "sqlite"
        self.cluster: Cluster | None = None
        self.urls: dict[Path, str] = {}
        self.template = ""


_now = _Now()


def place(folder: Path) -> Path | str:
    """Return where the database of a folder is, in the form that ``open_database`` takes."""
    if _now.kind == "sqlite":
        return folder / "database.sqlite"
    if folder not in _now.urls:
        _now.urls[folder] = cluster().create()
    return _now.urls[folder]


def place_with_tables(folder: Path) -> Path | str:
    """Return where the database of a folder is; on a server it has its tables already, which is quicker."""
    if _now.kind == "sqlite" or folder in _now.urls:
        return place(folder)
    if not _now.template:
        _now.template = cluster().create()
        engine = open_database(_now.template)
        migrate(engine)
        engine.dispose()
    _now.urls[folder] = cluster().create(template=_now.template)
    return _now.urls[folder]


def setting(folder: Path) -> str:
    """Return what the setting ``database`` of a controller in a folder must be."""
    where = place(folder)
    return "" if isinstance(where, Path) else where


def parse_place(text: str) -> Path | str:
    """Return what ``place`` returned, from its text: what a child process is told."""
    return text if "://" in text else Path(text)


def copy(where: Path | str, folder: Path) -> Path | str:
    """Return a copy of a database that nobody is connected to; ``folder`` is for a file."""
    if isinstance(where, str):
        return cluster().create(template=where)
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(where, folder / "database.sqlite"))


def discard(where: Path | str) -> None:
    """Remove a database, whoever is connected to it."""
    if isinstance(where, str):
        cluster().drop(where)
    else:
        for path in where.parent.glob(f"{where.name}*"):
            path.unlink()


def child_environment() -> dict[str, str]:
    """Return the environment in which a child process finds the program and the support of tests."""
    paths = (str(ROOT / name) for name in ("models", "agent", "controller", "tests", "scripts"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def cluster() -> "Cluster":
    """Return the server, which is started when it is first needed."""
    if _now.cluster is None:
        from support.postgres import Cluster  # noqa: PLC0415 - benchmarks have no driver of it

        _now.cluster = Cluster()
    return _now.cluster


def is_postgres() -> bool:
    """Tell whether the test that runs has PostgreSQL."""
    return _now.kind == "postgres"


@contextlib.contextmanager
def using(kind: str) -> Iterator[None]:
    """Let a test have a kind of database; what it has made and opened is removed and closed at its end."""
    opened: list[Any] = []

    def note(connection: Any, _record: object) -> None:
        # A file's connection may belong to what several tests share.
        if not isinstance(connection, sqlite3.Connection):
            opened.append(connection)

    outer = _now.kind, _now.urls
    _now.kind, _now.urls = kind, {}
    event.listen(Pool, "connect", note)
    try:
        yield
    finally:
        event.remove(Pool, "connect", note)
        for connection in opened:
            connection.close()
        for url in _now.urls.values():
            cluster().drop(url)
        _now.kind, _now.urls = outer


def stop() -> None:
    """Stop the server, if one was started by this process."""
    if _now.cluster is not None and _now.cluster.pid == os.getpid():
        _now.cluster.stop()
        _now.cluster, _now.template = None, ""

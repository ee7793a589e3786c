"""What is SQLite's own: the file, its log, its lock."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from muster_controller.store.engine import Unit, migrate, open_database
from muster_models.errors import StorageError


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_database(tmp_path / "database.sqlite")
    migrate(engine)
    return engine


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "database.sqlite").write_bytes(b"this is a letter, not a database" * 100)

    with pytest.raises(StorageError, match=r"database\.sqlite: file is not a database"):
        open_database(tmp_path / "database.sqlite")


def test_a_commit_is_synced_and_written_ahead(engine: Engine) -> None:
    with engine.connect() as connection:
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()

    assert (journal, synchronous) == ("wal", 2)


def test_a_database_that_somebody_else_holds_is_reported_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    engine = open_database(path, busy_seconds=0.05)
    migrate(engine)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(OperationalError, match="locked"), Unit(engine):
        pass

    other.close()

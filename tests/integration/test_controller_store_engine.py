"""The database on a real disk: its tables come and go with its data, and a unit of work is all or nothing."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect
from sqlmodel import Session, SQLModel, select

from muster_controller.store.engine import Reading, Unit, migrate, open_database, unmigrate, upsert
from muster_controller.store.tables import StopOrder
from muster_models.errors import StorageError
from support import databases
from support.database_marks import BOTH
from support.databases import child_environment

pytestmark = BOTH


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_database(databases.place(tmp_path))
    migrate(engine)
    return engine


def stopped(engine: Engine) -> list[str]:
    with Reading(engine) as session:
        return sorted(order.model for order in session.exec(select(StopOrder)))


def stop(session: Session, model: str) -> None:
    session.add(StopOrder(model=model, at=1))


def test_migrations_lead_to_exactly_the_tables_of_the_program(engine: Engine) -> None:
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)

    assert differences == []


def test_the_tables_can_be_made_removed_and_made_again(engine: Engine) -> None:
    with Unit(engine) as session:
        stop(session, "digits")

    unmigrate(engine, "base")

    assert inspect(engine).get_table_names() == ["alembic_version"]

    migrate(engine)

    assert stopped(engine) == []


def test_migrating_again_keeps_what_is_there(engine: Engine) -> None:
    with Unit(engine) as session:
        stop(session, "digits")

    migrate(engine)

    assert stopped(engine) == ["digits"]


def test_a_database_of_a_newer_program_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(StorageError, match="does not fit this version of Muster"):
        migrate(engine)


def test_a_unit_that_fails_leaves_nothing_behind(engine: Engine) -> None:
    def fail() -> None:
        with Unit(engine) as session:
            stop(session, "digits")
            session.flush()
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()

    assert stopped(engine) == []


def test_a_reading_cannot_be_held_up_by_a_unit_and_does_not_see_its_work(engine: Engine) -> None:
    with Unit(engine) as session:
        stop(session, "digits")
        session.flush()

        assert stopped(engine) == []

    assert stopped(engine) == ["digits"]


def test_a_reading_sees_one_instant(engine: Engine) -> None:
    with Reading(engine) as reading:
        before = reading.exec(select(StopOrder)).all()
        with Unit(engine) as session:
            stop(session, "digits")
        after = reading.exec(select(StopOrder)).all()

    assert (before, after) == ([], [])


def test_units_of_two_threads_take_their_turn(engine: Engine) -> None:
    """Each reads, then writes what it read plus one; without turns, numbers would be lost."""
    with Unit(engine) as session:
        upsert(session, StopOrder, [{"model": "digits", "at": 0}])

    def count() -> None:
        for _ in range(20):
            with Unit(engine) as session:
                order = session.get_one(StopOrder, "digits")
                order.at += 1
                session.add(order)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with Reading(engine) as session:
        assert session.get_one(StopOrder, "digits").at == 60


def test_a_process_killed_within_a_unit_leaves_what_was_committed(tmp_path: Path) -> None:
    place = databases.place(tmp_path)
    program = (
        "import os, sys\n"
        "from muster_controller.store.engine import Unit, migrate, open_database\n"
        "from muster_controller.store.tables import StopOrder\n"
        "from support.databases import parse_place\n"
        "engine = open_database(parse_place(sys.argv[1])); migrate(engine)\n"
        "with Unit(engine) as session: session.add(StopOrder(model='committed', at=1))\n"
        "with Unit(engine) as session:\n"
        "    session.add(StopOrder(model='half', at=1)); session.flush(); os.kill(os.getpid(), 9)\n"
    )

    done = subprocess.run([sys.executable, "-c", program, str(place)], env=child_environment(), check=False)

    assert done.returncode == -9
    assert stopped(open_database(place)) == ["committed"]

"""A controller's rows move from its file to a server and back; a kill at any statement loses nothing."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, inspect, select
from sqlmodel import SQLModel, func

from muster_controller.__main__ import app
from muster_controller.alone import alone
from muster_controller.config import Folder, database_of, load_settings
from muster_controller.moving import move
from muster_controller.service import people
from muster_controller.store.engine import Reading, Unit, last_number, open_database, table
from muster_controller.store.tables import WindowRecord
from muster_models.errors import ConflictError, InvalidInputError, StorageError
from support import databases
from support.database_marks import BOTH
from support.rolling import live, open_fleet, start

Rows = dict[str, list[dict[str, Any]]]
STEP = 13  # every so many statements of a move, one is killed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder of a controller with people and a rollout under way, its newest windows removed."""
    office = open_fleet(tmp_path / "controller")
    people.add(office.context, "operator", "anna", roles=["operator"], models=["digits"])
    people.add(office.context, "operator", "bo", roles=["operator"])
    start(office)
    live(office, 2)
    newest = select(func.max(WindowRecord.id)).scalar_subquery()
    with office.context.unit() as session:
        session.execute(delete(table(WindowRecord)).where(table(WindowRecord).c.id == newest))
    office.opened.close()
    return tmp_path / "controller"


@pytest.fixture
def other(root: Path, tmp_path: Path) -> str:
    """Return a setting for the kind of database that the controller does not have."""
    return databases.cluster().create() if not databases.is_postgres() else ""


def opened(root: Path) -> Engine:
    folder = Folder(root)
    return open_database(database_of(folder, load_settings(folder)))


def rows_of(root: Path) -> Rows:
    engine = opened(root)
    try:
        with Reading(engine) as session:
            return {
                one.name: [
                    dict(row) for row in session.execute(select(one).order_by(*one.primary_key)).mappings()
                ]
                for one in SQLModel.metadata.sorted_tables
            }
    finally:
        engine.dispose()


def last_window(root: Path) -> int:
    """Return the last number that a window got, also one that was removed since."""
    engine = opened(root)
    try:
        with Reading(engine) as session:
            return last_number(session, table(WindowRecord))
    finally:
        engine.dispose()


def add_window(root: Path) -> int:
    """Store one more window, and return its number."""
    engine = opened(root)
    target = table(WindowRecord)
    try:
        with Unit(engine) as session:
            row = dict(session.execute(select(target).limit(1)).mappings().one())
            del row["id"]
            session.execute(target.insert(), [row])
            number: int = session.execute(select(func.max(target.c.id))).scalar_one()
            return number
    finally:
        engine.dispose()


def killed_at(root: Path, other: str, number: int) -> bool:
    """Move in a process that is killed before its statement ``number``; tell whether it came so far."""
    child = os.fork()
    if child == 0:
        count = 0

        def count_down(*_: Any) -> None:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(Engine, "before_cursor_execute", count_down)
        try:
            move(root, other)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@BOTH
def test_every_row_is_moved_and_the_settings_name_the_new_place(root: Path, other: str) -> None:
    settings = root / "controller.toml"
    settings.write_text("# ours\n" + settings.read_text())
    before, last = rows_of(root), last_window(root)
    moved = move(root, other)

    assert rows_of(root) == before
    assert moved == sum(len(rows) for rows in before.values())
    assert sum(1 for rows in before.values() if rows) > 12, "a move of almost nothing shows nothing"
    assert load_settings(Folder(root)).database == other
    assert settings.read_text().startswith("# ours\n")
    assert add_window(root) == last + 1, "the number of a removed window must not be given again"


@BOTH
def test_a_move_that_is_killed_at_any_statement_is_made_again(root: Path, other: str, tmp_path: Path) -> None:
    before = rows_of(root)
    kills = 0
    for number in range(1, 10_000, STEP):
        if not killed_at(root, other, number):
            break
        kills += 1

        assert rows_of(root) == before
        assert load_settings(Folder(root)).database != other
    assert kills > 4
    assert load_settings(Folder(root)).database == other
    assert rows_of(root) == before


@BOTH
def test_a_database_with_rows_is_not_written_to(root: Path, other: str) -> None:
    before = rows_of(root)
    move(root, other)
    back = "" if other else str(databases.setting(root))

    with pytest.raises(ConflictError, match="expected one without rows, got some in"):
        move(root, back)

    assert rows_of(root) == before
    assert load_settings(Folder(root)).database == other


def test_every_table_is_copied(root: Path) -> None:
    engine = opened(root)
    names = set(inspect(engine).get_table_names()) - {"alembic_version"}
    engine.dispose()

    assert names == {one.name for one in SQLModel.metadata.sorted_tables}


def test_a_controller_that_runs_is_not_moved(root: Path, other: str) -> None:
    with alone(Folder(root)), pytest.raises(ConflictError, match="runs already"):
        move(root, other)


def test_rows_that_are_there_already_are_not_moved(root: Path) -> None:
    with pytest.raises(ConflictError, match=r"are in .*database\.sqlite already"):
        move(root, "")


def test_a_server_that_does_not_answer_changes_nothing(root: Path, tmp_path: Path) -> None:
    before = (root / "controller.toml").read_bytes()

    with pytest.raises(StorageError, match="postgresql://"):
        move(root, f"postgresql://anna@/fleet?host={tmp_path}")

    assert (root / "controller.toml").read_bytes() == before


def test_settings_that_cannot_be_edited_are_named_before_anything_is_copied(root: Path, other: str) -> None:
    settings = root / "controller.toml"
    settings.write_text(settings.read_text().replace('database = ""', '"database" = ""'))

    with pytest.raises(InvalidInputError, match="make it: database = "):
        move(root, other)


def test_the_command_says_what_it_did(root: Path, other: str, capsys: pytest.CaptureFixture[str]) -> None:
    app(["move", str(root), "--database", other], result_action="return_value")

    assert "rows were copied" in capsys.readouterr().out

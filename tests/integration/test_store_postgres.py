"""What is PostgreSQL's own: how it is reached and refused, its transactions, and what it must not change."""

import math
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, func, select

from muster_controller.store import events, samples
from muster_controller.store.engine import Changes, Reading, Unit, is_empty, migrate, open_database, upsert
from muster_controller.store.sample_tables import SampleDevice, SampleOrderRecord, SampleRecord
from muster_controller.store.tables import Device, EventRecord, EvidenceRecord, StopOrder
from muster_models.errors import ConflictError, InvalidInputError, StorageError
from support import databases
from support.controller import NOW
from support.database_marks import POSTGRES
from support.office import open_office
from support.postgres import Cluster
from support.waiting import until

pytestmark = POSTGRES

MARK = b"a row that must not be found" * 4


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_database(databases.place(tmp_path))
    migrate(engine)
    return engine


def stop(session: Session, model: str, at: int = 1) -> None:
    upsert(session, StopOrder, [{"model": model, "at": at}])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://host/fleet", "expected postgresql://.* got 'mysql'"),
        ("postgresql+asyncpg://host/fleet", "got 'postgresql.asyncpg'"),
        ("postgresql://host", "got no name of a database"),
        ("fleet", "expected postgresql://"),
        ("postgresql://host:port/fleet", "expected postgresql://"),
    ],
)
def test_what_is_no_url_of_it_is_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        open_database(url)


def test_a_server_that_does_not_answer_is_named_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"postgresql://anna:\*\*\*@/fleet") as caught:
        open_database(f"postgresql://anna:secret@/fleet?host={tmp_path}")

    assert "secret" not in str(caught.value)


def test_a_database_that_is_not_there_is_an_error_of_one_sentence(tmp_path: Path) -> None:
    where = databases.cluster().url("nowhere")

    with pytest.raises(StorageError, match='database "nowhere" does not exist'):
        open_database(where)


def test_an_encoding_without_all_signs_is_refused() -> None:
    databases.cluster().order("CREATE DATABASE plain TEMPLATE template0 ENCODING 'SQL_ASCII'")

    with pytest.raises(StorageError, match="expected the encoding UTF8, got SQL_ASCII"):
        open_database(databases.cluster().url("plain"))


def test_a_database_is_one_controllers(tmp_path: Path) -> None:
    office = open_office(tmp_path / "controller")
    office.opened.close()

    with pytest.raises(ConflictError, match="give each controller a database of its own"):
        open_office(tmp_path / "second", database=databases.setting(tmp_path / "controller"))
    assert not (tmp_path / "second").exists()


def test_a_controller_opens_what_it_founded_with_nothing_in_its_folder(tmp_path: Path) -> None:
    office = open_office(tmp_path / "controller")
    office.enrol("berlin-1")

    with office.context.reading() as session:
        assert list(session.exec(select(Device.id))) == ["berlin-1"]
    assert not office.context.folder.database.exists()
    assert f'database = "{databases.setting(tmp_path / "controller")}"' in (
        office.context.folder.settings.read_text()
    )


def test_a_commit_is_durable_and_a_process_that_hangs_is_not_waited_for(engine: Engine) -> None:
    with engine.connect() as connection:
        shown = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("synchronous_commit", "lock_timeout", "idle_in_transaction_session_timeout")
        }

    assert shown == {
        "synchronous_commit": "on",
        "lock_timeout": "30s",
        "idle_in_transaction_session_timeout": "1min",
    }


def test_a_reading_cannot_write(engine: Engine) -> None:
    with pytest.raises(Exception, match="read-only transaction"), Reading(engine) as session:
        stop(session, "digits")


def test_a_unit_waits_for_its_turn_and_not_for_ever(tmp_path: Path, engine: Engine) -> None:
    second = open_database(databases.place(tmp_path), busy_seconds=0.05)

    with Unit(engine), pytest.raises(OperationalError, match="lock timeout"), Unit(second):
        pass
    with Unit(second) as session:
        stop(session, "digits")


def test_a_unit_that_waited_sees_what_was_committed_before_its_turn(engine: Engine) -> None:
    waiting, seen = threading.Event(), list[int]()

    def read() -> None:
        waiting.set()
        with Unit(engine) as session:
            seen.append(session.get_one(StopOrder, "digits").at)

    with Unit(engine) as session:
        stop(session, "digits", at=1)
    thread = threading.Thread(target=read)
    with Unit(engine) as session:
        thread.start()
        waiting.wait()
        assert until(lambda: _waiters(engine) == 1)
        stop(session, "digits", at=2)
    thread.join()

    assert seen == [2]


def _waiters(engine: Engine) -> int:
    with Reading(engine) as session:
        found = session.connection().exec_driver_sql(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return int(found.scalar_one())


def test_the_number_of_changes_changes_with_a_commit_and_only_then(engine: Engine) -> None:
    changes = Changes(engine)
    before = changes.number()
    still = changes.number()
    with Unit(engine) as session:
        stop(session, "digits")
        session.flush()
        within = changes.number()
    after = changes.number()

    assert before == still
    assert len({before, within, after}) >= 2
    assert after != within
    assert changes.number() == after


def test_text_that_a_device_made_up_is_stored(engine: Engine) -> None:
    with Unit(engine) as session:
        events.note(session, "rollout", now=NOW, detail="one\0two \u2028 \U0001f600")

    with Reading(engine) as session:
        assert session.exec(select(EventRecord.detail)).one() == "one\ufffdtwo \u2028 \U0001f600"


def test_documents_and_numbers_come_back_as_they_were(engine: Engine) -> None:
    given: dict[str, Any] = {"value": math.nan, "bound": math.inf, "words": "\0", "whole": 2**60}
    with Unit(engine) as session:
        number = rollouts_of(session, given, at=2**53)

    with Reading(engine) as session:
        row = session.get_one(EvidenceRecord, number)
    assert row.at == 2**53
    assert math.isnan(row.content.pop("value"))
    assert row.content == {"bound": math.inf, "words": "\0", "whole": 2**60}


def rollouts_of(session: Session, content: dict[str, Any], at: int) -> int:
    row = EvidenceRecord(rollout=1, at=at, stage=0, verdict="healthy", content=content)
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id


def test_sums_are_whole_numbers_and_text_sorts_by_its_bytes(engine: Engine) -> None:
    with Unit(engine) as session:
        for number, model in enumerate(("b", "B", "a", "ä", "Z")):
            stop(session, model, at=2**40 + number)

    with Reading(engine) as session:
        total = session.exec(select(func.sum(StopOrder.at))).one()
        models = list(session.exec(select(StopOrder.model).order_by(StopOrder.model)))
    assert (type(total), total) == (int, 5 * 2**40 + 10)
    assert models == sorted(models) == ["B", "Z", "a", "b", "ä"]


def test_rows_that_an_order_deletes_are_in_no_file_of_the_table(engine: Engine) -> None:
    with Unit(engine) as session:
        session.add(
            SampleOrderRecord(
                id=1,
                model="digits",
                selector="all",
                rows=1,
                reason="why",
                actor="anna",
                created_at=1,
                expires_at=2,
            )
        )
        session.add(SampleDevice(order_id=1, device="berlin-1"))
        session.add(
            SampleRecord(order_id=1, device="berlin-1", digest="", at=1, rows=1, inputs=MARK, outputs=b"")
        )
    before = traces(engine)
    with Unit(engine) as session:
        samples.end(session, [1], NOW)

    samples.erase(engine)

    assert before == 1
    assert traces(engine) == 0


def traces(engine: Engine) -> int:
    """Count the marked rows in the files of the database, apart from the server's log."""
    with engine.connect() as connection:
        folder = connection.exec_driver_sql("SELECT pg_relation_filepath('sample')").scalar_one()
    databases.cluster().order("CHECKPOINT")
    files = (databases.cluster().data / folder).parent.iterdir()
    return sum(path.read_bytes().count(MARK) for path in files if path.is_file())


def test_an_engine_goes_on_after_its_server_was_killed(tmp_path: Path) -> None:
    cluster = Cluster()
    try:
        engine = open_database(cluster.create())
        migrate(engine)
        changes = Changes(engine)
        with Unit(engine) as session:
            stop(session, "digits")
        known = changes.number()

        cluster.kill()
        away = changes.number()
        with pytest.raises(OperationalError), Unit(engine) as session:
            pass
        cluster.start()

        with Reading(engine) as session:
            assert [row.model for row in session.exec(select(StopOrder))] == ["digits"]
        assert len({known, away, changes.number()}) == 3
        engine.dispose()
    finally:
        cluster.stop()


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(StorageError, match=r"expected psycopg; install muster-fleet\[postgres\]"):
        open_database("postgresql://anna@/fleet")


def test_a_new_database_is_empty_and_a_migrated_one_is_not(tmp_path: Path, engine: Engine) -> None:
    fresh = open_database(databases.place(tmp_path / "fresh"))

    assert (is_empty(fresh), is_empty(engine)) == (True, False)

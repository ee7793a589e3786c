"""Each migration with data in the tables: nothing is lost on the way up, and the way down is open."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect
from sqlmodel import select

from muster_controller.store import certificates, enrolment
from muster_controller.store.engine import Reading, Unit, migrate, open_database, unmigrate
from muster_controller.store.tables import Device, EnrolmentToken
from support.controller import NOW

PIN = "ab" * 32
DEVICES = (
    "INSERT INTO device (id, labels, hardware, agent, runtimes, isolation, time_zone, memory_bytes, "
    "disk_free_bytes, enrolled_at, certificate_serial, certificate_expires, revoked_at, outbox_waiting, "
    "outbox_merged, outbox_dropped, desired_held) VALUES "
    "('{}', '{{}}', '', '', '{{}}', '', 'UTC', 0, 0, 1, '{}', 4000000000000, {}, 0, 0, 0, 0)"
)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A database of the first form, with a device, a revoked one, and a token that is out."""
    engine = open_database(tmp_path / "database.sqlite")
    migrate(engine)
    unmigrate(engine, "0001")
    with engine.begin() as connection:
        connection.exec_driver_sql(DEVICES.format("berlin-1", "a1", "NULL"))
        connection.exec_driver_sql(DEVICES.format("oslo-1", "b2", "1700000000000"))
        connection.exec_driver_sql(
            "INSERT INTO enrolmenttoken (digest, device, labels, created_at, expires_at) "
            "VALUES ('d', 'lyon-1', '{}', 1, 4000000000000)"
        )
    return engine


def test_devices_keep_their_certificates_on_the_way_up(engine: Engine) -> None:
    migrate(engine)

    with Reading(engine) as session:
        assert enrolment.may_connect(session, "berlin-1", "a1") is True
        assert enrolment.may_connect(session, "oslo-1", "b2") is False
        assert certificates.revoked(session, NOW) == {"b2": "oslo-1"}
        token = session.exec(select(EnrolmentToken)).one()
    assert (token.device, token.again, token.revoked_at) == ("lyon-1", False, None)


def test_base_head_base_head_with_data(engine: Engine) -> None:
    migrate(engine)
    with Unit(engine) as session:
        enrolment.create_token(session, "berlin-1", labels={}, authority=PIN, now=NOW, again=True)
    unmigrate(engine, "0001")
    tables = set(inspect(engine).get_table_names())
    columns = {column["name"] for column in inspect(engine).get_columns("enrolmenttoken")}
    migrate(engine)

    assert tables.isdisjoint({"bulktoken", "bulkuse", "certificate", "enrolmentrequest"})
    assert columns.isdisjoint({"again", "revoked_at"})
    with Reading(engine) as session:
        assert sorted(session.exec(select(Device.id))) == ["berlin-1", "oslo-1"]
    unmigrate(engine, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate(engine)
    with Reading(engine) as session:
        assert session.exec(select(Device.id)).all() == []

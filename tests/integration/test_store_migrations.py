"""Each migration with data in the tables: nothing is lost on the way up, and the way down is open."""

import hashlib
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine, inspect, text
from sqlmodel import select

from muster_controller.domain.people import Person
from muster_controller.domain.rollouts.draw import Cuts
from muster_controller.domain.rollouts.machine import Code
from muster_controller.domain.rollouts.members import Failure
from muster_controller.stepping import course_of
from muster_controller.store import certificates, enrolment, people, rollouts
from muster_controller.store.engine import Reading, Unit, migrate, open_database, unmigrate
from muster_controller.store.tables import Device, EnrolmentToken
from support import databases
from support.controller import NOW
from support.database_marks import BOTH
from support.rollouts import make_plan

pytestmark = BOTH

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
    engine = open_database(databases.place(tmp_path))
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


PERSON = (
    "INSERT INTO person (name, roles, token, created_at, created_by, token_at) "
    "VALUES ('{0}', '[\"operator\"]', 'digest of {0}', 1, 'operator', 1)"
)


def test_people_are_over_all_models_on_the_way_up_and_not_on_the_way_down(engine: Engine) -> None:
    migrate(engine)
    unmigrate(engine, "0013")
    with engine.begin() as connection:
        connection.exec_driver_sql(PERSON.format("anna"))
        connection.exec_driver_sql(PERSON.format("bo"))
    migrate(engine)
    with Unit(engine) as session:
        before = [held.person.models for held in people.everybody(session)]
        people.change(session, Person("bo", ("operator",), ("digits",)))
    with Unit(engine) as session:
        some = people.everybody(session)[1].person.models
        people.change(session, Person("anna", ("operator",)))
    with engine.begin() as connection:
        everywhere = (
            connection.exec_driver_sql("SELECT name FROM person WHERE models IS NULL").scalars().all()
        )
    unmigrate(engine, "0013")
    with engine.begin() as connection:
        kept = connection.exec_driver_sql("SELECT name FROM person WHERE revoked_at IS NULL").scalars().all()

    assert (before, some) == ([None, None], ("digits",))
    assert everywhere == kept == ["anna"], "an older controller would take bo as over all models"


def draw_of_then(names: list[str]) -> tuple[Cuts, dict[str, int]]:
    """Return the draw of seed 7 as it was made when the model was no part of it: 3 controls, 3 in stage 1."""
    places = {name: hashlib.sha256(f"7\n{name}".encode()).hexdigest()[:16] for name in names}
    ordered = sorted(names, key=lambda name: places[name])
    cuts = Cuts(places[ordered[2]], (places[ordered[5]], "g"))
    return cuts, {name: cuts.arm(places[name]) for name in names}


def test_a_rollout_under_way_keeps_its_draw_as_members(engine: Engine) -> None:
    plan = make_plan(seed="7")
    names = [f"device-{number}" for number in range(12)]
    cuts, drawn = draw_of_then(names)
    old = {
        "phase": "running",
        "admitted": 1,
        "started_at": 1000.0,
        "cuts": msgspec.to_builtins(cuts),
        "failures": {names[0]: {"reason": "no-space", "detail": "4 MB short"}},
        "acknowledged": [names[0]],
    }
    migrate(engine)
    unmigrate(engine, "0008")
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO rollout (id, model, digest, previous, phase, plan, state, created_at, "
                "created_by, updated_at) "
                "VALUES (3, 'digits', :digest, :previous, 'running', :plan, :state, 1, 'anna', 1)"
            ),
            {
                "digest": plan.digest,
                "previous": plan.previous,
                "plan": msgspec.json.encode(plan).decode(),
                "state": msgspec.json.encode(old).decode(),
            },
        )
        for name in names:
            digest = plan.digest if drawn[name] == 0 else plan.previous
            connection.execute(
                text(
                    "INSERT INTO assignment (device, model, digest, rollout, since, probation_seconds) "
                    "VALUES (:device, 'digits', :digest, 3, 1750000000123, 60)"
                ),
                {"device": name, "digest": digest},
            )
    migrate(engine)

    with Reading(engine) as session:
        course = course_of(session, 3)
        ticking = rollouts.ticking(session)
    members = course.state.members
    assert {name: member.arm for name, member in members.items()} == drawn
    assert {n for n, m in members.items() if m.given == 1_750_000_000.123} == {
        n for n in names if drawn[n] == 0
    }
    assert members[names[0]].failure == Failure("no-space", "4 MB short")
    assert members[names[0]].acknowledged
    assert set(course.state.witnesses) == set(names)
    assert (course.state.code, course.fence, ticking) == (Code.STARTED, 0, {"digits": {3: 0}})

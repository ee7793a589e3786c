"""Who is looked at in a pass of the loop: whoever was noted, and a part of the fleet in turn."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from sqlalchemy import update
from sqlmodel import Session, delete, select

from muster_controller import intake
from muster_controller.config import Settings
from muster_controller.domain.samples import Order
from muster_controller.reconcile import telling
from muster_controller.reconcile.telling import Telling
from muster_controller.store import assignments, desired, enrolment, reporting, samples
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.order_tables import Untold
from muster_controller.store.tables import Assignment
from muster_models import topics, wire
from support.controller import NOW, Ground, enrol, lay_ground, make_hello

FLEET = tuple(f"berlin-{number}" for number in range(8))
LAST = FLEET[-1]
LOOKED_AT = 3  # in turn, and of the notes: three passes see the whole fleet
DAY = 86_400.0
ORDER = Order(1, "digits", f"device = {LAST}", 10, "why", "operator", NOW, NOW + 100)


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    monkeypatch.setattr(telling, "AT_ONCE", LOOKED_AT)
    return lay_ground(tmp_path, *FLEET)


@pytest.fixture
def room(ground: Ground) -> Telling:
    director = CryptoSigner.generate_ed25519()
    return Telling(ground.engine, Settings(), director=director, publish=lambda *_: True, wake=lambda: None)


def settle(room: Telling, now: float = NOW) -> None:
    """Make passes until the whole fleet was looked at."""
    for _ in range(len(FLEET)):
        room.sign(now)


def sequences(ground: Ground, *wanted: str) -> list[int]:
    with Reading(ground.engine) as session:
        held = desired.held(session, wanted)
    return [held[device].sequence for device in wanted]


def notes(ground: Ground) -> list[str]:
    with Reading(ground.engine) as session:
        return list(session.exec(select(Untold.device)))


def run(session: Session, ground: Ground, named: Sequence[str] = FLEET) -> None:
    digests = dict.fromkeys(named, ground.release.digest)
    assignments.assign(session, "digits", digests, rollout=0, probation_seconds=5.0, now=NOW)


def stop(session: Session, _ground: Ground) -> None:
    assignments.stop(session, "digits", NOW)


def start_again(session: Session, ground: Ground) -> None:
    stop(session, ground)
    session.execute(delete(Untold))
    assignments.start(session, "digits")


def take_away(session: Session, _ground: Ground) -> None:
    assignments.assign(session, "digits", {LAST: None}, rollout=0, probation_seconds=5.0, now=NOW)


def report_otherwise(session: Session, _ground: Ground) -> None:
    reporting.order(session, wire.Reporting(window_seconds=60.0), NOW)


def report_as_usual(session: Session, _ground: Ground) -> None:
    reporting.forget(session)


def order_rows(session: Session, _ground: Ground) -> None:
    samples.add(session, ORDER, [LAST])


def end_order(session: Session, ground: Ground) -> None:
    order_rows(session, ground)
    session.execute(delete(Untold))
    samples.end(session, [1], NOW)


def use_another_key(session: Session, _ground: Ground) -> None:
    desired.sign_again(session)


@pytest.mark.parametrize(
    "change",
    [stop, start_again, take_away, report_otherwise, report_as_usual, order_rows, end_order, use_another_key],
)
def test_whatever_changes_what_a_device_is_told_notes_it(
    ground: Ground, change: Callable[[Session, Ground], None]
) -> None:
    with Unit(ground.engine) as session:
        run(session, ground)
        session.execute(delete(Untold))
        change(session, ground)

    assert LAST in notes(ground)


def test_an_assignment_notes_those_whose_version_changed(ground: Ground) -> None:
    with Unit(ground.engine) as session:
        run(session, ground, FLEET[:5])
        session.execute(delete(Untold))
        run(session, ground, FLEET[4:6])

    assert notes(ground) == [FLEET[5]]


def test_a_device_that_was_enrolled_is_noted(ground: Ground, room: Telling) -> None:
    settle(room)
    enrol(ground, "oslo-1")

    assert notes(ground) == ["oslo-1"]


@pytest.mark.parametrize(("held", "noted"), [(1, []), (7, [LAST])], ids=["ours", "a newer one than ours"])
def test_a_greeting_notes_who_holds_what_we_do_not_know(
    ground: Ground, room: Telling, held: int, noted: list[str]
) -> None:
    settle(room)
    hello = make_hello(LAST, desired=held)
    taken = intake.read(topics.up(LAST, "hello"), wire.encode(hello))
    with Unit(ground.engine) as session:
        intake.store(session, [taken], baselines=ground.baselines, now=NOW)

    assert notes(ground) == noted


def test_a_noted_device_is_told_in_the_next_pass_wherever_the_turn_is(ground: Ground, room: Telling) -> None:
    settle(room)
    with Unit(ground.engine) as session:
        run(session, ground, [LAST, FLEET[0]])
    room.sign(NOW)

    assert sequences(ground, LAST, FLEET[0]) == [2, 2]
    assert notes(ground) == []


def test_a_pass_says_that_more_is_noted_than_it_looks_at(ground: Ground, room: Telling) -> None:
    settle(room)
    with Unit(ground.engine) as session:
        run(session, ground)
    passes = [room.sign(NOW) for _ in range(4)]

    assert passes == [True, True, False, False]
    assert sequences(ground, *FLEET) == [2] * len(FLEET)


def test_what_nobody_noted_is_found_in_turn(ground: Ground, room: Telling) -> None:
    with Unit(ground.engine) as session:
        run(session, ground)
    settle(room)
    with Unit(ground.engine) as session:
        session.execute(update(Assignment).values(probation_seconds=99.0))
    settle(room)

    assert sequences(ground, *FLEET) == [2] * len(FLEET)


def test_what_ages_is_renewed_in_turn(ground: Ground, room: Telling) -> None:
    settle(room)
    settle(room, NOW + 16 * DAY)

    assert sequences(ground, *FLEET) == [2] * len(FLEET)


def test_a_device_that_was_revoked_is_told_nothing(ground: Ground, room: Telling) -> None:
    settle(room)
    with Unit(ground.engine) as session:
        run(session, ground)
        enrolment.revoke(session, LAST, NOW)
    settle(room)

    assert sequences(ground, FLEET[0], LAST) == [2, 1]
    assert notes(ground) == []


def test_many_that_are_assigned_together_are_noted_together(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignments, "_MANY", len(FLEET) - 1)
    with Unit(ground.engine) as session:
        session.execute(delete(Untold))
        run(session, ground)

    assert sorted(notes(ground)) == sorted(FLEET)

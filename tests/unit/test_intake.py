"""Intake: what each message of a device leaves in the database, and what is refused and counted."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import SQLModel, col, func, select

from muster_controller import intake
from muster_controller.pki import Issued
from muster_controller.store import enrolment
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.tables import (
    DesiredState,
    Device,
    EventRecord,
    Received,
    Refusal,
    Run,
    Running,
    Watermark,
    WindowRecord,
)
from muster_controller.store.views.devices import HealthView, find_device
from muster_models import topics, wire
from muster_models.errors import Reason
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.codec import encode
from muster_models.sketch.window import sketch_rows
from muster_models.wire import Phase
from support.controller import NOW, Ground, device_report, lay_ground, make_hello, make_window

OTHER = "f" * 64


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay_ground(tmp_path, "berlin-1", "oslo-1")


def read(message: wire.Uplink) -> intake.Taken:
    return intake.read(topics.up(message.device, intake.KINDS[type(message)]), wire.encode(message))


def store(ground: Ground, *taken: intake.Taken, now: float = NOW) -> intake.Stored:
    with Unit(ground.engine) as session:
        return intake.store(session, taken, baselines=ground.baselines, now=now)


def count(ground: Ground, table: type[SQLModel]) -> int:
    with Reading(ground.engine) as session:
        return session.exec(select(func.count()).select_from(table)).one()


def refusals(ground: Ground) -> dict[tuple[str, str], int]:
    with Reading(ground.engine) as session:
        return {(row.device, row.reason): row.count for row in session.exec(select(Refusal))}


def make_report(sequence: int, *models: wire.ModelReport, **changes: object) -> wire.Report:
    report = wire.Report("berlin-1", 1, sequence, NOW + sequence, models)
    return msgspec.structs.replace(report, **changes)


def make_event(sequence: int, **changes: object) -> wire.Event:
    event = wire.Event("berlin-1", 1, sequence, NOW, "crashed", "digits", reason=Reason.CRASHED)
    return msgspec.structs.replace(event, **changes)


def test_between_the_order_and_the_new_certificate_nobody_speaks_for_a_device_that_is_replaced(
    ground: Ground,
) -> None:
    with Unit(ground.engine) as session:
        token = enrolment.create_token(
            session, "berlin-1", labels={}, authority="ab" * 32, now=NOW, again=True
        )
    between = store(ground, read(make_report(1)), read(make_window(ground, "oslo-1", 1)))
    with Unit(ground.engine) as session:
        permit = enrolment.consume_token(session, token, NOW)
        enrolment.enrol(session, permit, Issued("", "2", int(NOW) + 86_400), NOW)
    after = store(ground, read(make_report(2)))

    assert between.marks == {("oslo-1", 1): 1}
    assert refusals(ground) == {("berlin-1", Reason.WRONG_DEVICE): 1}
    assert after.marks == {("berlin-1", 1): 0}


def test_a_window_is_stored_and_the_watermark_covers_it(ground: Ground) -> None:
    stored = store(ground, read(make_window(ground, "berlin-1", 1)))

    with Reading(ground.engine) as session:
        row = session.exec(select(WindowRecord)).one()
    assert stored.marks == {("berlin-1", 1): 1}
    assert (row.device, row.model, row.rows, row.calls) == ("berlin-1", "digits", 100, 100)
    assert (row.start, row.end) == (int(NOW + 10) * 1000, int(NOW + 20) * 1000)


def test_a_repeat_changes_nothing_and_is_told_its_watermark(ground: Ground) -> None:
    messages = [
        read(make_window(ground, "berlin-1", 1)),
        read(make_event(2)),
        read(make_report(3, device_report(ground.release.digest))),
    ]
    first = store(ground, *messages, *messages)

    again = store(ground, *messages)

    assert first.marks == again.marks == {("berlin-1", 1): 3}
    assert [count(ground, table) for table in (WindowRecord, EventRecord, Running, Run)] == [1, 1, 1, 1]


def test_the_watermark_waits_for_a_gap_and_then_covers_what_came_before(ground: Ground) -> None:
    early = store(ground, read(make_event(2)), read(make_event(4)))
    middle = store(ground, read(make_event(1)))
    waiting = count(ground, Received)
    late = store(ground, read(make_event(3)))

    marks = [stored.marks["berlin-1", 1] for stored in (early, middle, late)]
    assert marks == [0, 2, 4]
    assert (waiting, count(ground, Received), count(ground, EventRecord)) == (1, 0, 4)


def test_each_epoch_has_a_watermark_of_its_own(ground: Ground) -> None:
    stored = store(ground, read(make_event(1)), read(make_event(1, epoch=2)), read(make_event(2, epoch=2)))

    assert stored.marks == {("berlin-1", 1): 1, ("berlin-1", 2): 2}
    assert count(ground, EventRecord) == 3


def test_a_stream_cannot_run_away_from_its_watermark(ground: Ground) -> None:
    stored = store(ground, read(make_event(2**52)), read(make_event(1)))

    assert stored.marks == {("berlin-1", 1): 1}
    assert (count(ground, Received), count(ground, EventRecord)) == (0, 1)


def test_what_a_device_no_longer_has_is_not_waited_for(ground: Ground) -> None:
    """So it goes on after a restore of an older database, whose watermark the device has long passed."""
    outbox = wire.OutboxStatus(epoch=1, last=41, waiting=1, bytes=1, first=41)

    store(ground, read(make_hello("berlin-1", outbox=outbox)))
    stored = store(ground, read(make_event(41)))

    assert stored.marks == {("berlin-1", 1): 41}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"manifest": OTHER}, Reason.BAD_SKETCH),
        ({"baseline": OTHER}, Reason.BAD_SKETCH),
        ({"model": "weather"}, Reason.BAD_SKETCH),
        ({"sketch": b"\x01\x00\x05junk"}, Reason.BAD_SKETCH),
        ({"latency": (1, 2)}, Reason.BAD_MESSAGE),
        ({"errors": 101}, Reason.BAD_MESSAGE),
        ({"end": NOW - 100.0}, Reason.BAD_MESSAGE),
        ({"end": NOW + 10 * 86_400.0}, Reason.BAD_MESSAGE),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
def test_a_bad_window_is_refused_and_counted_but_does_not_hold_up_the_device(
    ground: Ground, changes: dict[str, object], reason: Reason
) -> None:
    bad = read(make_window(ground, "berlin-1", 1, **changes))

    stored = store(ground, bad, read(make_window(ground, "berlin-1", 2)))
    store(ground, bad)

    assert stored.marks == {("berlin-1", 1): 2}
    assert count(ground, WindowRecord) == 1
    assert refusals(ground) == {("berlin-1", reason.value): 1}


def test_a_device_that_counts_other_columns_than_its_version_has_is_refused(ground: Ground) -> None:
    """Its schema has changed, though it says that it has not: counts of other columns cannot be added."""
    rows = np.random.default_rng(0).normal(size=(100, 4))
    other = make_baseline(rows, dict.fromkeys(("one", "two", "three", "four"), "numeric"))
    foreign = encode(sketch_rows(rows, other), other)
    store(ground, read(make_window(ground, "berlin-1", 1, sketch=foreign)))

    assert count(ground, WindowRecord) == 0
    assert refusals(ground) == {("berlin-1", Reason.BAD_SKETCH.value): 1}


def test_a_window_without_sampled_rows_is_stored(ground: Ground) -> None:
    store(ground, read(make_window(ground, "berlin-1", 1, sketch=b"")))

    with Reading(ground.engine) as session:
        assert session.exec(select(WindowRecord.rows)).one() == 0


def test_bytes_that_are_no_message_are_counted_per_device_and_reason(ground: Ground) -> None:
    topic = topics.up("berlin-1", "event")

    for payload in (b"", b"\xff" * 10, b"{}", b"\x00" * (wire.MAX_BYTES + 1)):
        store(ground, intake.read(topic, payload))
    store(ground, intake.read("muster/v1/00/berlin-1/up/event", b""))

    assert refusals(ground) == {
        ("berlin-1", "bad-message"): 3,
        ("berlin-1", "too-large"): 1,
        ("", "bad-message"): 1,
    }


def test_a_message_of_an_unknown_form_does_not_block_those_behind_it(ground: Ground) -> None:
    """An agent that is newer than its controller must not fill its outbox for ever."""
    newer = msgspec.msgpack.encode(
        {"type": "event", "device": "berlin-1", "epoch": 1, "sequence": 1, "format": 2}
    )

    stored = store(ground, intake.read(topics.up("berlin-1", "event"), newer), read(make_event(2)))

    assert stored.marks == {("berlin-1", 1): 2}
    assert refusals(ground) == {("berlin-1", "bad-message"): 1}


def test_a_message_on_the_topic_of_another_device_or_kind_is_refused(ground: Ground) -> None:
    event = wire.encode(make_event(1))

    posed = store(ground, intake.read(topics.up("oslo-1", "event"), event))
    misplaced = store(ground, intake.read(topics.up("berlin-1", "window"), event))

    assert posed.marks == {}
    assert misplaced.marks == {("berlin-1", 1): 1}
    assert refusals(ground) == {("oslo-1", "wrong-device"): 1, ("berlin-1", "bad-message"): 1}
    assert count(ground, EventRecord) == 0


def test_a_revoked_or_unknown_device_is_counted_and_gets_no_watermark(ground: Ground) -> None:
    with Unit(ground.engine) as session:
        enrolment.revoke(session, "berlin-1", NOW)

    stored = store(ground, read(make_event(1)), read(make_event(1, device="nobody-1")))

    assert stored.marks == {}
    assert refusals(ground) == {("berlin-1", "wrong-device"): 1, ("nobody-1", "wrong-device"): 1}
    assert (count(ground, EventRecord), count(ground, Received)) == (0, 0)


def test_a_report_says_what_runs_and_a_change_of_version_is_a_run(ground: Ground) -> None:
    store(ground, read(make_report(1, device_report(ground.release.digest))))
    store(ground, read(make_report(2, device_report(ground.release.digest))))
    store(ground, read(make_report(3, device_report(OTHER, "1.1.0"))))

    with Reading(ground.engine) as session:
        running = session.exec(select(Running)).one()
        runs = session.exec(select(Run).order_by(col(Run.id))).all()
    assert (running.current, running.sequence) == (OTHER, 3)
    assert [(run.digest, run.since, run.until) for run in runs] == [
        (ground.release.digest, int(NOW + 1) * 1000, int(NOW + 3) * 1000),
        (OTHER, int(NOW + 3) * 1000, None),
    ]


def test_a_report_that_comes_late_does_not_undo_a_newer_one(ground: Ground) -> None:
    store(ground, read(make_report(2, device_report(OTHER))))

    store(ground, read(make_report(1, device_report(ground.release.digest))))

    with Reading(ground.engine) as session:
        assert session.exec(select(Running.current)).one() == OTHER


def test_a_device_with_a_new_outbox_is_believed_though_it_counts_from_one(ground: Ground) -> None:
    store(ground, read(make_report(900, device_report(OTHER))))

    store(ground, read(make_report(1, device_report(ground.release.digest), epoch=2)))

    with Reading(ground.engine) as session:
        assert session.exec(select(Running.current)).one() == ground.release.digest


def test_a_hello_says_what_the_device_is_and_runs(ground: Ground) -> None:
    model = device_report(ground.release.digest, phase=Phase.PROBATION)

    stored = store(ground, read(make_hello("berlin-1", models=(model,), desired=7)), now=NOW + 5)

    with Reading(ground.engine) as session:
        device = session.get_one(Device, "berlin-1")
        running = session.exec(select(Running)).one()
    assert stored.greeted == {"berlin-1"}
    assert (device.hardware, device.isolation, device.desired_held) == ("x86_64", "landlock", 7)
    assert device.last_seen == int(NOW + 5) * 1000
    assert (running.current, running.phase) == (ground.release.digest, "probation")


def health_of(ground: Ground) -> HealthView | None:
    with Reading(ground.engine) as session:
        found = find_device(session, "berlin-1", silent_before=0)
    assert found is not None
    return found.health


def test_a_hello_says_how_the_device_is_and_how_its_clock_differs(ground: Ground) -> None:
    health = wire.Health(at=NOW - 12, load=0.5, memory_bytes=70, waiting=3, celsius=48.5, behind_seconds=2.0)
    before = health_of(ground)
    store(ground, read(make_hello("berlin-1", health=health)))
    after = health_of(ground)

    assert before is None
    assert after is not None
    assert (after.load, after.memory_bytes, after.waiting, after.celsius) == (0.5, 70, 3, 48.5)
    assert (after.behind_seconds, after.skew_seconds, after.at.timestamp()) == (2.0, -12.0, NOW - 12)


def test_a_report_brings_newer_health_and_says_nothing_of_the_clock(ground: Ground) -> None:
    health = wire.Health(at=NOW - 12, load=0.5, memory_bytes=70, waiting=3)
    store(ground, read(make_hello("berlin-1", health=health)))
    later = [
        make_report(number, health=msgspec.structs.replace(health, at=NOW + 60 * number, load=number))
        for number in (1, 2)
    ]
    store(ground, *map(read, later), read(make_report(3)), now=NOW + 9000)
    after = health_of(ground)

    assert after is not None
    assert (after.load, after.skew_seconds) == (2, -12.0)


def test_health_in_the_far_future_is_shown_as_of_now(ground: Ground) -> None:
    health = wire.Health(at=2.0**39, load=0.5, memory_bytes=70, waiting=3)
    store(ground, read(make_hello("berlin-1", health=health)))
    after = health_of(ground)

    assert after is not None
    assert after.at.timestamp() == NOW + intake.AHEAD_SECONDS
    assert after.skew_seconds == round(2.0**39 - NOW, 1)


@pytest.mark.parametrize(("held", "sent_at"), [(3, None), (4, 1), (5, 1)])
def test_a_hello_with_an_older_desired_state_asks_for_the_newest(
    ground: Ground, held: int, sent_at: int | None
) -> None:
    with Unit(ground.engine) as session:
        session.add(
            DesiredState(
                device="berlin-1", sequence=4, envelope=b"", content="", issued_at=0, expires_at=1, sent_at=1
            )
        )

    store(ground, read(make_hello("berlin-1", desired=held)))

    with Reading(ground.engine) as session:
        assert session.get_one(DesiredState, "berlin-1").sent_at == sent_at


def test_a_clock_that_is_far_ahead_puts_nothing_into_the_far_future(ground: Ground) -> None:
    """A year that no calendar holds would break every page that shows it."""
    absurd = 2.0**39

    store(ground, read(make_event(1, at=absurd)), read(make_report(2, device_report(OTHER), at=absurd)))

    with Reading(ground.engine) as session:
        event, running = session.exec(select(EventRecord)).one(), session.exec(select(Running)).one()
    assert event.at == running.at == int(NOW + intake.AHEAD_SECONDS) * 1000


@given(
    st.one_of(st.text(), st.just(topics.up("berlin-1", "event")), st.just(topics.up("oslo-1", "window"))),
    st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.integers(-(2**63), 2**63) | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        ).map(msgspec.msgpack.encode),
    ),
)
def test_whatever_arrives_is_read_or_refused(topic: str, payload: bytes) -> None:
    taken = intake.read(topic, payload)

    assert isinstance(taken, intake.Taken)


def test_the_watermark_table_holds_one_row_per_stream(ground: Ground) -> None:
    for sequence in range(1, 20):
        store(ground, read(make_event(sequence)))

    assert (count(ground, Watermark), count(ground, Received)) == (1, 0)

"""The outbox, case by case."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muster_agent.measure.outbox import MAX_UNDERWAY, Outbox
from muster_models import wire
from muster_models.errors import MessageError, Reason, StorageError
from muster_models.wire import Event, ModelReport, Outboxed, Phase, Stored, Window
from support.outboxes import add_up, open_outbox, part

Begin = Callable[..., Outbox]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


@pytest.fixture
def begin(path: Path) -> Iterator[Begin]:
    """Open outboxes at one path, and close them in the end."""
    with ExitStack() as opened:

        def open_one(**settings: Any) -> Outbox:
            outbox = open_outbox(path, **settings)
            opened.callback(outbox.close)
            return outbox

        yield open_one


def messages(outbox: Outbox, after: int = 0, limit: int = 1000) -> list[Outboxed]:
    found = [wire.decode_uplink(payload) for _, _, payload in outbox.batch(after, limit)]
    assert not any(isinstance(message, wire.Hello) for message in found)
    return found  # type: ignore[return-value]  # asserted above


def windows(outbox: Outbox) -> list[Window]:
    return [message for message in messages(outbox) if isinstance(message, Window)]


def test_messages_are_handed_out_in_order_with_numbers_from_one(begin: Begin) -> None:
    outbox = begin()
    outbox.add_event("activated", model="digits", manifest="a" * 64)
    outbox.add_report((ModelReport("digits", Phase.IDLE),))
    outbox.add_window(part(0))

    batch = outbox.batch(0, 10)

    assert [(sequence, kind) for sequence, kind, _ in batch] == [(1, "event"), (2, "report"), (3, "window")]
    assert outbox.batch(2, 10) == batch[2:]


def test_the_same_number_names_the_same_bytes_after_a_restart(begin: Begin) -> None:
    outbox = begin()
    outbox.add_window(part(0))
    batch = outbox.batch(0, 10)
    outbox.close()

    assert begin().batch(0, 10) == batch


def test_the_status_says_the_same_whatever_rows_are_counted_beside_it(begin: Begin) -> None:
    outbox = begin()
    before = outbox.status()
    sample = wire.Sample("bench-01", 0, 0, 1.0, 7, "digits", "a" * 64, 3, b"in", b"out")

    assert outbox.add_sample(sample, most=5)
    assert outbox.sampled(7) == 3
    assert outbox.status() == msgspec.structs.replace(before, waiting=1, bytes=outbox.status().bytes)
    assert [kind for _, kind, _ in outbox.batch(0, 10)] == ["sample"]


def test_what_is_stored_is_forgotten_and_numbers_go_on(begin: Begin) -> None:
    outbox = begin()
    for number in range(3):
        outbox.add_window(part(number))
    outbox.batch(0, 2)
    outbox.stored(Stored(outbox.status().epoch, 2))

    assert [sequence for sequence, _, _ in outbox.batch(0, 10)] == [3]


def test_a_full_outbox_merges_the_oldest_windows_evenly_before_it_drops_any(begin: Begin) -> None:
    outbox = begin(max_bytes=6000)
    for number in range(60):
        outbox.add_window(part(number))
    status = outbox.status()
    kept = windows(outbox)

    assert status.dropped == 0
    assert status.merged == 60 - status.waiting
    assert sum(window.calls for window in kept) == 60
    assert max(window.parts for window in kept) <= 8
    assert [window.start for window in kept] == sorted(window.start for window in kept)


def test_windows_of_different_versions_are_never_merged(begin: Begin) -> None:
    outbox = begin(max_bytes=3000, merge=same_model)
    for number in range(40):
        outbox.add_window(part(number, model=f"model-{number % 2}"))

    assert {window.model for window in windows(outbox)} == {"model-0", "model-1"}


def same_model(first: Window, second: Window) -> Window:
    assert first.model == second.model
    return add_up(first, second)


def test_windows_that_cannot_be_merged_are_dropped_and_counted_and_one_event_says_so(begin: Begin) -> None:
    outbox = begin(max_bytes=3000, merge=lambda _first, _second: None)
    for number in range(60):
        outbox.add_window(part(number))
    status = outbox.status()
    told = [message for message in messages(outbox) if isinstance(message, Event)]

    assert status.dropped == 60 - (status.waiting - 1)
    assert [event.kind for event in told] == ["dropped"]
    assert told[0].detail.startswith(f"{status.dropped} since")


def test_the_newest_report_stays_when_older_ones_make_room(begin: Begin) -> None:
    outbox = begin(max_bytes=1500)
    for number in range(40):
        outbox.add_report((ModelReport("digits", Phase.IDLE, tries=number),))
    reports = [message for message in messages(outbox) if isinstance(message, wire.Report)]

    assert len(reports) < 40
    assert reports[-1].models[0].tries == 39


def test_what_has_a_number_is_neither_merged_nor_dropped(begin: Begin) -> None:
    outbox = begin(max_bytes=4000)
    for number in range(5):
        outbox.add_window(part(number))
    sent = outbox.batch(0, 5)
    for number in range(100):
        outbox.add_window(part(number))

    assert outbox.batch(0, 5) == sent


def test_a_controller_that_stores_nothing_holds_the_sending_up(begin: Begin) -> None:
    outbox = begin()
    for number in range(MAX_UNDERWAY + 10):
        outbox.add_window(part(number, size=0))
    sent = outbox.batch(0, 10_000)

    assert len(sent) == MAX_UNDERWAY
    assert outbox.batch(sent[-1][0], 100) == []


def test_windows_too_old_to_matter_are_dropped(begin: Begin) -> None:
    now = [0.0]
    outbox = begin(max_age=100.0, clock=lambda: now[0])
    outbox.add_event("crashed")
    outbox.add_window(part(0))
    now[0] = 101.0
    outbox.add_window(part(101))

    assert [type(message).__name__ for message in messages(outbox)] == ["Event", "Window", "Event"]
    assert outbox.status().dropped == 1


def test_a_damaged_database_is_put_aside_and_a_new_epoch_begins(path: Path, begin: Begin) -> None:
    path.write_bytes(b"this is not a database, but it is long enough to be read as one" * 20)
    outbox = begin()

    assert [message.detail for message in messages(outbox) if isinstance(message, Event)] == [
        "the outbox was damaged; a new one begins"
    ]
    assert path.with_name("outbox.sqlite.damaged").exists()


def test_what_an_agent_of_another_format_left_is_dropped_and_stands_in_nobodys_way(begin: Begin) -> None:
    old = begin()
    old.add_window(part(0))
    old.add_window(part(1))
    old._database.execute("UPDATE message SET payload = x'00ff' WHERE id = 1")
    found = messages(begin())

    assert [type(message).__name__ for message in found] == ["Window", "Event"]


def test_a_message_that_no_reader_takes_is_refused_at_once(begin: Begin) -> None:
    outbox = begin()
    with pytest.raises(MessageError):
        outbox.add_window(part(0, size=wire.MAX_BYTES))

    assert outbox.status().waiting == 0


def test_a_detail_that_is_too_long_is_cut(begin: Begin) -> None:
    outbox = begin()
    outbox.add_event("failed", detail="x" * 10_000)
    (event,) = messages(outbox)

    assert isinstance(event, Event)
    assert len(event.detail) == 600


def test_two_outboxes_have_different_epochs(begin: Begin, tmp_path: Path) -> None:
    with closing(open_outbox(tmp_path / "other")) as other:
        assert begin().status().epoch != other.status().epoch


def test_a_path_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        open_outbox(tmp_path / "nowhere" / "outbox.sqlite")

    assert caught.value.reason is Reason.STORAGE_FAILED


def test_a_refused_addition_adds_nothing_and_the_next_one_works(begin: Begin) -> None:
    outbox = begin()
    (pages,) = outbox._database.execute("PRAGMA page_count").fetchone()
    outbox._database.execute(f"PRAGMA max_page_count = {pages}")
    caught = None
    while caught is None:
        before = outbox.status()
        try:
            outbox.add_window(part(1, size=4000))
        except StorageError as error:
            caught = error
    outbox._database.execute("PRAGMA max_page_count = 1000000")

    assert caught.reason is Reason.NO_SPACE
    assert outbox.status() == before
    outbox.add_event("crashed")
    assert outbox.status().waiting == before.waiting + 1

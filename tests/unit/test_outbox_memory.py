"""An outbox that waits in memory because the disk refuses, and moves there later."""

from contextlib import closing
from pathlib import Path

import pytest

from muster_agent.measure.outbox import Outbox, Place
from muster_models import wire
from muster_models.errors import StorageError
from muster_models.wire import Event, Stored
from support.outboxes import DEVICE, add_up, open_outbox, part


def held_in_memory(path: Path) -> Outbox:
    return Outbox(path, device=DEVICE, max_bytes=1 << 20, max_age=1e9, merge=add_up, place=Place.MEMORY)


def details(outbox: Outbox) -> list[str]:
    decoded = [wire.decode_uplink(payload) for _, _, payload in outbox.batch(0, 100)]
    return [message.detail for message in decoded if isinstance(message, Event)]


def test_it_takes_and_hands_out_messages_without_any_disk(tmp_path: Path) -> None:
    with closing(held_in_memory(tmp_path / "nowhere/outbox")) as outbox:
        outbox.add_event("installed", detail="one")
        (message,) = outbox.batch(0, 10)

    assert message[0] == 1
    assert list(tmp_path.iterdir()) == []


def test_what_waits_moves_behind_what_was_on_the_disk(tmp_path: Path) -> None:
    with closing(open_outbox(tmp_path / "outbox")) as before:
        before.add_event("installed", detail="old")
        epoch = before.status().epoch
    with closing(held_in_memory(tmp_path / "outbox")) as outbox:
        outbox.add_event("installed", detail="new")
        outbox.add_window(part(1))
        moved = outbox.settle()
        again = outbox.settle()
        status = outbox.status()

        assert (moved, again, outbox.place) == (True, False, Place.DISK)
        assert (status.epoch, status.waiting) == (epoch, 3)
        assert details(outbox) == ["old", "new"]
        assert outbox.status().bytes == outbox._count_bytes()


def test_what_has_a_number_is_waited_for_because_it_may_be_stored_already(tmp_path: Path) -> None:
    with closing(held_in_memory(tmp_path / "outbox")) as outbox:
        outbox.add_event("installed", detail="sent")
        outbox.batch(0, 1)
        outbox.add_event("installed", detail="not sent")
        waiting = outbox.settle()
        outbox.stored(Stored(outbox.status().epoch, 1))

        assert waiting is False
        assert outbox.settle() is True
        assert details(outbox) == ["not sent"]


def test_a_disk_that_still_refuses_leaves_everything_in_memory(tmp_path: Path) -> None:
    with closing(held_in_memory(tmp_path / "nowhere/outbox")) as outbox:
        outbox.add_event("installed", detail="one")
        with pytest.raises(StorageError):
            outbox.settle()

        assert outbox.place is Place.MEMORY
        assert details(outbox) == ["one"]

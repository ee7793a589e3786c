"""Events reach the outbox once each, even after a full disk, and nobody makes a device write without end."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_agent.measure.outbox import Outbox
from muster_agent.notices import QUIET_SECONDS, Notice, Notices
from muster_models import wire
from muster_models.errors import Reason, StorageError

REFUSED = Notice("refused", reason=Reason.REPLAYED, detail="an old one")


class Tired(Outbox):
    """An outbox whose disk refuses while ``is_full``."""

    is_full = False

    def add_event(self, *arguments: object, **more: object) -> None:
        if self.is_full:
            raise StorageError("no space left", Reason.NO_SPACE)
        super().add_event(*arguments, **more)  # type: ignore[arg-type]  # as they came


class Device:
    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.woken = 0
        self.outbox = Tired(
            folder / "outbox.sqlite",
            device="press-1",
            max_bytes=10**6,
            max_age=10**6,
            merge=lambda *_: None,
        )
        self.notices = Notices(self.outbox, wake=self._wake, clock=lambda: self.now)

    def details(self) -> list[str]:
        messages = [wire.decode_uplink(payload) for _, _, payload in self.outbox.batch(0, 100)]
        return [message.detail for message in messages if isinstance(message, wire.Event)]

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    yield device
    device.outbox.close()


def test_an_event_is_sent_at_once_and_its_detail_is_bounded(device: Device) -> None:
    device.notices.tell(Notice("failed", "digits", "0" * 64, Reason.CRASHED, "x" * 5000))

    assert device.details() == ["x" * 600]
    assert device.woken == 1


def test_what_a_stranger_causes_is_told_once_and_counted(device: Device) -> None:
    for _ in range(1000):
        device.notices.tell_rarely(REFUSED)
    assert device.details() == ["an old one"]

    device.now = QUIET_SECONDS
    device.notices.tell_rarely(REFUSED)

    assert device.details() == ["an old one", "an old one (999 more since the last one)"]


def test_another_reason_is_told_all_the_same(device: Device) -> None:
    device.notices.tell_rarely(REFUSED)
    device.notices.tell_rarely(Notice("refused", reason=Reason.WRONG_KEY, detail="a forged one"))

    assert device.details() == ["an old one", "a forged one"]


def test_an_event_waits_for_a_full_disk_in_its_order(device: Device) -> None:
    device.outbox.is_full = True
    device.notices.tell(Notice("failed", detail="first"))
    device.notices.tell(Notice("failed", detail="second"))
    assert device.details() == []

    device.outbox.is_full = False
    device.notices.retry()

    assert device.details() == ["first", "second"]


def test_windows_that_a_full_disk_refused_are_counted_and_told_once_it_is_possible(device: Device) -> None:
    device.outbox.is_full = True
    for calls in (5, 7):
        device.notices.lose("digits", "0" * 64, calls=calls, reason=Reason.NO_SPACE)
    device.notices.retry()
    assert device.details() == []

    device.outbox.is_full = False
    device.notices.retry()
    device.notices.retry()

    assert device.details() == ["windows that the disk refused: 2, with 12 calls"]


def test_a_disk_that_refuses_is_named_in_the_log_once(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.outbox.is_full = True
    device.notices.tell(Notice("failed", detail="first"))
    for _ in range(10):
        device.notices.retry()

    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "failed",
        "events wait for the disk",
    ]


def test_the_log_says_what_the_controller_is_told(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    device.notices.tell(Notice("committed", "digits", "a" * 64))
    device.notices.tell(Notice("rolled-back", "digits", "b" * 64, Reason.CRASHED, "it died 3 times"))
    device.notices.tell_rarely(REFUSED)
    device.notices.tell_rarely(REFUSED)

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "committed digits version aaaaaaaaaaaa"),
        ("WARNING", "rolled-back digits version bbbbbbbbbbbb: crashed: it died 3 times"),
        ("WARNING", "refused: replayed: an old one"),
    ]

"""Ingest: what is acknowledged is committed; a kill at any moment loses nothing and counts nothing twice."""

import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlmodel import func, select

from muster_controller import ingest, intake
from muster_controller.broker.config import Listener
from muster_controller.broker.process import Broker
from muster_controller.ingest import Ingest, Pace
from muster_controller.store.engine import Reading
from muster_controller.store.tables import Received, Refusal, WindowRecord
from muster_models import topics, wire
from story.ports import free_port
from support import databases
from support.client import SECONDS, Stranger, identity
from support.controller import (
    Ground,
    issue_device,
    lay_ground,
    make_authority,
    make_hello,
    make_window,
)
from support.database_marks import BOTH
from support.waiting import until

pytestmark = BOTH

DEVICES = ("berlin-1", "lyon-1", "oslo-1")


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return lay_ground(tmp_path, *DEVICES)


def windows(ground: Ground) -> Counter[tuple[str, int]]:
    with Reading(ground.engine) as session:
        return Counter(session.exec(select(WindowRecord.device, WindowRecord.start)).all())


class Desk:
    """Stands for the broker: notes, in order, what ingest acknowledges and says."""

    def __init__(self, ground: Ground, **pace: float) -> None:
        self.log: list[str] = []
        self.stored: dict[str, int] = {}
        self.changed = threading.Condition()
        self.ingest = Ingest(
            ground.engine,
            ground.baselines,
            clock=time.time,
            publish=self.publish,
            greeted=lambda: self.note("greeted"),
            pace=Pace(**pace),  # type: ignore[arg-type]  # numbers
        )

    def note(self, what: str) -> None:
        with self.changed:
            self.log.append(what)
            self.changed.notify_all()

    def publish(self, topic: str, payload: bytes) -> None:
        self.note(f"stored {wire.decode_stored(payload).upto} to {topic.split('/')[3]}")

    def handle(self, message: wire.Window | wire.Hello) -> None:
        kind: topics.Up = "hello" if isinstance(message, wire.Hello) else "window"
        name = f"ack {message.sequence}" if isinstance(message, wire.Window) else "ack hello"
        self.ingest.handle(topics.up(message.device, kind), wire.encode(message), lambda: self.note(name))

    def wait(self, what: str) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: what in self.log, SECONDS)


@pytest.fixture
def desk(ground: Ground) -> Iterator[Desk]:
    desk = Desk(ground, seconds=0.05)
    desk.ingest.start()
    yield desk
    desk.ingest.stop()


def test_a_batch_is_one_transaction_then_acknowledged_then_told_once(ground: Ground) -> None:
    desk, commits = Desk(ground, size=3, seconds=3600.0), list[int]()
    event.listen(ground.engine, "commit", lambda _connection: commits.append(len(desk.log)))
    desk.ingest.start()

    for sequence in (1, 2, 3):
        desk.handle(make_window(ground, "berlin-1", sequence))

    assert desk.wait("stored 3 to berlin-1") is True
    desk.ingest.stop()
    assert commits == [0]
    assert desk.log == ["ack 1", "ack 2", "ack 3", "stored 3 to berlin-1"]


def test_a_greeting_is_passed_on_after_it_is_stored(ground: Ground, desk: Desk) -> None:
    desk.handle(make_hello("berlin-1"))

    assert desk.wait("greeted") is True
    assert desk.log == ["ack hello", "greeted"]


def test_a_full_batch_does_not_wait(ground: Ground) -> None:
    desk = Desk(ground, size=2, seconds=3600.0)
    desk.ingest.start()

    desk.handle(make_window(ground, "berlin-1", 1))
    desk.handle(make_window(ground, "berlin-1", 2))

    assert desk.wait("stored 2 to berlin-1") is True
    desk.ingest.stop()


def test_the_network_is_not_read_while_too_much_waits(ground: Ground) -> None:
    desk = Desk(ground, room=2)
    accepted = threading.Semaphore(0)

    def feed() -> None:
        for sequence in (1, 2, 3):
            desk.handle(make_window(ground, "berlin-1", sequence))
            accepted.release()

    thread = threading.Thread(target=feed)
    thread.start()
    assert all(accepted.acquire(timeout=SECONDS) for _ in range(2))
    assert accepted.acquire(timeout=0.1) is False

    desk.ingest.start()

    assert accepted.acquire(timeout=SECONDS) is True
    thread.join()
    desk.ingest.stop()
    assert len(windows(ground)) == 3


def test_a_database_that_refuses_for_a_while_loses_nothing(ground: Ground, desk: Desk) -> None:
    failures = iter([OperationalError("COMMIT", {}, Exception("disk full"))] * 2)

    def refuse(_connection: object) -> None:
        for error in failures:
            raise error

    event.listen(ground.engine, "commit", refuse)
    desk.handle(make_window(ground, "berlin-1", 1))

    assert desk.wait("stored 1 to berlin-1") is True
    assert desk.log == ["ack 1", "stored 1 to berlin-1"]
    assert sum(windows(ground).values()) == 1


def test_a_message_that_cannot_be_stored_is_counted_and_the_others_go_on(ground: Ground, desk: Desk) -> None:
    """The number is one that no database holds: it stands for whatever we did not think of."""
    poison = make_window(ground, "berlin-1", 2, parts=2**70)
    desk.handle(make_window(ground, "berlin-1", 1))
    desk.ingest._waiting.append(_waiting(desk, poison))
    desk.handle(make_window(ground, "berlin-1", 3))

    assert desk.wait("ack 2") is True
    assert desk.wait("ack 3") is True
    with Reading(ground.engine) as session:
        refusal = session.exec(select(Refusal)).one()
    assert (refusal.device, refusal.reason, refusal.count) == ("berlin-1", "bad-message", 1)
    assert sum(windows(ground).values()) == 2


def _waiting(desk: Desk, window: wire.Window) -> ingest._Waiting:
    """Bypass the decoder, which refuses such a number."""
    name = (window.device, window.epoch, window.sequence)
    return ingest._Waiting(intake.Taken(window.device, name, window), lambda: desk.note("ack 2"))


class Sender:
    """A device that keeps its messages until it is told that they are stored."""

    def __init__(self, device: Stranger, name: str, messages: list[bytes]) -> None:
        self.watermark = 0
        self._device = device
        self._name = name
        self._messages = messages
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        assert self._device.connect() is True
        self._device.subscribe(topics.down(self._name, "stored"))
        end = time.monotonic() + 300
        while self.watermark < len(self._messages) and time.monotonic() < end:
            for payload in self._messages[self.watermark : self.watermark + 50]:
                self._device.send(topics.up(self._name, "window"), payload)
            self._listen()
        self._device.close()

    def _listen(self) -> None:
        """Wait until everything sent is stored, or nothing was said for a while."""
        aim = min(self.watermark + 50, len(self._messages))
        while self.watermark < aim:
            try:
                _, payload = self._device.messages.get(timeout=0.5)
            except queue.Empty:
                return
            self.watermark = max(self.watermark, wire.decode_stored(payload).upto)


def test_killing_ingest_again_and_again_loses_nothing_and_counts_nothing_twice(ground: Ground) -> None:
    authority = make_authority(ground.folder)
    broker = Broker(ground.folder / "broker", Listener("127.0.0.1", free_port(), authority.folder))
    broker.start()
    port = broker._listener.port
    total = 300
    messages = {
        device: [wire.encode(make_window(ground, device, number)) for number in range(1, total + 1)]
        for device in DEVICES
    }
    senders = []
    for device, payloads in messages.items():
        folder = issue_device(authority, device, ground.folder / device)
        senders.append(Sender(Stranger(port, identity(folder, device), device), device, payloads))
    chance = random.Random(7)
    kills = 0

    child = start_child(ground.folder, port)
    for sender in senders:
        sender.thread.start()
    for aim in sorted(chance.randrange(1, total * len(DEVICES) - 50) for _ in range(5)):
        assert until(partial(has_rows, ground, aim)) is True
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
        child = start_child(ground.folder, port)
    for sender in senders:
        sender.thread.join()
    child.kill()
    child.wait()
    broker.stop()

    counted = windows(ground)
    assert kills == 5
    assert [sender.watermark for sender in senders] == [total] * len(DEVICES)
    assert (len(counted), set(counted.values())) == (total * len(DEVICES), {1})
    with Reading(ground.engine) as session:
        assert session.exec(select(func.count()).select_from(Received)).one() == 0


def start_child(folder: Path, port: int) -> subprocess.Popen[bytes]:
    place = str(databases.place(folder))
    command = [sys.executable, "-m", "support.ingest_child", str(folder), str(port), place]
    return subprocess.Popen(command, env=databases.child_environment())


def has_rows(ground: Ground, aim: int) -> bool:
    return sum(windows(ground).values()) >= aim

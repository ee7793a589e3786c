"""Broker, link, ingest and loop together, with one device as a stranger would write it; on both brokers."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from sqlmodel import select

from muster_controller.broker.config import Listener
from muster_controller.broker.process import Broker
from muster_controller.config import Settings
from muster_controller.ingest import Ingest
from muster_controller.link import Address, Link
from muster_controller.reconcile.loop import Outside, Reconcile
from muster_controller.store import assignments
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.tables import DesiredState, WindowRecord
from muster_models import topics, wire
from story.ports import free_port
from support.client import SECONDS, Stranger, identity
from support.controller import Ground, issue_device, lay_ground, make_authority, make_hello, make_window
from support.waiting import until

DEVICE = "berlin-1"


@dataclass
class Running:
    """A controller without its HTTP servers."""

    ground: Ground
    broker: Broker
    link: Link
    reconcile: Reconcile
    port: int

    def device(self) -> Stranger:
        """Connect the device and ask for what comes down."""
        level = 5 if self.broker.kind == "mosquitto" else 4
        device = Stranger(self.port, identity(self.ground.folder, DEVICE), DEVICE, level=level)
        assert until(device.connect) is True
        device.subscribe(topics.down(DEVICE, "desired"))
        device.subscribe(topics.down(DEVICE, "stored"))
        return device


@contextmanager
def running(folder: Path, kind: str) -> Iterator[Running]:
    ground = lay_ground(folder, DEVICE)
    authority = make_authority(folder)
    issue_device(authority, DEVICE, folder)
    port = free_port()
    broker = Broker(folder / "broker", Listener("127.0.0.1", port, authority.folder), kind=kind)
    link = Link(Address("127.0.0.1", port, authority.folder))
    reconcile = Reconcile(
        ground.engine,
        ground.baselines,
        Settings(tick_seconds=3600.0),
        director=CryptoSigner.generate_ed25519(),
        outside=Outside(link.publish, broker.refuse, lambda _now: None),
        clock=time.time,
    )
    ingest = Ingest(
        ground.engine, ground.baselines, clock=time.time, publish=link.publish, greeted=reconcile.send_soon
    )
    broker.start()
    ingest.start()
    reconcile.start()
    link.start(ingest.handle, reconcile.online)
    try:
        assert link.wait_online(SECONDS) is True
        yield Running(ground, broker, link, reconcile, port)
    finally:
        reconcile.stop()
        ingest.stop()
        link.stop()
        broker.stop()


@pytest.fixture(params=["mosquitto", "amqtt"])
def controller(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path, request.param) as found:
        yield found


def greet(device: Stranger, held: int) -> None:
    device.send(topics.up(DEVICE, "hello"), wire.encode(make_hello(DEVICE, desired=held)))


def next_desired(device: Stranger) -> wire.Desired:
    topic, envelope = device.next()
    assert topic == topics.down(DEVICE, "desired")
    payload = msgspec.json.decode(envelope)["payload"]
    return wire.decode_desired(msgspec.convert(payload, bytes))


def test_a_window_is_stored_and_the_device_is_told_so(controller: Running) -> None:
    device = controller.device()

    device.send(topics.up(DEVICE, "window"), wire.encode(make_window(controller.ground, DEVICE, 1)))
    told = device.next()
    while told[0] != topics.down(DEVICE, "stored"):
        told = device.next()

    assert wire.decode_stored(told[1]) == wire.Stored(1, 1)
    with Reading(controller.ground.engine) as session:
        assert session.exec(select(WindowRecord.rows)).all() == [100]
    device.close()


def test_a_greeting_is_answered_with_the_newest_desired_state_and_a_change_is_pushed(
    controller: Running,
) -> None:
    device = controller.device()
    greet(device, 0)
    first = next_desired(device)

    with Unit(controller.ground.engine) as session:
        digests = {DEVICE: controller.ground.release.digest}
        assignments.assign(session, "digits", digests, rollout=0, probation_seconds=5.0, now=time.time())
    controller.reconcile.wake()
    second = next_desired(device)
    while second.sequence == first.sequence:  # the first one may have been sent twice
        second = next_desired(device)

    assert (first.sequence, first.models) == (1, ())
    assert (second.sequence, [model.version for model in second.models]) == (2, ["1.0.0"])
    device.close()


def test_what_was_sent_is_written_down_once_the_broker_has_it(controller: Running) -> None:
    def is_written_down() -> bool:
        with Reading(controller.ground.engine) as session:
            row = session.get(DesiredState, DEVICE)
            return row is not None and row.sent_at is not None

    assert until(is_written_down) is True


def test_a_fault_of_whoever_takes_a_message_is_told_as_ours_and_the_message_comes_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = make_authority(tmp_path)
    issue_device(authority, DEVICE, tmp_path)
    port = free_port()
    broker = Broker(tmp_path / "broker", Listener("127.0.0.1", port, authority.folder), kind="mosquitto")
    link = Link(Address("127.0.0.1", port, authority.folder))
    came: list[bytes] = []

    def take(_topic: str, payload: bytes, done: Callable[[], None]) -> None:
        came.append(payload)
        if len(came) == 1:
            raise RuntimeError("ours")
        done()

    broker.start()
    link.start(take, lambda: None)
    try:
        assert link.wait_online(SECONDS) is True
        device = Stranger(port, identity(tmp_path, DEVICE), DEVICE)
        assert until(device.connect) is True
        device.send(topics.up(DEVICE, "event"), b"once")
        assert until(lambda: len(came) > 1) is True
        device.close()
    finally:
        link.stop()
        broker.stop()

    assert set(came) == {b"once"}
    assert "RuntimeError: ours" in caplog.text


def test_after_the_broker_was_killed_a_device_that_comes_back_is_told_again(controller: Running) -> None:
    device = controller.device()
    greet(device, 0)
    first = next_desired(device)
    pid = controller.broker.pid
    assert pid is not None

    os.kill(pid, signal.SIGKILL)
    assert device.lost.wait(SECONDS) is True
    device.close()
    assert until(lambda: controller.broker.pid not in {None, pid}) is True
    assert until(lambda: controller.link.wait_online(0.1)) is True
    returned = controller.device()
    greet(returned, 0)

    assert next_desired(returned) == first
    returned.close()

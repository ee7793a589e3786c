"""Six devices against each other at the real broker: none reads, writes, wills, takes over, starves another.

Each test lets every device attack every other one at the same time, so a leak shows as a message that has no
business where it arrives. Honest traffic goes on all the while, and all of it must arrive.
"""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
from sqlmodel import func, select

from muster_controller.broker.config import PACKET_BYTES, Listener
from muster_controller.broker.process import Broker
from muster_controller.ingest import Ingest
from muster_controller.link import Address, Link
from muster_controller.pki import CONTROLLER, Authority
from muster_controller.store.engine import Reading
from muster_controller.store.tables import EventRecord, Refusal, WindowRecord
from muster_models import topics, wire
from story.ports import free_port
from support.client import SECONDS, Stranger, identity
from support.controller import issue_device, lay_ground, make_authority, make_window
from support.waiting import until

FLEET = tuple(f"press-{number}" for number in range(1, 7))
PAIRS = tuple(itertools.permutations(FLEET, 2))  # attacker, victim: 30 of them
UP = get_args(topics.Up)
DOWN = get_args(topics.Down)
FLOOD = 3_000
HONEST = 200


@dataclass
class Hall:
    """A broker with six devices; the controller listens to all of them."""

    folder: Path
    authority: Authority
    broker: Broker
    port: int
    controller: Stranger
    devices: dict[str, Stranger]

    def stranger(
        self, name: str, client_id: str | None = None, will: tuple[str, bytes] | None = None
    ) -> Stranger:
        return Stranger(self.port, identity(self.folder, name), client_id or name, will=will)

    def heard(self) -> list[tuple[str, bytes]]:
        """Return what the controller was sent until every device has said that this is all."""
        for name, device in self.devices.items():
            device.send(topics.up(name, "hello"), b"that is all")
        heard: list[tuple[str, bytes]] = []
        left = set(self.devices)
        while left:
            heard.append(self.controller.next())
            if heard[-1][1] == b"that is all":
                left -= {topics.parse_up(heard[-1][0]).device}
        return [message for message in heard if message[1] != b"that is all"]

    def told(self) -> dict[str, list[tuple[str, bytes]]]:
        """Return what each device was sent until the controller has told it that this is all."""
        for name in self.devices:
            self.controller.send(topics.down(name, "stored"), b"that is all")
        told: dict[str, list[tuple[str, bytes]]] = {name: [] for name in self.devices}
        for name, device in self.devices.items():
            while (message := device.next()) != (topics.down(name, "stored"), b"that is all"):
                told[name].append(message)
        return told


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    authority = make_authority(tmp_path)
    for device in FLEET:
        issue_device(authority, device, tmp_path)
    port = free_port()
    broker = Broker(tmp_path / "broker", Listener("127.0.0.1", port, authority.folder), kind="mosquitto")
    broker.start()
    controller = Stranger(port, identity(authority.folder, CONTROLLER), CONTROLLER)
    devices = {name: Stranger(port, identity(tmp_path, name), name) for name in FLEET}
    assert [client.connect() for client in (controller, *devices.values())] == [True] * 7
    controller.subscribe(topics.up_filter())
    for name, client in devices.items():
        for kind in DOWN:
            client.subscribe(topics.down(name, kind))
    yield Hall(tmp_path, authority, broker, port, controller, devices)
    for client in (controller, *devices.values()):
        client.close()
    broker.stop()


def own(name: str) -> set[str]:
    return {topics.up(name, kind) for kind in UP}


def all_connected(hall: Hall) -> bool:
    return not any(client.lost.is_set() for client in (hall.controller, *hall.devices.values()))


def test_no_device_writes_where_another_one_speaks_or_listens(hall: Hall) -> None:
    for attacker, victim in PAIRS:
        device = hall.devices[attacker]
        for topic in [topics.up(victim, kind) for kind in UP] + [topics.down(victim, kind) for kind in DOWN]:
            device.send(topic, b"forged by " + attacker.encode())
            device.send(topic, b"kept, by " + attacker.encode(), retain=True)
        device.send(topics.down(attacker, "desired"), b"forged by " + attacker.encode())
        device.send("$SYS/broker/uptime", b"forged")

    assert hall.heard() == []
    assert hall.told() == {name: [] for name in FLEET}
    assert all_connected(hall) is True


def filters(attacker: str, victim: str) -> list[str]:
    """Return everything that somebody might subscribe to in order to hear another one."""
    exact = [topics.up(victim, kind) for kind in UP] + [topics.down(victim, kind) for kind in DOWN]
    shard = topics.shard(victim)
    wild = [
        "#",
        "+/#",
        "muster/#",
        "muster/v1/#",
        f"muster/v1/{shard}/#",
        f"muster/v1/{shard}/+/down/+",
        f"muster/v1/+/{victim}/#",
        f"muster/v1/+/{victim}/+/+",
        "muster/v1/+/+/down/desired",
        topics.up_filter(),
        "$SYS/#",
        "$CONTROL/#",
        "+/+/+/+/+/+",
    ]
    shared = [f"$share/{group}/{topic}" for group in ("ingest", attacker) for topic in (*exact, *wild[:10])]
    return [*exact, *wild, *shared]


def test_no_device_hears_another_one_by_any_subscription_nor_takes_anything_from_it(hall: Hall) -> None:
    for attacker, victim in PAIRS:
        for topic in filters(attacker, victim):
            hall.devices[attacker].ask(topic)

    sent = {(topics.up(name, kind), f"from {name}".encode()) for name in FLEET for kind in UP}
    for topic, payload in sorted(sent):
        hall.devices[topics.parse_up(topic).device].send(topic, payload)
    for name in FLEET:
        hall.controller.send(topics.down(name, "desired"), f"for {name}".encode())
    told = hall.told()

    assert sorted(hall.heard()) == sorted(sent)  # a shared subscription would have taken its share of these
    assert {name: set(messages) for name, messages in told.items()} == {
        name: {(topics.down(name, "desired"), f"for {name}".encode())} for name in FLEET
    }


def test_no_retained_message_of_one_device_reaches_another(hall: Hall) -> None:
    """A device may keep a message on its own topics; a session that begins later sees nothing of it."""
    for name, device in hall.devices.items():
        device.send(topics.up(name, "report"), b"kept by " + name.encode(), retain=True)
        hall.controller.send(topics.down(name, "desired"), b"kept for " + name.encode(), retain=True)
    hall.heard()

    for attacker, victim in PAIRS:
        for topic in filters(attacker, victim):
            hall.devices[attacker].ask(topic)
    told = hall.told()

    seen = {name: {topic for topic, _ in messages} for name, messages in told.items()}
    assert seen == {name: {topics.down(name, "desired")} for name in FLEET}


def test_no_device_leaves_a_will_to_another(hall: Hall) -> None:
    """A will is sent when a session ends badly; one for a topic of another is dropped then."""
    for attacker, victim in PAIRS:
        for topic in (topics.up(victim, "event"), topics.down(victim, "desired")):
            hall.devices[attacker].close()
            dying = hall.stranger(attacker, will=(topic, b"will of " + attacker.encode()))
            if dying.connect():
                dying.die()
            renewed = hall.stranger(attacker)
            assert renewed.connect() is True
            for kind in DOWN:
                renewed.subscribe(topics.down(attacker, kind))
            hall.devices[attacker] = renewed
    honest = hall.stranger(FLEET[0], will=(topics.up(FLEET[0], "event"), b"my own will"))
    hall.devices[FLEET[0]].close()
    assert honest.connect() is True
    honest.die()

    assert until(lambda: not hall.controller.messages.empty()) is True
    assert hall.controller.next() == (topics.up(FLEET[0], "event"), b"my own will")
    assert hall.controller.messages.empty() is True
    assert all(device.messages.empty() for device in hall.devices.values())
    hall.devices[FLEET[0]] = hall.stranger(FLEET[0])
    assert hall.devices[FLEET[0]].connect() is True
    assert hall.heard() == []


def test_no_device_takes_over_the_session_of_another_or_of_the_controller(hall: Hall) -> None:
    """Whatever id a thief asks for, it is itself: at most its own session ends."""
    for thief in FLEET:
        hall.devices[thief].close()
        for victim in (*(name for name in FLEET if name != thief), CONTROLLER, ""):
            stranger = hall.stranger(thief, client_id=victim or None)
            assert stranger.connect() is True
            stranger.send(topics.up(FLEET[0], "event") if thief != FLEET[0] else topics.up(FLEET[1], "event"))
            stranger.close()
        hall.devices[thief] = hall.stranger(thief)
        assert hall.devices[thief].connect() is True
        for kind in DOWN:
            hall.devices[thief].subscribe(topics.down(thief, kind))

    assert all_connected(hall) is True
    assert hall.heard() == []
    assert hall.told() == {name: [] for name in FLEET}


def test_devices_that_flood_do_not_stop_the_messages_of_others(hall: Hall) -> None:
    """Five send as fast as they can, to topics of their own and of others; the sixth is heard in full."""
    *attackers, honest = FLEET

    def flood(name: str, others: Sequence[str]) -> None:
        for number, other in zip(range(FLOOD), itertools.cycle(others), strict=False):
            topic = topics.up(name, "event") if number % 2 else topics.up(other, "event")
            hall.devices[name].send(topic, b"x" * 512)

    threads = [
        threading.Thread(target=flood, args=(name, [other for other in FLEET if other != name]))
        for name in attackers
    ]
    for thread in threads:
        thread.start()
    answers = [hall.devices[honest].deliver(topics.up(honest, "window"), b"%d" % n) for n in range(HONEST)]
    for thread in threads:
        thread.join()

    heard: list[bytes] = []
    flooded: set[str] = set()
    while len(heard) < HONEST:
        topic, payload = hall.controller.next()
        if topic == topics.up(honest, "window"):
            heard.append(payload)
        else:
            flooded.add(topic)
    assert (set(answers), heard) == ({"Success"}, [b"%d" % number for number in range(HONEST)])
    assert flooded <= {topics.up(name, "event") for name in attackers}
    assert all_connected(hall) is True


def test_who_sends_more_than_a_message_may_hold_loses_its_own_session_only(hall: Hall) -> None:
    giant, *others = FLEET
    hall.devices[giant].send(topics.up(giant, "window"), b"x" * (PACKET_BYTES + 1))

    assert hall.devices[giant].lost.wait(SECONDS) is True
    assert any(hall.devices[name].lost.is_set() for name in others) is False
    hall.devices.pop(giant).close()
    assert hall.heard() == []


def test_messages_of_others_are_stored_while_devices_flood(hall: Hall, tmp_path: Path) -> None:
    """With the real ingest and its database: what is legal and what is not comes in a flood, five to one."""
    *attackers, honest = FLEET
    ground = lay_ground(tmp_path, *FLEET)
    hall.controller.close()
    link = Link(Address("127.0.0.1", hall.port, hall.authority.folder))
    ingest = Ingest(
        ground.engine, ground.baselines, clock=time.time, publish=link.publish, greeted=lambda: None
    )
    ingest.start()
    link.start(ingest.handle, online=lambda: None)
    assert link.wait_online(SECONDS) is True

    def flood(name: str) -> None:
        for number in range(1, FLOOD // 3):
            event = wire.Event(name, 1, number, time.time(), "failed", "digits")
            hall.devices[name].send(topics.up(name, "event"), wire.encode(event))
            hall.devices[name].send(topics.up(name, "window"), b"garbage")
            hall.devices[name].send(topics.up(honest, "event"), wire.encode(event))

    threads = [threading.Thread(target=flood, args=(name,)) for name in attackers]
    for thread in threads:
        thread.start()
    for number in range(1, HONEST + 1):
        window = make_window(ground, honest, number)
        hall.devices[honest].deliver(topics.up(honest, "window"), wire.encode(window))
    marks = hall.devices[honest].messages
    while wire.decode_stored(marks.get(timeout=SECONDS)[1]).upto < HONEST:
        pass
    for thread in threads:
        thread.join()
    link.stop()
    ingest.stop()

    with Reading(ground.engine) as session:
        stored = session.exec(select(func.count()).select_from(WindowRecord)).one()
        forged = session.exec(select(func.count()).where(EventRecord.device == honest)).one()
        refused = set(session.exec(select(Refusal.device)))
    assert (stored, forged, honest in refused) == (HONEST, 0, False)

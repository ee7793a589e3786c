"""The device's MQTT session against a real Mosquitto, killed, denying and silent as brokers are."""

import datetime as dt
import queue
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from muster_agent.config import Broker, Folder
from muster_agent.identity import tls_context
from muster_agent.link import Link, Pace
from muster_agent.measure.outbox import Outbox
from muster_agent.session import Session
from muster_controller.pki import Authority
from muster_models import mqtt, topics, wire
from muster_models.errors import TransferError
from muster_models.mqtt import GreetingRefusedError, Level
from story.ports import free_port
from support import device_side, mosquitto
from support.mosquitto import ControllerLink, Mosquitto
from support.waiting import until

DEVICE = "press-1"
WAIT_SECONDS = 60.0
EAGER = Pace(deadline=30.0, first_retry=0.05, last_retry=0.2, resend=60.0)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto.running(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def controller(broker: Mosquitto) -> Iterator[ControllerLink]:
    link = ControllerLink(broker)
    yield link
    link.close()


@pytest.fixture
def folder(broker: Mosquitto, tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "device")
    mosquitto.issue_device(broker.authority, DEVICE, folder.identity)
    return folder


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(
        tmp_path / "outbox.sqlite",
        device=DEVICE,
        max_bytes=10**6,
        max_age=10**6,
        merge=lambda *_: None,
        draw=lambda: 7,
    )
    yield outbox
    outbox.close()


@pytest.fixture
def start(folder: Folder, outbox: Outbox) -> Iterator[Callable[..., Link]]:
    links: list[Link] = []

    def starting(port: int, pace: Pace = EAGER, on_desired: Callable[[bytes], None] = lambda _: None) -> Link:
        link = Link(
            DEVICE,
            Broker("127.0.0.1", port, 10),
            context=lambda: tls_context(folder),
            outbox=outbox,
            hello=lambda: hello(outbox),
            on_desired=on_desired,
            chance=random.Random(1),
            pace=pace,
        )
        links.append(link)
        link.start()
        return link

    yield starting
    for link in links:
        link.stop()


def session_at(
    port: int, folder: Folder, *, level: Level = Level.V5, deadline_seconds: float = 30.0
) -> Session:
    return Session(
        Broker("127.0.0.1", port),
        DEVICE,
        context=tls_context(folder),
        level=level,
        deadline_seconds=deadline_seconds,
    )


def hello(outbox: Outbox) -> wire.Hello:
    return wire.Hello(DEVICE, 0, "0.1.0", {}, "x86_64", 1, 1, "UTC", "process", (), outbox.status())


def sequences(controller: ControllerLink, count: int) -> list[int]:
    return [controller.next(wire.Event).sequence for _ in range(count)]


def tell_stored(controller: ControllerLink, upto: int) -> None:
    controller.send(DEVICE, "stored", wire.encode(wire.Stored(7, upto)))


def test_a_connected_device_greets_then_sends_what_waits_in_order(
    broker: Mosquitto, controller: ControllerLink, outbox: Outbox, start: Callable[..., Link]
) -> None:
    for _ in range(25):
        outbox.add_event("failed")

    start(broker.port)

    assert controller.next(wire.Hello).device == DEVICE
    assert sequences(controller, 25) == list(range(1, 26))


def test_what_is_added_later_goes_up_when_the_link_is_woken(
    broker: Mosquitto,
    controller: ControllerLink,
    outbox: Outbox,
    start: Callable[..., Link],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mqtt, "SILENCE_SECONDS", 2 * WAIT_SECONDS)  # it would not look by itself
    link = start(broker.port)
    controller.next(wire.Hello)

    outbox.add_event("failed")
    link.wake()

    assert sequences(controller, 1) == [1]


def test_a_message_is_kept_until_the_controller_says_it_is_stored(
    broker: Mosquitto, controller: ControllerLink, outbox: Outbox, start: Callable[..., Link]
) -> None:
    for _ in range(3):
        outbox.add_event("failed")
    start(broker.port)
    sequences(controller, 3)
    assert outbox.status().waiting == 3  # the broker has acknowledged them; that is no promise

    tell_stored(controller, 2)

    assert until(lambda: outbox.status().waiting == 1)


def test_a_desired_state_is_handed_on_as_it_came(
    broker: Mosquitto, controller: ControllerLink, start: Callable[..., Link]
) -> None:
    envelopes: queue.Queue[bytes] = queue.Queue()
    link = start(broker.port, on_desired=envelopes.put)
    controller.next(wire.Hello)

    controller.send(DEVICE, "desired", b"\x00\xff envelope")

    assert envelopes.get(timeout=WAIT_SECONDS) == b"\x00\xff envelope"
    assert link.refused == 0


def test_garbage_on_the_watermark_topic_is_counted_and_harms_nothing(
    broker: Mosquitto, controller: ControllerLink, outbox: Outbox, start: Callable[..., Link]
) -> None:
    link = start(broker.port)
    controller.next(wire.Hello)

    controller.send(DEVICE, "stored", b"\xc1")
    assert until(lambda: link.refused == 1)
    outbox.add_event("failed")
    link.wake()

    assert sequences(controller, 1) == [1]
    assert link.is_online


def test_greeting_again_on_demand(
    broker: Mosquitto, controller: ControllerLink, start: Callable[..., Link]
) -> None:
    link = start(broker.port)
    controller.next(wire.Hello)

    link.greet()

    assert controller.next(wire.Hello).device == DEVICE


def test_a_watermark_that_does_not_come_makes_the_device_send_again(
    broker: Mosquitto, controller: ControllerLink, outbox: Outbox, start: Callable[..., Link]
) -> None:
    for _ in range(3):
        outbox.add_event("failed")
    start(broker.port, Pace(deadline=30.0, first_retry=0.05, resend=0.2))
    assert sequences(controller, 3) == [1, 2, 3]
    tell_stored(controller, 1)

    # 1 may still be on its way a second time; then only what is not stored is repeated.
    again = sequences(controller, 6)

    assert set(again[-2:]) == {2, 3}


def test_what_nobody_was_there_to_store_is_sent_again_soon(
    broker: Mosquitto, outbox: Outbox, start: Callable[..., Link]
) -> None:
    for _ in range(3):
        outbox.add_event("failed")
    link = start(broker.port, Pace(deadline=30.0, first_retry=0.05, resend=60.0, refused=0.3))
    assert link.wait_online(WAIT_SECONDS)

    controller = ControllerLink(broker)

    came = [controller.seen.get(timeout=WAIT_SECONDS) for _ in range(4)]
    controller.close()
    assert {message.sequence for message in came if isinstance(message, wire.Event)} == {1, 2, 3}
    assert [message.device for message in came if isinstance(message, wire.Hello)] == [DEVICE]


def test_a_killed_broker_costs_nothing_and_what_is_stored_is_not_sent_again(
    tmp_path: Path, outbox: Outbox, start: Callable[..., Link]
) -> None:
    with mosquitto.running(tmp_path / "site") as broker:
        mosquitto.issue_device(broker.authority, DEVICE, tmp_path / "device/identity")
        controller = ControllerLink(broker)
        for _ in range(4):
            outbox.add_event("failed")
        link = start(broker.port, Pace(deadline=30.0, first_retry=0.05, last_retry=0.2, resend=0.3))
        assert sequences(controller, 4) == [1, 2, 3, 4]
        tell_stored(controller, 2)
        assert until(lambda: outbox.status().waiting == 2)
        controller.close()
        broker.kill()
        assert until(lambda: not link.is_online)
        for _ in range(3):
            outbox.add_event("failed")
        broker.start()
        controller = ControllerLink(broker)

        seen: set[int] = set()
        while len(seen) < 5:
            seen |= set(sequences(controller, 1))
        controller.close()

    assert seen == {3, 4, 5, 6, 7}


def test_a_device_may_not_subscribe_or_publish_as_another(
    broker: Mosquitto, controller: ControllerLink, folder: Folder
) -> None:
    session = session_at(broker.port, folder)
    session.open([topics.down(DEVICE, "stored")])
    try:
        session.publish(topics.up("press-2", "hello"), b"forged")
        refusals = wait_for_answer(session)
    finally:
        session.close()

    assert "Not authorized" in refusals
    assert controller.seen.empty()


def wait_for_answer(session: Session) -> str:
    try:
        for _ in range(50):
            for happening in session.poll(1.0):
                if hasattr(happening, "refusal"):
                    return happening.refusal
    except TransferError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("level", list(Level))
def test_both_protocol_levels_are_spoken(broker: Mosquitto, folder: Folder, level: Level) -> None:
    session = session_at(broker.port, folder, level=level)

    session.open([topics.down(DEVICE, "desired")])

    session.close()


def test_a_server_that_hangs_up_makes_the_link_try_the_older_protocol(
    broker: Mosquitto, folder: Folder, start: Callable[..., Link]
) -> None:
    heard: list[int] = []

    def old_broker(connection: ssl.SSLSocket) -> None:
        greeting = connection.recv(1024)
        level = greeting[greeting.index(b"MQTT") + 4]
        heard.append(level)
        if level == Level.V311:
            connection.sendall(b"\x20\x02\x00\x00")  # CONNACK: accepted
            connection.recv(1024)
            connection.sendall(b"\x90\x04\x00\x01\x01\x01")  # SUBACK: both granted
            connection.recv(1024)

    with Impostor(broker.authority, old_broker) as port:
        link = start(port)
        assert link.wait_online(WAIT_SECONDS)

    assert heard[:2] == [Level.V5, Level.V311]


def test_an_impostor_with_a_foreign_certificate_learns_nothing(tmp_path: Path, folder: Folder) -> None:
    heard: list[bytes] = []
    foreign = Authority.create(tmp_path / "foreign", dt.datetime.now(dt.UTC))

    with Impostor(foreign, lambda connection: heard.append(connection.recv(1024))) as port:
        session = session_at(port, folder)
        with pytest.raises(TransferError, match="it comes from another authority"):
            session.open([])
        session.close()

    assert heard == []


def test_a_broker_that_says_nothing_is_given_up_in_time(broker: Mosquitto, folder: Folder) -> None:
    done = threading.Event()
    with Impostor(broker.authority, lambda _: bool(done.wait(WAIT_SECONDS))) as port:
        session = session_at(port, folder, deadline_seconds=2.0)  # enough to shake hands
        with pytest.raises(GreetingRefusedError, match="no answer"):
            session.open([])
        session.close()
        done.set()


def test_a_server_that_never_shakes_hands_is_given_up_in_time(broker: Mosquitto, folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        session = session_at(listener.getsockname()[1], folder, deadline_seconds=0.3)
        with pytest.raises(TransferError, match="no answer in time"):
            session.open([])
        session.close()


@pytest.mark.parametrize("seed", range(12))
def test_noise_from_a_broker_ends_in_one_error(broker: Mosquitto, folder: Folder, seed: int) -> None:
    chance = random.Random(seed)

    def noise(connection: ssl.SSLSocket) -> None:
        connection.recv(1024)
        accepted = b"\x20\x03\x00\x00\x00\x90\x04\x00\x01\x00\x01" if seed % 2 else b""
        connection.sendall(accepted + chance.randbytes(chance.randint(1, 2000)))

    with Impostor(broker.authority, noise) as port:
        session = session_at(port, folder)
        with pytest.raises(TransferError):
            open_and_listen(session)
        session.close()


def open_and_listen(session: Session) -> None:
    session.open([topics.down(DEVICE, "desired")])
    for _ in range(1000):
        session.poll(0.5)


class Impostor:
    """A TLS server with a certificate of ``authority`` that lets ``behave`` answer each connection."""

    def __init__(self, authority: Authority, behave: Callable[[ssl.SSLSocket], object]) -> None:
        authority.issue_server("impostor", ["127.0.0.1"], dt.datetime.now(dt.UTC))
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(authority.folder / "impostor.pem", authority.folder / "impostor.key")
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> int:
        self._thread.start()
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as connection:
                    self._behave(connection)
            except OSError:
                continue


def test_a_link_says_why_it_is_offline(broker: Mosquitto, start: Callable[..., Link]) -> None:
    nobody = free_port()
    away = start(nobody)
    assert until(lambda: away.trouble != "")
    there = start(broker.port)
    assert there.wait_online(WAIT_SECONDS)

    assert away.trouble == f"broker 127.0.0.1:{nobody}: Connection refused"
    assert there.trouble == ""


def test_a_device_whose_certificate_is_revoked_learns_that_from_the_broker(
    tmp_path: Path, folder: Folder, broker: Mosquitto, start: Callable[..., Link]
) -> None:
    pem = x509.load_pem_x509_certificate((folder.identity / "device.pem").read_bytes())
    revoked = tmp_path / "revoked.pem"
    revoked.write_bytes(broker.authority.list_revoked([f"{pem.serial_number:x}"], dt.datetime.now(dt.UTC)))
    with device_side.serving(broker.authority, revoked=revoked) as side:
        link = start(int(side.url.rpartition(":")[2]))
        told = until(lambda: "it refuses this side's certificate, which is revoked" in link.trouble)
        link.stop()

    assert told, link.trouble

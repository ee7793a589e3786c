"""The broker child, real: who may do what, and that it comes back."""

import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from muster_controller.broker.config import Listener, Revoked, find_mosquitto
from muster_controller.broker.process import AMQTT_WARNING, Broker
from muster_controller.link import Address, Link
from muster_controller.pki import CONTROLLER, Authority
from muster_models import topics
from muster_models.errors import ConflictError, RequestError
from story.ports import free_port
from support.client import SECONDS, Stranger, anonymous, identity
from support.controller import issue_device, make_authority
from support.waiting import until

KINDS = ("mosquitto", "amqtt")


@dataclass
class Site:
    """A broker and the certificates of two devices."""

    folder: Path
    authority: Authority
    broker: Broker
    port: int

    def device(self, name: str, client_id: str | None = None, folder: Path | None = None) -> Stranger:
        level = 5 if self.broker.kind == "mosquitto" else 4
        return Stranger(self.port, identity(folder or self.folder, name), client_id or name, level=level)

    def serial(self, name: str) -> str:
        return serial_at(self.folder / f"{name}.pem")

    def controller(self) -> Stranger:
        level = 5 if self.broker.kind == "mosquitto" else 4
        return Stranger(self.port, identity(self.authority.folder, CONTROLLER), CONTROLLER, level=level)


def serial_at(path: Path) -> str:
    return f"{x509.load_pem_x509_certificate(path.read_bytes()).serial_number:x}"


@contextmanager
def site(folder: Path, kind: str) -> Iterator[Site]:
    authority = make_authority(folder)
    for device in ("berlin-1", "oslo-1"):
        issue_device(authority, device, folder)
    port = free_port()
    broker = Broker(folder / "broker", Listener("127.0.0.1", port, authority.folder), kind=kind)
    broker.start()
    try:
        yield Site(folder, authority, broker, port)
    finally:
        broker.stop()


@pytest.fixture(params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Both brokers must answer alike."""
    with site(tmp_path, request.param) as running:
        yield running


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, "mosquitto") as running:
        yield running


def something_happened(controller: Stranger, attacker: Stranger) -> bool:
    return not controller.messages.empty() or attacker.lost.is_set()


def test_mosquitto_is_found_where_scripts_put_it() -> None:
    found = find_mosquitto()

    assert found is not None
    assert found.name == "mosquitto"


def test_a_device_reaches_the_controller_and_is_reached(shared: Site) -> None:
    controller, device = shared.controller(), shared.device("berlin-1")
    assert (controller.connect(), device.connect()) == (True, True)
    controller.subscribe(topics.up_filter())
    device.subscribe(topics.down("berlin-1", "desired"))

    device.send(topics.up("berlin-1", "hello"), b"here I am")
    controller.send(topics.down("berlin-1", "desired"), b"do this")

    assert controller.next() == (topics.up("berlin-1", "hello"), b"here I am")
    assert device.next() == (topics.down("berlin-1", "desired"), b"do this")
    controller.close()
    device.close()


def test_a_device_cannot_speak_as_another_or_as_the_controller(shared: Site) -> None:
    """Forbidden messages come first; the allowed one behind them is the only one that arrives."""
    controller = shared.controller()
    victim = shared.device("oslo-1")
    assert (controller.connect(), victim.connect()) == (True, True)
    controller.subscribe(topics.up_filter())
    victim.subscribe(topics.down("oslo-1", "desired"))
    forbidden = [
        topics.up("oslo-1", "hello"),
        topics.down("oslo-1", "desired"),
        topics.down("berlin-1", "desired"),
        topics.up("berlin-1", "hello") + "/more",
        "anything",
    ]

    for topic in forbidden:
        # A broker may end the session of who is not authorised, so each try is a session of its own.
        attacker = shared.device("berlin-1")
        assert attacker.connect() is True
        attacker.send(topic, b"forged")
        attacker.send(topics.up("berlin-1", "event"), topic.encode())
        assert until(partial(something_happened, controller, attacker)) is True
        attacker.close()
    honest = shared.device("berlin-1")
    assert honest.connect() is True
    honest.send(topics.up("berlin-1", "hello"), b"last")

    arrived = [controller.next()]
    while arrived[-1][1] != b"last":
        arrived.append(controller.next())

    assert {topic for topic, _ in arrived} <= {topics.up("berlin-1", kind) for kind in ("hello", "event")}
    assert b"forged" not in {payload for _, payload in arrived}
    assert victim.messages.empty() is True
    for client in (controller, victim, honest):
        client.close()


def test_a_device_hears_nothing_of_another_whatever_it_asks_for(shared: Site) -> None:
    controller, victim = shared.controller(), shared.device("oslo-1")
    spy = shared.device("berlin-1")
    assert (controller.connect(), victim.connect(), spy.connect()) == (True, True, True)
    victim.subscribe(topics.down("oslo-1", "desired"))
    controller.subscribe(topics.up_filter())
    for topic in (
        topics.down("oslo-1", "desired"),
        "#",
        "+/#",
        "muster/v1/#",
        "muster/v1/+/+/down/+",
        topics.up_filter(),
        "$SYS/#",
    ):
        spy.subscribe(topic)
    spy.subscribe(topics.down("berlin-1", "desired"))

    controller.send(topics.down("oslo-1", "desired"), b"secret")
    victim.send(topics.up("oslo-1", "window"), b"secret")
    assert victim.next()[1] == b"secret"
    assert controller.next()[1] == b"secret"
    controller.send(topics.down("berlin-1", "desired"), b"for you")

    heard = {spy.next() for _ in range(1)}
    assert heard == {(topics.down("berlin-1", "desired"), b"for you")}
    for client in (controller, victim, spy):
        client.close()


def test_a_shared_subscription_steals_nothing(mosquitto: Site) -> None:
    controller, thief = mosquitto.controller(), mosquitto.device("berlin-1")
    assert (controller.connect(), thief.connect()) == (True, True)
    controller.subscribe(topics.up_filter())
    thief.subscribe(f"$share/ingest/{topics.up_filter()}")
    device = mosquitto.device("oslo-1")
    assert device.connect() is True

    for number in range(20):
        device.send(topics.up("oslo-1", "window"), str(number).encode())

    assert [controller.next()[1] for _ in range(20)] == [str(number).encode() for number in range(20)]
    assert thief.messages.empty() is True
    for client in (controller, thief, device):
        client.close()


def test_a_device_cannot_take_over_the_session_of_another(shared: Site) -> None:
    victim = shared.device("oslo-1")
    assert victim.connect() is True
    victim.subscribe(topics.down("oslo-1", "desired"))
    controller = shared.controller()
    assert controller.connect() is True

    thief = shared.device("berlin-1", client_id="oslo-1")
    accepted = thief.connect()
    if accepted:  # Mosquitto lets it in under its own name
        thief.subscribe(topics.down("oslo-1", "desired"))
    controller.send(topics.down("oslo-1", "desired"), b"for Oslo")

    assert accepted == (shared.broker.kind == "mosquitto")
    assert victim.next()[1] == b"for Oslo"
    assert (victim.lost.is_set(), thief.messages.empty()) == (False, True)
    for client in (controller, victim, thief):
        client.close()


def test_nobody_connects_without_a_certificate_of_this_authority(shared: Site, tmp_path: Path) -> None:
    foreign = Authority.create(tmp_path / "foreign", shared.authority.certificate.not_valid_before_utc)
    issue_device(foreign, "berlin-1", tmp_path / "forged")
    (tmp_path / "forged/ca.pem").write_text(shared.authority.pem)
    level = 5 if shared.broker.kind == "mosquitto" else 4

    nobody = Stranger(shared.port, anonymous(shared.folder), "berlin-1", level=level)
    stranger = Stranger(shared.port, identity(tmp_path / "forged", "berlin-1"), "berlin-1", level=level)
    server = Stranger(shared.port, identity(shared.authority.folder, "server"), "server", level=level)

    assert (nobody.connect(), stranger.connect(), server.connect()) == (False, False, False)


def test_a_revoked_device_neither_sends_nor_hears_though_it_was_connected(shared: Site) -> None:
    controller, revoked, other = shared.controller(), shared.device("berlin-1"), shared.device("oslo-1")
    assert (controller.connect(), revoked.connect(), other.connect()) == (True, True, True)
    controller.subscribe(topics.up_filter())
    revoked.subscribe(topics.down("berlin-1", "desired"))
    revoked.send(topics.up("berlin-1", "hello"), b"before")
    assert controller.next()[1] == b"before"

    gone = Revoked(("berlin-1",), {shared.serial("berlin-1"): "berlin-1"})
    shared.broker.refuse(gone)
    shared.broker.refuse(gone)

    assert revoked.lost.wait(SECONDS) is True
    assert shared.device("berlin-1").connect() is False
    other.send(topics.up("oslo-1", "hello"), b"mark")
    assert controller.next()[1] == b"mark"
    assert other.lost.is_set() is False
    for client in (controller, revoked, other):
        client.close()


def test_a_name_that_is_revoked_is_denied_with_any_certificate(shared: Site) -> None:
    """The second wall, for certificates that nobody has on record."""
    controller = shared.controller()
    assert controller.connect() is True
    controller.subscribe(topics.up_filter())
    shared.broker.refuse(Revoked(("berlin-1",)))

    def is_silenced() -> bool:
        revoked, other = shared.device("berlin-1"), shared.device("oslo-1")
        assert other.connect() is True
        if revoked.connect():
            revoked.subscribe(topics.down("berlin-1", "desired"))
            revoked.send(topics.up("berlin-1", "hello"), b"probe")
            controller.send(topics.down("berlin-1", "desired"), b"secret")
            revoked.send("nothing")
        other.send(topics.up("oslo-1", "hello"), b"mark")
        heard = [controller.next()[1]]
        while heard[-1] != b"mark":
            heard.append(controller.next()[1])
        silent = b"probe" not in heard and revoked.messages.empty()
        revoked.close()
        other.close()
        return silent

    assert until(is_silenced) is True
    controller.close()


def test_a_device_that_is_enrolled_again_is_let_in_by_its_new_certificate_alone(
    shared: Site, tmp_path: Path
) -> None:
    """Lists that follow each other within a second must all count, also that of the last."""
    old = shared.device("berlin-1")
    assert old.connect() is True
    first = shared.serial("berlin-1")
    issue_device(shared.authority, "berlin-1", tmp_path / "second")
    issue_device(shared.authority, "berlin-1", tmp_path / "third")
    second = serial_at(tmp_path / "second/berlin-1.pem")

    shared.broker.refuse(Revoked((), {first: "berlin-1"}))
    shared.broker.refuse(Revoked((), {first: "berlin-1", second: "berlin-1"}))
    shared.broker.refuse(Revoked((), {first: "berlin-1", second: "berlin-1"}))

    assert old.lost.wait(SECONDS) is True
    accepted = [
        shared.device("berlin-1", folder=folder).connect() for folder in (shared.folder, tmp_path / "second")
    ]
    new = shared.device("berlin-1", folder=tmp_path / "third")
    assert (accepted, new.connect()) == ([False, False], True)
    new.send(topics.up("berlin-1", "hello"), b"back")
    for client in (old, new):
        client.close()


def test_a_session_that_could_not_be_ended_is_ended_by_the_next_call(
    mosquitto: Site, caplog: pytest.LogCaptureFixture
) -> None:
    victim = mosquitto.device("berlin-1")
    assert victim.connect() is True
    gone = Revoked((), {mosquitto.serial("berlin-1"): "berlin-1"})
    listener = mosquitto.broker._listener

    mosquitto.broker._listener = Listener("127.0.0.1", free_port(), listener.pki)
    mosquitto.broker.refuse(gone)
    assert (victim.lost.is_set(), "may still stand" in caplog.text) == (False, True)
    mosquitto.broker._listener = listener
    mosquitto.broker.refuse(gone)

    assert victim.lost.wait(SECONDS) is True
    assert list((mosquitto.folder / "broker").glob("tmp*")) == []
    victim.close()


def greet(shared: Site, context: ssl.SSLContext, ticket: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """Begin a session as berlin-1, with a TLS session of before if there is one; None when it is refused."""
    connect = b"\x10\x14\0\4MQTT\4\2\0\x3c\0\x08berlin-1"
    try:
        with (
            socket.create_connection(("127.0.0.1", shared.port), SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=ticket) as secure,
        ):
            secure.sendall(connect)
            accepted = secure.recv(4) == b"\x20\2\0\0"
            assert not accepted or secure.session_reused == (ticket is not None)
            return secure.session if accepted else None
    except OSError:
        return None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_tls_session_of_before_does_not_open_the_door_again(shared: Site, version: ssl.TLSVersion) -> None:
    """A resumed handshake shows no certificate, so the list must hold for it too."""
    context = identity(shared.folder, "berlin-1")
    context.minimum_version = context.maximum_version = version
    ticket = greet(shared, context, None)
    resumed = greet(shared, context, ticket)

    shared.broker.refuse(Revoked((), {shared.serial("berlin-1"): "berlin-1"}))

    assert (ticket is None, resumed is None) == (False, False)
    assert until(lambda: greet(shared, context, None) is None) is True
    assert greet(shared, context, ticket) is None


def test_a_list_of_revoked_certificates_is_there_from_the_start(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    for device in ("berlin-1", "oslo-1"):
        issue_device(authority, device, tmp_path)
    port = free_port()
    broker = Broker(tmp_path / "broker", Listener("127.0.0.1", port, authority.folder))
    broker.start(Revoked((), {serial_at(tmp_path / "berlin-1.pem"): "berlin-1"}))
    running = Site(tmp_path, authority, broker, port)

    refused, accepted = running.device("berlin-1"), running.device("oslo-1")

    assert (refused.connect(), accepted.connect()) == (False, True)
    accepted.close()
    broker.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_broker_comes_back_and_the_controller_with_it(tmp_path: Path, kind: str) -> None:
    taken: list[bytes] = []
    arrived = threading.Condition()

    def take(_topic: str, payload: bytes, done: Callable[[], None]) -> None:
        with arrived:
            taken.append(payload)
            arrived.notify_all()
        done()

    online: list[float] = []
    with site(tmp_path, kind) as running:
        link = Link(Address("127.0.0.1", running.port, running.authority.folder))
        link.start(take, online=lambda: online.append(time.monotonic()))
        assert link.wait_online(SECONDS) is True
        first = running.broker.pid
        assert first is not None

        os.kill(first, signal.SIGKILL)

        assert until(lambda: running.broker.pid not in {None, first}) is True
        assert until(lambda: len(online) == 2) is True
        device = running.device("berlin-1")
        assert device.connect() is True
        device.send(topics.up("berlin-1", "event"), b"after")
        with arrived:
            assert arrived.wait_for(lambda: b"after" in taken, SECONDS) is True
        device.close()
        link.stop()
    assert running.broker.pid is None


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        port = occupant.getsockname()[1]
        broker = Broker(tmp_path / "broker", Listener("127.0.0.1", port, authority.folder))

        with pytest.raises(ConflictError) as refused:
            broker.start()

    assert str(refused.value) == (
        f"port {port} of 127.0.0.1 cannot be used (Address already in use): "
        "set another mqtt_port in controller.toml, or end what uses it"
    )


def test_a_broker_that_a_killed_controller_left_behind_is_ended(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    port = free_port()
    program = (
        "import os, pathlib, sys\n"
        "from muster_controller.broker.process import Broker\n"
        "from muster_controller.broker.config import Listener\n"
        "folder, pki, port = sys.argv[1:]\n"
        "Broker(pathlib.Path(folder), Listener('127.0.0.1', int(port), pathlib.Path(pki))).start()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "broker"), str(authority.folder), str(port)]
    assert subprocess.run(command, check=False).returncode == -9
    left = int((tmp_path / "broker/broker.pid").read_text())
    os.kill(left, 0)

    following = Broker(tmp_path / "broker", Listener("127.0.0.1", port, authority.folder))
    following.start()

    assert following.pid not in {None, left}
    with pytest.raises(ProcessLookupError):
        os.kill(left, 0)
    following.stop()


def test_the_number_of_another_process_is_left_alone(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker/broker.pid").write_text(str(os.getpid()))

    broker = Broker(tmp_path / "broker", Listener("127.0.0.1", free_port(), authority.folder))
    broker.start()

    assert broker.pid not in {None, os.getpid()}
    broker.stop()


def test_an_unknown_broker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="expected the broker auto, mosquitto or amqtt, got 'rabbit'"):
        Broker(tmp_path, Listener("127.0.0.1", 1, tmp_path), kind="rabbit")


def test_the_spare_broker_is_announced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), site(tmp_path, "amqtt") as running:
        assert running.broker.kind == "amqtt"

    assert AMQTT_WARNING in caplog.messages

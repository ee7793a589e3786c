"""A real Mosquitto as the controller configures it: mutual TLS, names from certificates, patterns."""

import datetime as dt
import getpass
import os
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from muster_agent.identity import make_request, ready_key
from muster_controller.pki import CONTROLLER, Authority
from muster_models import topics, wire
from story.ports import free_port
from support.client import identity

T = TypeVar("T", bound=wire.Uplink)
ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 60.0
EAVESDROPPER = (
    "eavesdropper"  # an administrator who hears everything; has a certificate only where one is made
)
ACL = f"""\
user {CONTROLLER}
topic readwrite muster/v1/#
user {EAVESDROPPER}
topic read #
pattern write muster/v1/+/%u/up/#
pattern read muster/v1/+/%u/down/#
"""


def issue_device(authority: Authority, device: str, folder: Path) -> None:
    """Write ``device.key``, ``device.pem`` and ``ca.pem`` of an enrolled device."""
    folder.mkdir(parents=True, exist_ok=True)
    request = make_request(ready_key(folder / "device.key"), device)
    issued = authority.issue_device(device, request.encode(), dt.datetime.now(dt.UTC))
    (folder / "device.pem").write_text(issued.pem)
    (folder / "ca.pem").write_text(authority.pem)


class Mosquitto:
    """A broker process on one port that may be killed and started again."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.port = free_port()
        self.authority = authority
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        authority.issue_server("broker", ["127.0.0.1", "localhost"], dt.datetime.now(dt.UTC))
        authority.issue_client(CONTROLLER, dt.datetime.now(dt.UTC))
        (folder / "acl").write_text(ACL)
        (folder / "acl").chmod(0o600)
        (folder / "mosquitto.conf").write_text(
            f"user {getpass.getuser()}\n"
            f"acl_file {folder / 'acl'}\n"
            "allow_anonymous false\nset_tcp_nodelay true\n"
            f"listener {self.port} 127.0.0.1\n"
            f"cafile {authority.folder / 'ca.pem'}\n"
            f"certfile {authority.folder / 'broker.pem'}\n"
            f"keyfile {authority.folder / 'broker.key'}\n"
            "require_certificate true\nuse_identity_as_username true\nuse_username_as_clientid true\n"
        )

    def start(self) -> None:
        binary = Path(
            subprocess.run(
                [ROOT / "scripts/broker"], capture_output=True, text=True, check=True
            ).stdout.strip()
        )
        libraries = ":".join(str(path) for path in binary.resolve().parents[1].glob("lib/*") if path.is_dir())
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "-c", self._folder / "mosquitto.conf"],
                env={**os.environ, "LD_LIBRARY_PATH": libraries},
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + WAIT_SECONDS
        while not self._listens():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < end, "the broker does not listen"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:
            threading.Event().wait(0.02)
            return False
        return True


def connect_controller(broker: Mosquitto, on_message: Callable[[Client, MQTTMessage], None]) -> Client:
    """Connect as the controller, and return once everything that goes up is handed to ``on_message``."""
    subscribed = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, CONTROLLER, protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(identity(broker.authority.folder, CONTROLLER))
    client.on_connect = lambda client, *_: client.subscribe(topics.up_filter(), qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda client, _data, message: on_message(client, message)
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert subscribed.wait(WAIT_SECONDS)
    return client


class ControllerLink:
    """What stands for the controller: sees everything that goes up, sends what it is told to."""

    def __init__(self, broker: Mosquitto) -> None:
        self.seen: queue.Queue[wire.Uplink] = queue.Queue()
        self._client = connect_controller(
            broker, lambda _, message: self.seen.put(wire.decode_uplink(bytes(message.payload)))
        )

    def next(self, kind: type[T]) -> T:
        """Return the next message of a kind; others that come before it are let go."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            message = self.seen.get(timeout=max(0.001, end - time.monotonic()))
            if isinstance(message, kind):
                return message

    def send(self, device: str, kind: topics.Down, payload: bytes) -> None:
        self._client.publish(topics.down(device, kind), payload, qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def running(folder: Path) -> Iterator[Mosquitto]:
    """Run a broker with an authority of its own."""
    broker = Mosquitto(folder / "broker", Authority.create(folder / "pki", dt.datetime.now(dt.UTC)))
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()

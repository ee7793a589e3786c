"""What attackers do in the story: with the broker, with a mirror's disk, and with keys of their own."""

import datetime as dt
import os
import signal
import ssl
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from muster_controller.pki import Authority
from muster_models import topics
from muster_models.trust.director import sign_desired
from muster_models.trust.keys import create_signer
from muster_models.wire import Desired, DesiredModel
from story.errors import StoryError

INTRUDER = "intruder.example"
WAIT_SECONDS = 60.0
HOUR = 3600.0


class StolenBroker:
    """Someone who holds the whole broker: hears every desired state from now on, and writes on any topic.

    Args:
        controller: The controller's folder; the attacker lets himself in by the broker's own rules.
        port: Of the broker, on loopback.
    """

    def __init__(self, controller: Path, port: int) -> None:
        self.heard: dict[str, list[bytes]] = {}
        self._port = port
        self._broker = controller / "broker"
        self._listening = threading.Event()
        pki = controller / "pki"
        Authority(pki).issue_client(INTRUDER, dt.datetime.now(dt.UTC))
        context = ssl.create_default_context(cafile=pki / "ca.pem")
        context.load_cert_chain(pki / f"{INTRUDER}.pem", pki / f"{INTRUDER}.key")
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=INTRUDER)
        self._client.tls_set_context(context)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._listening.set()
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        rules = self._broker / "acl"
        rules.write_text(f"user {INTRUDER}\ntopic readwrite #\n{rules.read_text()}")
        os.kill(int((self._broker / "broker.pid").read_text()), signal.SIGHUP)
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        if not self._listening.wait(WAIT_SECONDS):
            raise StoryError("the broker did not let the attacker listen")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, device: str, envelope: bytes) -> None:
        """Send bytes to a device as if they were its desired state."""
        self._client.publish(topics.down(device, "desired"), envelope, qos=1).wait_for_publish(WAIT_SECONDS)

    def _on_connect(
        self, client: Client, _data: object, _flags: ConnectFlags, _code: ReasonCode, _more: Properties | None
    ) -> None:
        client.subscribe(f"{topics.ROOT}/+/+/down/desired", qos=1)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        device = message.topic.split("/")[3]
        self.heard.setdefault(device, []).append(bytes(message.payload))


def forge_desired(folder: Path, device: str, model: DesiredModel) -> bytes:
    """Return a desired state that is newer than any, well formed, and signed by another key."""
    signer = create_signer(folder / "attacker.key", None)
    now = time.time()
    return sign_desired(Desired(device, 2**40, now, now + HOUR, (model,)), signer)


def tamper(blob: Path) -> bytes:
    """Flip one bit in the middle of a file of the repository, and return what it was."""
    genuine = blob.read_bytes()
    middle = len(genuine) // 2
    blob.write_bytes(genuine[:middle] + bytes((genuine[middle] ^ 1,)) + genuine[middle + 1 :])
    return genuine

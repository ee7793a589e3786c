"""One session of the controller with the broker, which keeps it while the controller is away.

One thread turns the session; any may publish and acknowledge.
"""

import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from muster_controller.pki import CONTROLLER
from muster_models import topics
from muster_models.errors import TransferError
from muster_models.mqtt import Connection, Level, Manner

KEEPALIVE_SECONDS = 60
GREETING_SECONDS = 10.0
SESSION_SECONDS = 24 * 3600  # how long the broker keeps messages for a controller that is away
IN_FLIGHT = 1_000  # messages the broker may send ahead of our acknowledgements: two batches of ingest
MANNER = Manner(
    is_kept=True,
    acknowledges=True,
    limits={"SessionExpiryInterval": SESSION_SECONDS, "ReceiveMaximum": IN_FLIGHT},
)
_log = logging.getLogger(__name__)

Done = Callable[[], None]
Take = Callable[[str, bytes, Done], None]


@dataclass(frozen=True)
class Address:
    """Where the broker is, and who we are.

    Attributes:
        pki: Holds ``ca.pem``, and the controller's own certificate and key.
    """

    host: str
    port: int
    pki: Path


class Session(Connection):
    """One session, from the handshake to its end."""

    def __init__(self, address: Address, level: Level, take: Take) -> None:
        super().__init__(
            CONTROLLER,
            context=_tls(address.pki),
            level=level,
            manner=MANNER,
            deadline_seconds=GREETING_SECONDS,
        )
        self._address = address
        self._take = take
        self._due: list[Done] = []  # what ``turn`` tells others, once paho has done its part
        self._sent: dict[int, Done] = {}
        self._early: set[int] = set()  # answered before ``publish`` had noted whom to tell
        self._sending = threading.Lock()  # never held while paho is called, which has locks of its own
        self._client.max_inflight_messages_set(IN_FLIGHT)
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        # With this callback set, paho writes nothing on the thread that publishes: ours does.
        self._client.on_socket_register_write = lambda *_: self.wake()

    def open(self) -> None:
        """Connect, greet and subscribe.

        Raises:
            GreetingRefusedError: The broker was reached and ended the session before it began.
            TransferError: It cannot be reached, does not prove who it is, or is too slow.
        """
        self._open(
            self._address.host,
            self._address.port,
            keepalive_seconds=KEEPALIVE_SECONDS,
            subscriptions=[topics.up_filter()],
        )

    def publish(self, topic: str, payload: bytes, sent: Done | None) -> bool:
        """Queue a message; tell whether the connection took it."""
        info = self._client.publish(topic, payload, qos=1)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        tell = sent or nothing
        with self._sending:
            early = info.mid in self._early
            if early:
                self._early.discard(info.mid)
            else:
                self._sent[info.mid] = tell
        if early:
            tell()
        return True

    def turn(self, seconds: float) -> None:
        """Wait for something to do, up to ``seconds``, and do it.

        Raises:
            TransferError: The connection is lost.
        """
        self._turn(seconds)
        # Outside of paho, so that a fault of ours is not taken for one of the connection.
        due, self._due = self._due, []
        for tell in due:
            tell()
        if self._lost:
            raise TransferError(self._lost)

    def _on_message(self, client: Client, _data: object, message: MQTTMessage) -> None:
        topic, payload, mid, qos = message.topic, bytes(message.payload), message.mid, message.qos
        # ``client`` is this connection's: an acknowledgement that comes after its end goes nowhere.
        self._due.append(lambda: self._take(topic, payload, lambda: _ack(client, mid, qos)))

    def _on_publish(
        self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        # "No matching subscribers" (0x10) is well: the device greets when it comes, and is answered.
        if reason.is_failure:
            _log.error("the broker does not take a message: %s", reason)
        with self._sending:
            sent = self._sent.pop(mid, None)
            if sent is None:
                self._early.add(mid)
        if sent is not None:
            self._due.append(sent)


def nothing() -> None:
    """Tell nobody."""


def _ack(client: Client, mid: int, qos: int) -> None:
    if client.is_connected():
        client.ack(mid, qos)


def _tls(pki: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    context.load_cert_chain(pki / f"{CONTROLLER}.pem", pki / f"{CONTROLLER}.key")
    return context

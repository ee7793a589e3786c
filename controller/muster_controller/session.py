"""One connection of the controller to the broker, from the handshake to its end: bytes, not what they mean.

paho is driven through its external-loop interface: its own loop waits with ``select``, which fails in a
process that has more than 1,024 files open. One thread turns the session; any may publish and acknowledge.
"""

import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from muster_controller.pki import CONTROLLER
from muster_models import topics
from muster_models.errors import TransferError

KEEPALIVE_SECONDS = 60
GREETING_SECONDS = 10.0
SESSION_SECONDS = 24 * 3600  # how long the broker keeps messages for a controller that is away
IN_FLIGHT = 1_000  # messages the broker may send ahead of our acknowledgements: two batches of ingest
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


class GreetingRefusedError(TransferError):
    """The broker was reached but did not accept the session; another protocol level may be accepted."""


class Session:
    """One connection, from the handshake to its end."""

    def __init__(self, address: Address, level: MQTTProtocolVersion, take: Take) -> None:
        self._address = address
        self._level = level
        self._take = take
        self._greeted = self._subscribed = False
        self._lost = ""
        self._sent: dict[int, Done] = {}
        self._early: set[int] = set()  # answered before ``publish`` had noted whom to tell
        self._sending = threading.Lock()  # never held while paho is called, which has locks of its own
        self._alarm, self._bell = socket.socketpair()
        self._alarm.setblocking(False)
        self._bell.setblocking(False)
        self._client = self._make_client()

    def _make_client(self) -> Client:
        # The old level keeps its session by this argument, MQTT 5 by one of ``connect``.
        clean = False if self._level is MQTTProtocolVersion.MQTTv311 else None
        client = Client(
            CallbackAPIVersion.VERSION2, CONTROLLER, clean, protocol=self._level,
            reconnect_on_failure=False, manual_ack=True,
        )  # fmt: skip
        client.tls_set_context(_tls(self._address.pki))
        client.connect_timeout = GREETING_SECONDS
        client.max_inflight_messages_set(IN_FLIGHT)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        # With this callback set, paho writes nothing on the thread that publishes: ours does.
        client.on_socket_register_write = lambda *_: self.wake()
        return client

    def open(self) -> None:
        """Connect, greet and subscribe.

        Raises:
            GreetingRefusedError: The broker was reached and ended the session before it began.
            TransferError: It cannot be reached, does not prove who it is, or is too slow.
        """
        try:
            self._client.connect(self._address.host, self._address.port, KEEPALIVE_SECONDS, **self._options())
        except (OSError, ValueError) as error:
            raise TransferError(f"{self._address.host}:{self._address.port}: {error}") from error
        end = time.monotonic() + GREETING_SECONDS
        try:
            self._until(lambda: self._greeted, end)
        except TransferError as error:
            raise GreetingRefusedError(str(error)) from error
        if self._level is MQTTProtocolVersion.MQTTv5:
            self._client.subscribe(topics.up_filter(), options=SubscribeOptions(qos=1))
        else:
            self._client.subscribe(topics.up_filter(), 1)
        self._until(lambda: self._subscribed, end)

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
        connection = self._client.socket()
        if self._lost or connection is None:
            raise TransferError(self._lost or "the connection was closed")
        with selectors.DefaultSelector() as selector:
            writing = selectors.EVENT_WRITE if self._client.want_write() else 0
            selector.register(connection, selectors.EVENT_READ | writing)
            selector.register(self._alarm, selectors.EVENT_READ)
            # TLS may hold decrypted bytes that no select will ever announce.
            ready = selector.select(0 if _pending(connection) else seconds)
        if any(key.fileobj is self._alarm for key, _ in ready):
            with contextlib.suppress(BlockingIOError):
                self._alarm.recv(4096)
        self._exchange()

    def wake(self) -> None:
        """End a wait; for any thread."""
        with contextlib.suppress(OSError):  # a full pipe wakes as well, a closed one has nobody to wake
            self._bell.send(b"\0")

    def close(self) -> None:
        """Say goodbye if there is a connection, and release it."""
        with contextlib.suppress(Exception):  # whatever a broken connection raises, it is over
            self._client.disconnect()
            self._client.loop_write()
        connection = self._client.socket()
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()
        self._alarm.close()
        self._bell.close()

    def _options(self) -> dict[str, Any]:
        if self._level is MQTTProtocolVersion.MQTTv311:
            return {}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's only untyped call
        properties.SessionExpiryInterval = SESSION_SECONDS
        properties.ReceiveMaximum = IN_FLIGHT
        return {"clean_start": False, "properties": properties}

    def _until(self, reached: Callable[[], bool], end: float) -> None:
        while not reached():
            left = end - time.monotonic()
            if left <= 0:
                raise TransferError(f"no answer within {GREETING_SECONDS:.0f} s")
            self.turn(left)

    def _exchange(self) -> None:
        while True:
            self._client.loop_read()
            connection = self._client.socket()
            if connection is None or not _pending(connection):
                break
        if self._client.want_write():
            self._client.loop_write()
        self._client.loop_misc()

    def _on_connect(
        self, _client: Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            self._lost = f"the broker refuses the session: {reason}"
        else:
            self._greeted = True

    def _on_disconnect(
        self, _client: Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self._lost = self._lost or f"connection lost: {reason}"

    def _on_subscribe(
        self, _client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self._lost = f"the broker refuses the subscription: {refused[0]}"
        self._subscribed = True

    def _on_message(self, client: Client, _data: object, message: MQTTMessage) -> None:
        mid, qos = message.mid, message.qos
        # ``client`` is this connection's: an acknowledgement that comes after its end goes nowhere.
        self._take(message.topic, bytes(message.payload), lambda: _ack(client, mid, qos))

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
            sent()


def nothing() -> None:
    """Tell nobody."""


def _ack(client: Client, mid: int, qos: int) -> None:
    if client.is_connected():
        client.ack(mid, qos)


def _tls(pki: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    context.load_cert_chain(pki / f"{CONTROLLER}.pem", pki / f"{CONTROLLER}.key")
    return context


def _pending(connection: object) -> bool:
    return isinstance(connection, ssl.SSLSocket) and connection.pending() > 0

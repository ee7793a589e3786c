"""One connection to a broker, from the handshake to its end: bytes in and out, nothing of what they mean.

A session is never resumed: what was not yet stored elsewhere is in the outbox, and is sent again. paho is
driven through its external-loop interface, so that one thread, which sleeps in one ``select``, does all work.
"""

import contextlib
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from paho.mqtt.client import Client, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from muster_agent.config import Broker
from muster_models.errors import TransferError
from muster_models.wire import MAX_BYTES

SILENCE_SECONDS = 5.0  # how often keep-alives are looked after; paho itself sends them
PACKET_BYTES = MAX_BYTES + 4096  # the largest message and its topic; asked of brokers that speak MQTT 5


class Level(IntEnum):
    """A protocol level of MQTT."""

    V5 = MQTTProtocolVersion.MQTTv5
    V311 = MQTTProtocolVersion.MQTTv311


class GreetingRefusedError(TransferError):
    """The broker was reached but did not accept the session; another protocol level may be accepted."""


@dataclass(frozen=True)
class Arrived:
    """A message came down."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class Answered:
    """The broker answered a message that was sent.

    Attributes:
        ticket: What ``publish`` returned.
        refusal: Why the broker did not take it; empty when it did. (It is never a promise to keep it.)
    """

    ticket: int
    refusal: str


Happening = Arrived | Answered


class _TidySocket(ssl.SSLSocket):
    """Closes itself when the handshake fails, which paho forgets."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the overridden signature
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class Session:
    """A connection as ``device``; for one thread, but for ``wake``."""

    def __init__(
        self, broker: Broker, device: str, *, context: ssl.SSLContext, level: Level, deadline_seconds: float
    ) -> None:
        self._broker = broker
        self._deadline_seconds = deadline_seconds
        self._greeted = False
        self._subscribed = False
        self._lost = ""
        self._happened: list[Happening] = []
        self._alarm, self._bell = socket.socketpair()
        self._alarm.setblocking(False)
        self._bell.setblocking(False)
        # The old level has a clean session by this argument, MQTT 5 by one of ``connect``.
        clean = None if level is Level.V5 else True
        self._client = Client(
            CallbackAPIVersion.VERSION2, device, clean, protocol=MQTTProtocolVersion(level.value),
            reconnect_on_failure=False,
        )  # fmt: skip
        context.sslsocket_class = _TidySocket
        self._client.tls_set_context(context)
        self._client.connect_timeout = deadline_seconds
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._level = level

    def open(self, subscriptions: Sequence[str]) -> None:
        """Connect, greet and subscribe.

        Raises:
            GreetingRefusedError: The broker was reached and ended the session before it began.
            TransferError: The broker cannot be reached, does not prove who it is, is too slow, or refuses
                a subscription.
        """
        with _as_transfer_error(f"broker {self._broker.host}:{self._broker.port}"):
            self._client.connect(
                self._broker.host, self._broker.port, self._broker.keepalive_seconds, **self._options()
            )
        end = time.monotonic() + self._deadline_seconds
        try:
            self._until(lambda: self._greeted, end)
        except TransferError as error:
            raise GreetingRefusedError(str(error)) from error
        if self._level is Level.V5:
            self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in subscriptions])
        else:
            self._client.subscribe([(topic, 1) for topic in subscriptions])
        self._until(lambda: self._subscribed, end)

    def publish(self, topic: str, payload: bytes) -> int:
        """Hand a message to the broker, at least once; return the ticket by which its answer is known.

        Raises:
            TransferError: The connection is lost.
        """
        with _as_transfer_error("sending"):
            sent = self._client.publish(topic, payload, qos=1)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise TransferError(f"sending: {sent.rc.name}")
        return sent.mid

    def poll(self, seconds: float) -> list[Happening]:
        """Return what happened; wait up to ``seconds`` for it, shorter when there is work or a ``wake``.

        Raises:
            TransferError: The connection is lost.
        """
        self._turn(min(seconds, SILENCE_SECONDS))
        happened, self._happened = self._happened, []
        # What arrived before the loss is still handed over; the next call tells of the loss.
        if self._lost and not happened:
            raise TransferError(self._lost)
        return happened

    def wake(self) -> None:
        """End a ``poll`` that waits; for any thread."""
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
        if self._level is Level.V311:
            return {}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's only untyped call
        properties.MaximumPacketSize = PACKET_BYTES
        return {"clean_start": True, "properties": properties}

    def _until(self, reached: Callable[[], bool], end: float) -> None:
        while not reached():
            if self._lost:
                raise TransferError(self._lost)
            left = end - time.monotonic()
            if left <= 0:
                raise TransferError(f"no answer from the broker within {self._deadline_seconds:.0f} s")
            self._turn(min(left, SILENCE_SECONDS))

    def _turn(self, seconds: float) -> None:
        connection = self._client.socket()
        if connection is None:
            self._lost = self._lost or "the connection was closed"
            return
        with _as_transfer_error("connection"), selectors.DefaultSelector() as selector:
            writing = selectors.EVENT_WRITE if self._client.want_write() else 0
            selector.register(connection, selectors.EVENT_READ | writing)
            selector.register(self._alarm, selectors.EVENT_READ)
            # TLS may hold decrypted bytes that no select will ever announce.
            ready = selector.select(0 if _pending(connection) else seconds)
            if any(key.fileobj is self._alarm for key, _ in ready):
                self._alarm.recv(4096)
            self._exchange()

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
        self, _client: Client, _data: object, flags: DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        side = "the broker ended the session" if flags.is_disconnect_packet_from_server else "connection lost"
        self._lost = self._lost or f"{side}: {reason}"

    def _on_subscribe(
        self, _client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self._lost = f"the broker refuses a subscription: {refused[0]}"
        self._subscribed = True

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._happened.append(Arrived(message.topic, bytes(message.payload)))

    def _on_publish(
        self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        # "No matching subscribers" is no failure to MQTT 5, but nobody will store the message.
        taken = reason.value == 0
        self._happened.append(Answered(mid, "" if taken else str(reason)))


def _pending(connection: object) -> bool:
    return isinstance(connection, ssl.SSLSocket) and connection.pending() > 0


@contextlib.contextmanager
def _as_transfer_error(doing: str) -> Iterator[None]:
    try:
        yield
    except TransferError:
        raise
    except Exception as error:  # paho lets what a hostile or broken broker causes through as many types
        raise TransferError(f"{doing}: {str(error) or type(error).__name__}") from error

"""One connection to a broker, from the handshake to its end: bytes in and out, nothing of what they mean.

paho is driven through its external-loop interface: one thread turns the connection and sleeps in one
selector. (paho's own loop waits with ``select``, which fails in a process with more than 1,024 files open.)
Not imported by the rest of this package: paho comes with the extras of the two programs.
"""

import contextlib
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from paho.mqtt.client import Client, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from muster_models.errors import TransferError
from muster_models.network_words import in_words, tls_in_words

SILENCE_SECONDS = 5.0  # how often keep-alives are looked after; paho itself sends them


class Level(IntEnum):
    """A protocol level of MQTT."""

    V5 = MQTTProtocolVersion.MQTTv5
    V311 = MQTTProtocolVersion.MQTTv311

    @property
    def other(self) -> "Level":
        """What to try when a broker refuses this one."""
        return Level.V311 if self is Level.V5 else Level.V5


class GreetingRefusedError(TransferError):
    """The broker was reached but did not accept the session; another protocol level may be accepted."""


@dataclass(frozen=True)
class Manner:
    """How a program holds its sessions.

    Attributes:
        is_kept: The broker keeps the session while the program is away, else it ends with the connection.
        acknowledges: The program itself acknowledges each message it gets, once that is safe.
        limits: What MQTT 5 lets a client ask for at the greeting, by paho's names; the older level has none.
    """

    is_kept: bool
    acknowledges: bool
    limits: Mapping[str, int]


class _TidySocket(ssl.SSLSocket):
    """Closes itself when the handshake fails, and keeps what the other side objects to; paho forgets both."""

    objection = ""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the overridden signature
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:  # in TLS 1.3 a client learns so that its certificate is refused
            self.objection = tls_in_words(error.reason)
            raise


class Connection:
    """A connection as ``client_id``; for one thread, but for ``wake``.

    A program derives its session from this: it sets what happens on a message and on an answer of the broker
    (``on_message`` and ``on_publish`` of ``_client``), and decides when to turn the connection.
    """

    def __init__(
        self,
        client_id: str,
        *,
        context: ssl.SSLContext,
        level: Level,
        manner: Manner,
        deadline_seconds: float,
    ) -> None:
        self._level = level
        self._manner = manner
        self._deadline_seconds = deadline_seconds
        self._greeted = False
        self._subscribed = False
        self._lost = ""  # why the connection is over
        self._socket: object = None  # the last one, which paho lets go of before it says that it was lost
        self._alarm, self._bell = socket.socketpair()
        self._alarm.setblocking(False)
        self._bell.setblocking(False)
        # The old level keeps its session by this argument, MQTT 5 by one of ``connect``.
        clean = None if level is Level.V5 else not manner.is_kept
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id, clean, protocol=MQTTProtocolVersion(level.value),
            reconnect_on_failure=False, manual_ack=manner.acknowledges,
        )  # fmt: skip
        context.sslsocket_class = _TidySocket
        self._client.tls_set_context(context)
        self._client.connect_timeout = deadline_seconds
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe

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

    def _open(self, host: str, port: int, *, keepalive_seconds: int, subscriptions: Sequence[str]) -> None:
        """Connect, greet and subscribe.

        Raises:
            GreetingRefusedError: The broker was reached and ended the session before it began.
            TransferError: The broker cannot be reached, does not prove who it is, is too slow, or refuses
                a subscription.
        """
        with as_transfer_error(f"broker {host}:{port}"):
            self._client.connect(host, port, keepalive_seconds, **self._options())
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

    def _turn(self, seconds: float) -> None:
        """Wait for something to do, up to ``seconds``, and do it; a loss is noted in ``_lost``.

        Raises:
            TransferError: The connection failed in a way that paho lets through.
        """
        connection = self._client.socket()
        if connection is None:
            self._lost = self._lost or "the connection was closed"
            return
        self._socket = connection
        with as_transfer_error("connection"), selectors.DefaultSelector() as selector:
            writing = selectors.EVENT_WRITE if self._client.want_write() else 0
            selector.register(connection, selectors.EVENT_READ | writing)
            selector.register(self._alarm, selectors.EVENT_READ)
            # TLS may hold decrypted bytes that no select will ever announce.
            ready = selector.select(0 if _pending(connection) else min(seconds, SILENCE_SECONDS))
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

    def _until(self, reached: Callable[[], bool], end: float) -> None:
        while not reached():
            if self._lost:
                raise TransferError(self._lost)
            left = end - time.monotonic()
            if left <= 0:
                raise TransferError(f"no answer from the broker within {self._deadline_seconds:.0f} s")
            self._turn(left)

    def _options(self) -> dict[str, Any]:
        if self._level is Level.V311:
            return {}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's only untyped call
        for name, value in self._manner.limits.items():
            setattr(properties, name, value)
        return {"clean_start": not self._manner.is_kept, "properties": properties}

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
        objection = getattr(self._socket, "objection", "")
        if flags.is_disconnect_packet_from_server:
            said = f"the broker ended the session: {reason}"
        else:  # paho's own reason is always "Unspecified error"
            said = f"the broker ended the connection: {objection}" if objection else "connection lost"
        self._lost = self._lost or said

    def _on_subscribe(
        self, _client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self._lost = f"the broker refuses a subscription: {refused[0]}"
        self._subscribed = True


@contextlib.contextmanager
def as_transfer_error(doing: str) -> Iterator[None]:
    """Let nothing but TransferError out of what is done with paho; it says what was being done."""
    try:
        yield
    except TransferError:
        raise
    except Exception as error:  # paho lets what a hostile or broken broker causes through as many types
        raise TransferError(f"{doing}: {in_words(error)}") from error


def _pending(connection: object) -> bool:
    return isinstance(connection, ssl.SSLSocket) and connection.pending() > 0

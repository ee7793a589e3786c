"""An MQTT client as a stranger would write one: it sends and asks for whatever a test wants."""

import queue
import socket
import ssl
import threading
from pathlib import Path

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

SECONDS = 60.0  # only what fails takes so long: a machine may do much else


class Stranger:
    """A client with a certificate and an id of its choice."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        client_id: str,
        *,
        level: int = 5,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.lost = threading.Event()
        self._port = port
        self._connected = threading.Event()
        self._acknowledged: queue.Queue[str] = queue.Queue()
        self._answers: queue.Queue[list[ReasonCode]] = queue.Queue()
        clean = None if level == MQTTProtocolVersion.MQTTv5 else True
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id, clean, protocol=MQTTProtocolVersion(level),
            reconnect_on_failure=False,
        )  # fmt: skip
        self._client.tls_set_context(context)
        if will is not None:
            self._client.will_set(*will, qos=1)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = lambda *_: self.lost.set()
        self._client.on_message = self._on_message
        self._client.on_publish = lambda _c, _d, _m, reason, _p: self._acknowledged.put(str(reason))
        self._client.on_subscribe = lambda _c, _d, _m, reasons, _p: self._answers.put(reasons)

    def connect(self) -> bool:
        """Tell whether the broker accepted the session."""
        self.lost.clear()
        try:
            self._client.connect("127.0.0.1", self._port)
        except OSError:
            self.close()
            return False
        self._client.loop_start()
        while not self._connected.wait(0.02):
            if self.lost.is_set():
                self.close()
                return False
        return True

    def subscribe(self, topic: str) -> None:
        """Ask for a topic and wait for the answer, which Mosquitto always gives as granted."""
        self._client.subscribe(topic, qos=1)
        self._answers.get(timeout=SECONDS)

    def ask(self, topic: str) -> None:
        """Ask for a topic, whatever the answer."""
        self._client.subscribe(topic, qos=1)

    def send(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> None:
        """Send a message without waiting for what becomes of it."""
        self._client.publish(topic, payload, qos=1, retain=retain)

    def deliver(self, topic: str, payload: bytes) -> str:
        """Send a message and return the broker's answer."""
        self.send(topic, payload)
        return self._acknowledged.get(timeout=SECONDS)

    def next(self) -> tuple[str, bytes]:
        """Return the next message."""
        return self.messages.get(timeout=SECONDS)

    def die(self) -> None:
        """Break the connection without a goodbye, as a power cut does."""
        connection = self._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        self.lost.wait(SECONDS)
        self.close()

    def close(self) -> None:
        """End the session."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()  # else left to the garbage collector, which warns

    def _on_connect(
        self, _client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if not reason.is_failure:
            self._connected.set()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.messages.put((message.topic, bytes(message.payload)))


def identity(folder: Path, name: str) -> ssl.SSLContext:
    """Return TLS with the certificate ``name`` in ``folder``."""
    context = anonymous(folder)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def anonymous(folder: Path) -> ssl.SSLContext:
    """Return TLS without a certificate of one's own."""
    return ssl.create_default_context(cafile=folder / "ca.pem")

"""Somebody with an administrator's identity who hears every byte that passes the broker."""

import datetime as dt
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from muster_controller.pki import Authority
from support.client import identity
from support.mosquitto import EAVESDROPPER, WAIT_SECONDS


@dataclass
class Heard:
    """Every message, as its topic and its bytes."""

    messages: list[tuple[str, bytes]] = field(default_factory=list)

    def find(self, traces: Sequence[bytes]) -> list[tuple[str, bytes]]:
        """Return topic and trace of every message that holds one."""
        return [(topic, trace) for topic, body in self.messages for trace in traces if trace in body]


@contextmanager
def eavesdropping(port: int, authority: Authority) -> Iterator[Heard]:
    """Hear everything that passes the broker at a port until the block ends; its rules have to allow it."""
    heard, subscribed = Heard(), threading.Event()
    authority.issue_client(EAVESDROPPER, dt.datetime.now(dt.UTC))
    client = Client(CallbackAPIVersion.VERSION2, EAVESDROPPER, protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(identity(authority.folder, EAVESDROPPER))
    client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _data, message: heard.messages.append(
        (message.topic, bytes(message.payload))
    )
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert subscribed.wait(WAIT_SECONDS)
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def traces_of(value: float | str) -> list[bytes]:
    """Return the forms in which a value may stand in bytes: as text, and as a float of either order."""
    if isinstance(value, str):
        return [value.encode(), value.encode("utf-16-le"), value.encode("utf-32-le")]
    texts = {repr(value), f"{value:.6g}", f"{value:.7g}", f"{value:.4f}"}
    numbers = [struct.pack(form, value) for form in ("<f", ">f", "<d", ">d")]
    return [*numbers, *(text.encode() for text in sorted(texts))]

"""The spare broker: amqtt, pure Python, for a handful of devices where no Mosquitto can be had.

It keeps the same rules as ``broker_config`` gives Mosquitto. amqtt itself asks for a client certificate
without insisting on one, and takes any client id, so this module

1. refuses, during the handshake, whoever has no certificate of our CA;
2. reads the first packet and refuses a client id that is not the certificate's name, before amqtt sees it and
   could end the session of the device whose name it is;
3. refuses a revoked device and a revoked certificate, and ends their sessions when it learns of them;
4. lets a device send only on its own ``up/`` topics and hear only its own ``down/`` topics.

What stays weaker than Mosquitto: MQTT 3.1.1 only, nothing survives a restart, and 10 ms of processor time for
each connection. Nothing is lost by that, because devices send again what no watermark covers.

Run as ``python -m muster_controller.broker.amqtt CONFIGURATION``; a hang-up signal reads it again.
"""

import asyncio
import logging
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import msgspec
from amqtt.adapters import ReaderAdapter, StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action, BrokerConfig, ListenerConfig
from amqtt.errors import NoDataError
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from muster_controller.broker.config import PACKET_BYTES, Amqtt
from muster_controller.pki import CONTROLLER
from muster_models import topics
from muster_models.errors import MessageError

FIRST_PACKET_SECONDS = 10.0
# CONNECT: type, length, name of the protocol (6 bytes), level, flags, keep-alive (2 bytes), client id.
CONNECT = 0x10
PROTOCOL_LEVEL = 8
CLIENT_ID = 12
SHORTEST_CONNECT = 12
LONGEST_CONNECT = 128  # ours has 12 bytes and a name of up to 63; neither will nor password
MQTT_3_1_1 = 4
UNACCEPTABLE_PROTOCOL = bytes((0x20, 2, 0, 1))
_log = logging.getLogger(__name__)
_revoked: set[str] = set()  # names and serials; read by the plugin, which amqtt makes itself
_live: dict[asyncio.StreamWriter, set[str]] = {}  # name and serial of each connection


def may(name: str, action: str, topic: str) -> bool:
    """Tell whether who is called ``name`` may ``publish`` to, ``subscribe`` to or ``receive`` a topic."""
    if name == CONTROLLER:
        return topic == topics.up_filter() or _is_own(topic, "+", "down" if action == "publish" else "up")
    if name in _revoked:
        return False
    return _is_own(topic, name, "up" if action == "publish" else "down")


def _is_own(topic: str, name: str, direction: str) -> bool:
    match topic.split("/"):
        case ["muster", "v1", _, device, found, _]:
            return found == direction and name in {"+", device} and not {"+", "#"} & set(topic)
        case _:
            return False


class Certificates(BaseAuthPlugin):  # type: ignore[misc]  # amqtt has no types
    """Accepts whoever reached amqtt: the certificate was checked before."""

    async def authenticate(self, *, session: Session) -> bool | None:
        """Tell that a session may begin."""
        return session.client_id is not None


class Topics(BaseTopicPlugin):  # type: ignore[misc]  # amqtt has no types
    """Applies ``may``."""

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        """Tell whether a session may do something with a topic."""
        if session is None or topic is None or action is None:
            return False
        return may(str(session.client_id), action.value, topic)


class MusterBroker(Broker):  # type: ignore[misc]  # amqtt has no types
    """amqtt, which believes certificates and nothing else."""

    @staticmethod
    def _create_ssl_context(listener: ListenerConfig) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(listener.cafile))
        context.load_cert_chain(str(listener.certfile), str(listener.keyfile))
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Let a connection in whose client id is its certificate's name."""
        certificate = writer.get_extra_info("peercert")
        name = common_name(certificate)
        try:
            async with asyncio.timeout(FIRST_PACKET_SECONDS):
                first = await read_connect(reader)
        except (TimeoutError, OSError, EOFError, MessageError) as error:
            _log.warning("refused: %s sent no CONNECT packet: %s", name, error)
            writer.close()
            return
        if first[PROTOCOL_LEVEL] != MQTT_3_1_1:
            # The client then tries the older protocol; amqtt would wait for bytes that never come.
            writer.write(UNACCEPTABLE_PROTOCOL)
            writer.close()
        elif name is None or client_id(first) != name:
            _log.warning("refused: the certificate of %s asks to be %.80r", name, client_id(first))
            writer.close()
        elif (known := {name, serial_of(certificate)}) & _revoked:
            _log.warning("refused: %s is revoked, or this certificate of it", name)
            writer.close()
        else:
            _live[writer] = known
            try:
                await self._client_connected(
                    listener_name, _Replay(first, reader), StreamWriterAdapter(writer)
                )
            finally:
                del _live[writer]


class _Replay(ReaderAdapter):  # type: ignore[misc]  # amqtt has no types
    """A stream whose first packet was read already, and is read again."""

    def __init__(self, first: bytes, reader: asyncio.StreamReader) -> None:
        self._first = first
        self._rest = StreamReaderAdapter(reader)
        self._reader = reader

    async def read(self, n: int = -1) -> bytes:
        if n > PACKET_BYTES:
            raise NoDataError(f"a packet has at most {PACKET_BYTES} bytes, got {n}")
        if self._first and n > 0:
            part, self._first = self._first[:n], self._first[n:]
            return part if len(part) == n else part + await self._read(n - len(part))
        return await self._read(n)

    async def _read(self, n: int) -> bytes:
        data: bytes = await self._rest.read(n)
        return data

    def feed_eof(self) -> None:
        self._reader.feed_eof()


async def read_connect(reader: asyncio.StreamReader) -> bytes:
    """Return the first packet of a connection, which has one byte of length so that offsets are fixed.

    Raises:
        MessageError: Not a CONNECT packet, or longer than one of ours.
    """
    head = await reader.readexactly(2)
    if head[0] != CONNECT or not SHORTEST_CONNECT <= head[1] < LONGEST_CONNECT:
        raise MessageError(
            f"expected a CONNECT packet of less than {LONGEST_CONNECT} bytes, got {head.hex()}"
        )
    return head + await reader.readexactly(head[1])


def client_id(connect: bytes) -> str:
    """Return the client id in a CONNECT packet of MQTT 3.1.1."""
    length = int.from_bytes(connect[CLIENT_ID : CLIENT_ID + 2])
    return connect[CLIENT_ID + 2 : CLIENT_ID + 2 + length].decode(errors="replace")


def common_name(certificate: dict[str, Any] | None) -> str | None:
    """Return the only common name of a certificate as ``ssl`` describes it."""
    names = [
        value for part in (certificate or {}).get("subject", ()) for key, value in part if key == "commonName"
    ]
    return names[0] if len(names) == 1 else None


def serial_of(certificate: dict[str, Any]) -> str:
    """Return the serial of a certificate (hex, lower case, without leading zeros)."""
    return f"{int(certificate['serialNumber'], 16):x}"


async def serve(path: Path) -> None:
    """Serve until the process is asked to end."""
    settings = read(path)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: read(path))
    broker = MusterBroker(make_config(settings))
    await broker.start()
    await ended.wait()
    await broker.shutdown()


def read(path: Path) -> Amqtt:
    """Read the configuration, take over from it who is revoked, and end their sessions."""
    settings = msgspec.json.decode(path.read_bytes(), type=Amqtt)
    _revoked.clear()
    _revoked.update(settings.revoked, settings.serials)
    for writer, known in _live.items():
        if known & _revoked:
            writer.transport.abort()
    return settings


def make_config(settings: Amqtt) -> BrokerConfig:
    """Return amqtt's own form of the configuration."""
    listener = ListenerConfig(
        bind=settings.bind,
        ssl=True,
        cafile=settings.authority,
        certfile=settings.certificate,
        keyfile=settings.key,
    )
    plugins: dict[str, dict[str, object]] = {
        f"{__name__}.{plugin.__name__}": {} for plugin in (Certificates, Topics)
    }
    return BrokerConfig(listeners={"default": listener}, plugins=plugins)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(Path(sys.argv[1])))

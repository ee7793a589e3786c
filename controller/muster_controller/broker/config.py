"""What the broker is told: where to listen, whom to believe, who may do what; and where the broker is.

The certificate is the identity: a device's name is the common name that the CA signed, and its client id is
that name, whatever it asks for. So no device can be another one, or end another one's session. The patterns
let a device touch only its own topics. A revoked certificate is on a list that the broker reads during the
handshake; a revoked name is denied every topic besides.
"""

import os
import pwd
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from muster_controller.pki import CONTROLLER
from muster_models import topics, wire

# Beside this interpreter (scripts/setup links it there), on PATH, and where distributions put it off PATH.
PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
# Messages kept for a controller that is away for a while; a device sends again what is lost beyond that.
QUEUED_MESSAGES = 100_000
QUEUED_BYTES = 256 * 1024 * 1024
# The broker sends so many ahead of acknowledgements, which come once per transaction of ingest.
IN_FLIGHT = 1_000
PACKET_BYTES = (
    2 * wire.MAX_BYTES
)  # more than the largest message, so that ingest sees and counts what is too large


@dataclass(frozen=True)
class Listener:
    """Where devices connect.

    Attributes:
        pki: Holds ``ca.pem``, ``server.pem`` and ``server.key``.
    """

    host: str
    port: int
    pki: Path

    @property
    def local_host(self) -> str:
        """The address by which this machine reaches the listener."""
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what an operator may set
        return anywhere.get(self.host, self.host)


@dataclass(frozen=True)
class Revoked:
    """Whom the broker must turn away.

    Attributes:
        devices: May do nothing, whatever they show.
        certificates: Device by serial (hex): the device may come back with another certificate.
    """

    devices: tuple[str, ...] = ()
    certificates: Mapping[str, str] = field(default_factory=dict)

    def since(self, before: "Revoked") -> set[str]:
        """Return the devices whose sessions must end, now that this holds instead of ``before``."""
        devices = set(self.devices) - set(before.devices)
        return devices | {
            device for serial, device in self.certificates.items() if serial not in before.certificates
        }


class Amqtt(msgspec.Struct, frozen=True):
    """What the spare broker is told; all but ``revoked`` and ``serials`` holds until it ends.

    Attributes:
        bind: ``host:port``.
        authority, certificate, key: Paths.
        revoked: Devices that may do nothing.
        serials: Certificates that may not connect.
    """

    bind: str
    authority: str
    certificate: str
    key: str
    revoked: tuple[str, ...]
    serials: tuple[str, ...]


def find_mosquitto() -> Path | None:
    """Return where Mosquitto is installed; None when it is not."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), *PLACES]
    found = shutil.which("mosquitto", path=os.pathsep.join(places))
    return None if found is None else Path(found)


def environment(mosquitto: Path) -> dict[str, str]:
    """Return the environment in which Mosquitto finds its libraries when it was unpacked, not installed."""
    root = mosquitto.resolve().parents[2]  # <root>/usr/sbin/mosquitto
    libraries = [str(path) for path in (root / "usr/lib").glob("*-linux-gnu*")]
    if root == Path("/") or not libraries:
        return {**os.environ}
    known = os.environ.get("LD_LIBRARY_PATH", "")
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *filter(None, [known])])}


def render_mosquitto(folder: Path, listener: Listener) -> str:
    """Return ``mosquitto.conf``; the topic rules are in ``acl`` beside it."""
    lines = [
        # Without root this means nothing; as root, Mosquitto would become somebody who cannot read our keys.
        f"user {pwd.getpwuid(0).pw_name}" if os.geteuid() == 0 else "",
        f"listener {listener.port} {listener.host}",
        f"cafile {listener.pki / 'ca.pem'}",
        f"certfile {listener.pki / 'server.pem'}",
        f"keyfile {listener.pki / 'server.key'}",
        f"crlfile {folder / 'revoked.pem'}",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "allow_anonymous false",
        f"acl_file {folder / 'acl'}",
        "set_tcp_nodelay true",
        f"max_inflight_messages {IN_FLIGHT}",
        f"max_queued_messages {QUEUED_MESSAGES}",
        f"max_queued_bytes {QUEUED_BYTES}",
        f"max_packet_size {PACKET_BYTES}",
        # What is remembered spares a resend; nothing relies on it, because a broker's promise is not durable.
        "persistence true",
        f"persistence_location {folder}/",
        "autosave_interval 60",
        "persistent_client_expiration 2d",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "connection_messages false",
    ]
    return "\n".join(filter(None, lines)) + "\n"


def render_acl(revoked: Sequence[str]) -> str:
    """Return who may use which topics."""
    lines = [
        f"user {CONTROLLER}",
        f"topic read {topics.up_filter()}",
        f"topic write {topics.ROOT}/+/+/down/+",
    ]
    for device in revoked:
        lines += [f"user {device}", "topic deny #"]
    lines += [
        f"pattern write {topics.ROOT}/+/%u/up/+",
        f"pattern read {topics.ROOT}/+/%u/down/+",
    ]
    return "\n".join(lines) + "\n"


def render_amqtt(listener: Listener, revoked: Revoked) -> str:
    """Return what ``broker_amqtt`` reads."""
    return msgspec.json.encode(
        Amqtt(
            bind=f"{listener.host}:{listener.port}",
            authority=str(listener.pki / "ca.pem"),
            certificate=str(listener.pki / "server.pem"),
            key=str(listener.pki / "server.key"),
            revoked=revoked.devices,
            serials=tuple(revoked.certificates),
        )
    ).decode()

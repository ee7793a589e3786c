"""Every MQTT topic, built and parsed in one place.

``muster/v1/<shard>/<device>/up/{hello,report,window,event,sample}`` and ``…/down/{desired,stored}``.
The shard lets ingest be divided without shared subscriptions.
"""

import functools
import hashlib
import re
from dataclasses import dataclass
from typing import Literal, get_args

from muster_models.errors import MessageError

Up = Literal["hello", "report", "window", "event", "sample"]
Down = Literal["desired", "stored"]

ROOT = "muster/v1"
DEVICE_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")  # also the certificate's common name


@dataclass(frozen=True)
class UpTopic:
    """A parsed uplink topic."""

    device: str
    kind: Up


def check_device(device: str) -> str:
    """Return ``device`` unchanged if it is a legal device id.

    Raises:
        MessageError: The id has a character, or a length, that topics and certificates do not allow.
    """
    if DEVICE_PATTERN.fullmatch(device) is None:
        raise MessageError(f"device id must match {DEVICE_PATTERN.pattern}, got {device[:80]!r}")
    return device


@functools.lru_cache(maxsize=2**16)
def shard(device: str) -> str:
    """Return the shard of a device: the first byte of SHA-256(device), in hex."""
    return hashlib.sha256(device.encode()).hexdigest()[:2]


def up(device: str, kind: Up) -> str:
    """Return the topic on which ``device`` sends messages of ``kind``."""
    return f"{ROOT}/{shard(device)}/{check_device(device)}/up/{kind}"


def down(device: str, kind: Down) -> str:
    """Return the topic on which ``device`` receives messages of ``kind``."""
    return f"{ROOT}/{shard(device)}/{check_device(device)}/down/{kind}"


def up_filter(shard_: str = "+") -> str:
    """Return the subscription filter for everything the devices of one shard send."""
    return f"{ROOT}/{shard_}/+/up/+"


def parse_up(topic: str) -> UpTopic:
    """Parse an uplink topic.

    Raises:
        MessageError: Not an uplink topic of this version, or the shard is not the device's own.
    """
    match topic.split("/"):
        case ["muster", "v1", shard_, device, "up", kind] if kind in get_args(Up):
            check_device(device)
            if shard_ != shard(device):
                raise MessageError(f"topic shard must be {shard(device)} for {device}, got {shard_[:8]!r}")
            return UpTopic(device, kind)  # type: ignore[arg-type]  # narrowed by the guard above
        case _:
            raise MessageError(f"expected {ROOT}/<shard>/<device>/up/<kind>, got {topic[:120]!r}")

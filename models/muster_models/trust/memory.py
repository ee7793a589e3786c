"""What a device never forgets: the last verified documents, the floors, and a lower bound of the time.

One file, replaced as a whole, with a checksum. python-tuf's own cache may be lost or damaged by a power cut;
it is restored from here, so nothing older is accepted after one.
"""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from muster_models.durable import replace
from muster_models.trust.anchor import Documents

_log = logging.getLogger(__name__)
_PLAUSIBLE = 1_767_225_600.0  # 2026-01-01: a clock before it was never set
_AHEAD = 86_400.0  # seconds that the controller's clock may run before a device's


class Memory(Struct, frozen=True):
    """The content of the file.

    Attributes:
        time_floor: Unix seconds; no earlier instant is believed.
        floors: The highest signed floor seen, by model.
    """

    documents: Documents | None = None
    time_floor: float = 0.0
    floors: dict[str, int] = {}
    format: int = 1


def load(path: Path) -> Memory:
    """Read the file; a device that lost it is as a new one, which the log says."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Memory()
    checksum, body = content[:32], content[32:]
    if hashlib.sha256(body).digest() != checksum:
        _log.error("%s is damaged: what this device had verified is forgotten", path)
        return Memory()
    return msgspec.msgpack.decode(body, type=Memory)


def at_least(memory: Memory, moment: float) -> Memory:
    """Return the memory with a time floor not below ``moment``, which the pinned root was signed at."""
    return msgspec.structs.replace(memory, time_floor=max(memory.time_floor, moment))


def save(path: Path, memory: Memory) -> None:
    """Replace the file.

    Raises:
        StorageError: The disk refused; the old file is still there.
    """
    body = msgspec.msgpack.encode(memory)
    replace(path, hashlib.sha256(body).digest() + body)


def raise_time(floor: float, clock: float, *, offline: Iterable[float], online: Iterable[float]) -> float:
    """Return the new time floor after documents were verified.

    The online keys are the ones a thief gets, and a floor in the far future would expire everything for ever.
    So a time they signed counts only up to a day ahead of the clock, unless the clock was plainly never set.

    Args:
        offline: Signing times by offline keys, Unix seconds.
        online: Signing times by the controller's keys.
    """
    allowed = clock + _AHEAD if clock >= _PLAUSIBLE else float("inf")
    return max([floor, *offline, *(min(moment, allowed) for moment in online)])

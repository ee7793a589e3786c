"""Which devices of a cohort a version will not reach, or not now, and why. Pure.

The device has the last word: it checks the same things before it fetches anything. What it never said is not
held against it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_models.manifest import Manifest

# What a device keeps free for everything else, see the agent's store.
HEADROOM_BYTES: Final = 4 * 1024 * 1024
Lack = Callable[
    [str], str | None
]  # an engine as a device names it -> what it lacks for the version, in words


class Bar(StrEnum):
    """What keeps a version from a device."""

    REVOKED = "revoked"
    PENDING = "pending"
    PINNED = "pinned"
    ELSEWHERE = "in-another-rollout"
    WRONG_HARDWARE = "wrong-hardware"
    WRONG_RUNTIME = "wrong-runtime"
    OLD_RUNTIME = "runtime-too-old"
    OLD_AGENT = "agent-too-old"
    NO_SPACE = "no-space"
    SILENT = "offline"
    NO_ZONE = "unknown-time-zone"
    RUNS_IT = "runs-it-already"


@dataclass(frozen=True)
class Ineligible:
    """One device that a version will not reach, or not now.

    Attributes:
        detail: What is asked for and what is there, in words.
    """

    device: str
    bar: Bar
    detail: str


@dataclass(frozen=True)
class Known:
    """What is known beside the devices themselves.

    Attributes:
        manifest: Of the version.
        digest: Of the version.
        held: Bytes that each device of a version, by its digest, need not fetch for this one.
        lack: Tells what an engine lacks.
        revoked, pending: Devices that the selector would name if they were enrolled.
        pinned: Devices that it names and that are drawn into no rollout, each with the value of that label.
    """

    manifest: Manifest
    digest: str
    held: Mapping[str, int] = field(default_factory=dict)
    lack: Lack = lambda _: None
    revoked: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    pinned: Mapping[str, str] = field(default_factory=dict)


def ineligible(
    known: Known, facts: Facts, cohort: Mapping[str, DeviceFacts], *, zoned: bool
) -> list[Ineligible]:
    """Return the devices that the version will not reach, or not now, each with its first reason, by id.

    Args:
        known: About version and fleet.
        facts: Of this moment.
        cohort: Devices that the selector chooses.
        zoned: The plan minds the clock on a device's wall.
    """
    outside = {
        **dict.fromkeys(known.revoked, (Bar.REVOKED, "its certificates are refused")),
        **dict.fromkeys(known.pending, (Bar.PENDING, "nobody has let it in yet")),
        **{name: (Bar.PINNED, f"its label says pinned = {value}") for name, value in known.pinned.items()},
    }
    found = [Ineligible(name, *reason) for name, reason in outside.items()]
    for name, device in cohort.items():
        first = next(_bars(known, facts, device, zoned=zoned), None)
        if first is not None:
            found.append(Ineligible(name, *first))
    return sorted(found, key=lambda one: one.device)


def fetches(known: Known, device: DeviceFacts) -> int:
    """Return the bytes that a device fetches for the version; a delta may make them fewer."""
    if device.current == known.digest:
        return 0
    return known.manifest.total_length - known.held.get(device.current or "", 0)


def _bars(known: Known, facts: Facts, device: DeviceFacts, *, zoned: bool) -> Iterator[tuple[Bar, str]]:
    """Yield what keeps the version from a device, the most lasting first."""
    if device.device in facts.elsewhere:
        yield Bar.ELSEWHERE, f"rollout {facts.elsewhere[device.device]} decides for it"
    yield from _unfit(known, device)
    if device.current == known.digest:
        yield Bar.RUNS_IT, "it counts as updated at once"
    if zoned and device.zone not in facts.offsets:
        yield Bar.NO_ZONE, f"nobody knows when it is {device.zone[:40]!r} o'clock: its windows never open"
    if not facts.is_reachable(device):
        since = "never" if device.seen is None else f"{lasting(facts.now - device.seen)} ago"
        yield Bar.SILENT, f"last heard of {since}; it is given the version when it comes back"


def _unfit(known: Known, device: DeviceFacts) -> Iterator[tuple[Bar, str]]:
    manifest = known.manifest
    if manifest.hardware and device.hardware and device.hardware not in manifest.hardware:
        yield (
            Bar.WRONG_HARDWARE,
            f"it is {device.hardware}, the version is for {', '.join(manifest.hardware)}",
        )
    if device.runtimes:
        engine = device.runtimes.get(manifest.runtime)
        if engine is None:
            here = ", ".join(sorted(device.runtimes))
            yield Bar.WRONG_RUNTIME, f"it has {here}, the version needs the {manifest.runtime} engine"
        elif (lacking := known.lack(engine)) is not None:
            yield Bar.OLD_RUNTIME, f"{engine}: {lacking}"
    if device.agent and _release(device.agent) < _release(manifest.min_agent):
        yield Bar.OLD_AGENT, f"its agent is {device.agent}, the version needs {manifest.min_agent}"
    needed = fetches(known, device)
    free = device.disk_free_bytes - HEADROOM_BYTES
    if device.disk_free_bytes and needed > free:
        yield Bar.NO_SPACE, f"{max(0, free):,} bytes are free for it, the version takes {needed:,}"


def _release(version: str) -> tuple[int, ...]:
    # Numbers only, as the device compares them.
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def lasting(seconds: float) -> str:
    """Say how long something lasts, in one unit."""
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"

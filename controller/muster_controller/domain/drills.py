"""A drill: some devices are sent to another version and back, and the way back is timed. Pure.

::

    away -> back -> done | incomplete

What moves the devices is a rollout like any other, and the order that rolls it back: a drill only watches,
and says when that order is due. Times are of the controller: when it ordered, and when it saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from muster_controller.domain.facts import DeviceFacts
from muster_models.wire import Phase

_SETTLED = frozenset({Phase.IDLE, Phase.COMMITTED, Phase.ROLLED_BACK, Phase.SUPERSEDED})


class DrillPhase(StrEnum):
    """Where a drill is."""

    AWAY = "away"  # devices are on their way to the other version
    BACK = "back"  # they were ordered back
    DONE = "done"  # every device went there and came back
    INCOMPLETE = "incomplete"


LIVE = (DrillPhase.AWAY, DrillPhase.BACK)


class Trip(Struct, frozen=True):
    """One device.

    Attributes:
        away: When it was seen to run the other version, Unix seconds; None for never.
        back: When it was seen to run its own version again after the order.
    """

    away: float | None = None
    back: float | None = None


class Drill(Struct, frozen=True):
    """A drill as it was left.

    Attributes:
        version: Digest of what the devices run, and come back to.
        other: Digest of the version they are sent to.
        begun: When they were ordered away, Unix seconds.
        ordered: When they were ordered back.
        ended: When the drill was over.
        patience: Seconds after which it goes on without those that do not move; of each of the two ways.
        why: What was not as it should be, in words.
    """

    version: str
    other: str
    trips: dict[str, Trip]
    begun: float
    patience: float
    phase: DrillPhase = DrillPhase.AWAY
    ordered: float | None = None
    ended: float | None = None
    why: str = ""

    @property
    def seconds(self) -> float | None:
        """From the order to come back until the last device had; None unless every one did."""
        backs = [trip.back for trip in self.trips.values()]
        if self.phase is not DrillPhase.DONE or self.ordered is None:
            return None
        return max(back - self.ordered for back in backs if back is not None)


@dataclass(frozen=True)
class Look:
    """What follows from a look at a drill.

    Attributes:
        order_back: The rollout is to be rolled back now.
    """

    drill: Drill
    order_back: bool = False


def look(drill: Drill, devices: Mapping[str, DeviceFacts], *, moving: bool, now: float) -> Look:
    """Return where a drill is, and whether the devices are to be ordered back.

    Args:
        drill: As it was left.
        devices: What is known of each; one that is not there was revoked.
        moving: The rollout still sends devices to the other version, or has; False when it goes back already.
        now: Unix seconds.
    """
    if drill.phase is DrillPhase.AWAY:
        return _watch_away(drill, devices, moving=moving, now=now)
    if drill.phase is DrillPhase.BACK:
        return Look(_watch_back(drill, devices, now))
    return Look(drill)


def _watch_away(drill: Drill, devices: Mapping[str, DeviceFacts], *, moving: bool, now: float) -> Look:
    trips = {
        name: replace(trip, away=now) if trip.away is None and _runs(devices.get(name), drill.other) else trip
        for name, trip in drill.trips.items()
    }
    seen = replace(drill, trips=trips)
    if not moving:
        why = "the rollout went back by itself, or was steered by somebody"
        return Look(replace(seen, phase=DrillPhase.BACK, ordered=now, why=why))
    late = now >= drill.begun + drill.patience
    if not late and any(trip.away is None for trip in trips.values()):
        return Look(seen)
    return Look(replace(seen, phase=DrillPhase.BACK, ordered=now), order_back=True)


def _watch_back(drill: Drill, devices: Mapping[str, DeviceFacts], now: float) -> Drill:
    trips = {
        name: replace(trip, back=now) if trip.back is None and _came(drill, devices.get(name)) else trip
        for name, trip in drill.trips.items()
    }
    seen = replace(drill, trips=trips)
    assert drill.ordered is not None
    missing = sorted(name for name, trip in trips.items() if trip.back is None)
    if missing and now < drill.ordered + drill.patience:
        return seen
    stayed = sorted(name for name, trip in trips.items() if trip.away is None)
    faults = [drill.why] if drill.why else []
    faults += [f"never went: {', '.join(stayed)}"] if stayed else []
    faults += [f"not back after {drill.patience:g} s: {', '.join(missing)}"] if missing else []
    phase = DrillPhase.INCOMPLETE if faults else DrillPhase.DONE
    return replace(seen, phase=phase, ended=now, why="; ".join(faults))


def _runs(device: DeviceFacts | None, digest: str) -> bool:
    return device is not None and device.current == digest and device.phase in _SETTLED


def _came(drill: Drill, device: DeviceFacts | None) -> bool:
    """Tell whether a device confirmed that it is back, after it was ordered to."""
    if device is None or device.seen is None or drill.ordered is None:
        return False
    return device.seen > drill.ordered and _runs(device, drill.version)

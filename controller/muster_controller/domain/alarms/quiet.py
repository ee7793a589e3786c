"""Devices that fell silent: one alarm per cause, of kind ``silence``, at the level that explains it. Pure.

1. A device is quiet when nothing was heard of it for several heartbeats, their jitter included. After a start
   of the controller, time counts from when it listens.
2. Quiet devices that no firing alarm explains are attributed: to the fleet when most of it is quiet (a broker
   or a line is down), to a group when most of that is, else each to itself. Devices with a firing alarm of
   their own count on neither side: what is dead for a month must not stand for an outage of today.
3. A pending alarm is attributed anew in each pass, so that the devices of one outage, which cross one after
   the other, end in one alarm. It fires after ``hold`` seconds.
4. It is resolved when its device is heard of; that of a group or the fleet when less than half is quiet.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from muster_controller.domain.alarms.alarm import Level

JITTER = 0.2  # of a heartbeat: how much later than expected one may come
MOST = 0.8  # of a group or the fleet
STILL = 0.5
FEWEST = 2  # one device is no group
ALL = "all"


@dataclass(frozen=True)
class Term:
    """How long silence may last.

    Attributes:
        limit: Seconds without a word after which a device is quiet.
        hold: Seconds that an alarm is pending.
    """

    limit: float
    hold: float


def term(heartbeat: float, *, missed: float, reachable: float) -> Term:
    """Return the term for devices that report every ``heartbeat`` seconds.

    Args:
        missed: Heartbeats that may be missed in a row.
        reachable: A device is never quiet before it counts as out of reach (seconds).
    """
    return Term(max(reachable, missed * heartbeat * (1 + JITTER)), heartbeat * (1 + JITTER))


@dataclass(frozen=True)
class Watched:
    """A device that is expected to speak.

    Attributes:
        seen: When it was last heard of, Unix seconds.
        groups: The ``label=value`` that it belongs to, of the labels that are watched.
    """

    device: str
    seen: float
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hush:
    """An alarm about silence.

    Attributes:
        id: None for one that has no record yet.
        devices: Those of its scope that are quiet.
        seen: When the last of them was heard of.
    """

    level: Level
    subject: str
    since: float
    id: int | None = None
    fired_at: float | None = None
    resolved_at: float | None = None
    devices: tuple[str, ...] = ()
    seen: float = 0.0


def watch(
    devices: Sequence[Watched], active: Sequence[Hush], config: Term, *, listening: float, now: float
) -> list[Hush]:
    """Return every alarm that stands now, and those that ended in this pass (with ``resolved_at``).

    Args:
        devices: Everyone who was ever heard of and is expected to speak.
        active: Alarms that are pending or firing, as they were left.
        listening: Since when the controller listens, Unix seconds.
    """
    scene = _Scene(devices, config.limit, listening, now)
    firing = [one for one in active if one.fired_at is not None]
    standing = [one for one in firing if scene.stands(one)]
    ended = [one for one in firing if one not in standing]
    covered = {device for one in standing for device in scene.members(one.level, one.subject)}
    known = {device for one in active for device in scene.quiet_of(one)} - covered
    scopes = scene.attribute(covered, known)
    pending = {(one.level, one.subject): one for one in active if one.fired_at is None}
    begun = [_follow(scope, pending, scene, config, now) for scope in scopes]
    ended += [pending[name] for name in pending.keys() - set(scopes)]
    return [
        *(scene.described(one) for one in standing),
        *begun,
        *(_with_end(one, now) for one in ended),
    ]


def _follow(
    scope: tuple[Level, str],
    pending: Mapping[tuple[Level, str], Hush],
    scene: "_Scene",
    config: Term,
    now: float,
) -> Hush:
    level, subject = scope
    held = pending.get(scope)
    inside = set(scene.members(level, subject))
    # What was pending about a part of it began the same outage.
    since = min([one.since for one in pending.values() if inside.issuperset(one.devices)], default=now)
    known = held or Hush(level, subject, since)
    fired_at = now if now - since >= config.hold else None
    return scene.described(Hush(level, subject, known.since, known.id, fired_at))


def _with_end(hush: Hush, now: float) -> Hush:
    return Hush(hush.level, hush.subject, hush.since, hush.id, hush.fired_at, now, hush.devices, hush.seen)


class _Scene:
    """Who speaks and who does not."""

    def __init__(self, devices: Sequence[Watched], limit: float, listening: float, now: float) -> None:
        self._devices = {one.device: one for one in devices}
        self._quiet = {one.device for one in devices if now - one.seen > limit}
        self._new = {device for device in self._quiet if now - listening > limit}
        self._groups: dict[str, list[str]] = {}
        for one in devices:
            for group in one.groups:
                self._groups.setdefault(group, []).append(one.device)

    def members(self, level: Level, subject: str) -> Collection[str]:
        """Return the devices of a scope."""
        match level:
            case "fleet":
                return self._devices.keys()
            case "group":
                return self._groups.get(subject, ())
            case "device":
                return (subject,) if subject in self._devices else ()

    def quiet_of(self, hush: Hush) -> set[str]:
        """Return the quiet devices of an alarm's scope."""
        return self._quiet.intersection(self.members(hush.level, hush.subject))

    def stands(self, hush: Hush) -> bool:
        """Tell whether a firing alarm goes on."""
        members = self.members(hush.level, hush.subject)
        share = STILL if hush.level != "device" else 1.0
        return len(members) > 0 and len(self.quiet_of(hush)) >= share * len(members)

    def attribute(self, covered: Collection[str], known: Collection[str]) -> list[tuple[Level, str]]:
        """Return the scopes of the quiet devices that no firing alarm covers, widest first.

        Args:
            known: Quiet devices that an alarm was about already: a new start of the controller does not
                make them speak.
        """
        base = self._devices.keys() - covered
        loose = (self._new | set(known)) & base
        if _is_most(loose, base):
            return [("fleet", ALL)]
        scopes: list[tuple[Level, str]] = []
        for group in sorted(self._groups, key=lambda name: (-len(self._groups[name]), name)):
            if _is_most(loose, base.intersection(self._groups[group])):
                scopes.append(("group", group))
                loose -= set(self._groups[group])
        return [*scopes, *(("device", device) for device in sorted(loose))]

    def described(self, hush: Hush) -> Hush:
        """Return an alarm with who is quiet now."""
        devices = tuple(sorted(self.quiet_of(hush)))
        seen = max((self._devices[device].seen for device in devices), default=hush.seen)
        return Hush(hush.level, hush.subject, hush.since, hush.id, hush.fired_at, None, devices, seen)


def _is_most(loose: Collection[str], base: Collection[str]) -> bool:
    return len(base) >= FEWEST and len(set(loose).intersection(base)) >= MOST * len(base)

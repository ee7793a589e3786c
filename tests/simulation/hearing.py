"""Whom a rollout must have heard before a stage ends, restated from the windows that are stored.

Two promises. Whoever can speak is heard: a device of the stage that was known before, runs the version and is
in touch. And what it shows is not overlooked: where half of its calls fail, and it is one of a few, neither
the others nor good rounds from before it came are an excuse.
"""

import sqlite3
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]
Place = tuple[int, int]  # the look in which a round was closed, and its number: what is compared has the same
Places = Mapping[str, set[Place]]  # by device

CONTROL = -1
LEAST_ROUNDS = 3  # that any verdict rests on
ROWS = 2  # times the rows of a device in a round that a plan asks for: enough for every gauge
IN_TOUCH_ROUNDS = 8.0  # since a device was heard of: less than what the settings call reachable
DONE = frozenset({"idle", "committed"})


@dataclass(frozen=True)
class Stage:
    """A stage at the moment in which it ends.

    Attributes:
        since: Looks that there had been when it began.
        version: What was heard of the version, by device; the round in which it changed is left out.
        previous: What was heard of the version before it.
        arms: By device, of those that were given the version and of the control.
        able: Those that are known from the time before and in touch, and run what they should.
    """

    since: int
    version: Places
    previous: Places
    arms: Mapping[str, int]
    able: Collection[str]

    def of_control(self) -> set[Place]:
        """Return the rounds of this stage with a device of the control in them."""
        control = (self.previous.get(device, set()) for device, arm in self.arms.items() if arm == CONTROL)
        return {place for place in set[Place]().union(*control) if place[0] >= self.since}

    def compared(self, devices: Collection[str]) -> set[Place]:
        """Return the rounds of this stage in which one of some devices was compared with the control."""
        return (
            set[Place]().union(*(self.version.get(device, set()) for device in devices)) & self.of_control()
        )


def unheard(stage: Stage) -> list[str]:
    """Return the devices that a stage ended without, although they could speak.

    None where the control rests as well: applications do.
    """
    treated = [device for device in stage.able if stage.arms[device] != CONTROL]
    control = [device for device in stage.able if stage.arms[device] == CONTROL]
    lately = set(
        sorted(stage.compared([d for d, arm in stage.arms.items() if arm != CONTROL]))[-LEAST_ROUNDS:]
    )
    if len(lately) < LEAST_ROUNDS or not all(stage.previous.get(d, set()) >= lately for d in control):
        return []
    return sorted(device for device in treated if not any(p[0] >= stage.since for p in stage.version[device]))


def revealing(stage: Stage, sick: Collection[str]) -> list[str]:
    """Return the devices of a stage that showed what is wrong with a version, while they could be heard."""
    return sorted(device for device in stage.able if stage.arms[device] != CONTROL and device in sick)


def look_at(
    connection: sqlite3.Connection, number: int, plan: Document, *, since: float, looks: Sequence[float]
) -> Stage:
    """Return a stage as it is stored.

    Args:
        since: When it was admitted, Unix seconds.
        looks: When windows were taken in and rounds closed; the last time just now.
    """
    digest, length = plan["digest"], plan["round_seconds"]
    version, previous = (_heard(connection, plan, one, looks) for one in (digest, plan["previous"]))
    query = "SELECT device, arm FROM rollout_member WHERE rollout = ? AND (arm < 0 OR given IS NOT NULL)"
    arms = dict(connection.execute(query, (number,)).fetchall())
    (started,) = connection.execute("SELECT created_at FROM rollout WHERE id = ?", (number,)).fetchone()
    known = Counter(
        device
        for device, places in previous.items()
        for index in {index for _, index in places}
        if index < started / 1000 // length - 1
    )
    running = connection.execute(
        "SELECT running.device, current, target, phase, last_seen FROM running JOIN device "
        "ON device.id = running.device"
    ).fetchall()
    able = {
        device
        for device, current, target, phase, seen in running
        if device in arms
        and current == (plan["previous"] if arms[device] == CONTROL else digest)
        and (phase in DONE or target != digest)
        and looks[-1] - (seen or 0) / 1000 < IN_TOUCH_ROUNDS * length
        and known[device] > plan["before_rounds"]
    }
    return Stage(bisect_left(looks, since) + 1, version, previous, arms, able)


def _heard(
    connection: sqlite3.Connection, plan: Document, digest: str, looks: Sequence[float]
) -> defaultdict[str, set[Place]]:
    """Return the rounds in which each device was heard of a version, with rows enough."""
    length, changed = plan["round_seconds"], dict[str, int]()
    calls = defaultdict[str, Counter[Place]](Counter)
    query = "SELECT device, start, end, calls, received_at FROM window WHERE digest = ? ORDER BY id"
    for device, start, end, count, received in connection.execute(query, (digest,)):
        index, taken = int((start + end) / 2000 // length), bisect_left(looks, received / 1000)
        if taken == len(looks):
            break  # it came after the last look
        if digest == plan["digest"] and index <= changed.setdefault(device, index):
            continue
        is_ahead = index > looks[taken] // length + 1
        closed = taken if is_ahead else max(taken, bisect_left(looks, (index + 2) * length))
        if closed < len(looks):
            calls[device][closed, index] += count
    least = ROWS * plan["minimum_rows"]
    return defaultdict(
        set, {device: {p for p, count in held.items() if count >= least} for device, held in calls.items()}
    )

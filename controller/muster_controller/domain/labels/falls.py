"""From detectors to alarms: which devices are worse than was promised, one alarm per cause.

1. A subject whose detector reaches the bound, the run length times the number of subjects, is a crossing.
2. Its cause is looked for upwards, as with drift of inputs: when most devices of its group, or of the fleet,
   are worse alike, the alarm is about those.
3. When something else is known to be wrong with most of these devices, such as drift of their inputs, that is
   the alarm, and what accuracy does is said there: one cause, one alarm.
4. An alarm ends when its devices have kept the promise for some rounds, or run another version.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec.structs import replace

from muster_controller.domain.drift.groups import Groups
from muster_controller.domain.labels.detector import (
    ALL,
    DEVICE,
    FLEET,
    GROUP,
    Fall,
    Level,
    Promise,
    Round,
    Seen,
    State,
    Subjects,
    subjects_of,
    watch,
    with_subjects,
)

CALM_ROUNDS = 5
ALIKE = 0.4  # of the strongest: a device that is worse by so much shares the cause
MOST_OF_GROUP = 0.66
MOST_OF_FLEET = 0.7
MOST_EXPLAINED = 0.5  # of an alarm's devices, which something else then explains
_ORDER = (FLEET, GROUP, DEVICE)


@dataclass(frozen=True)
class Terms:
    """What an alarm needs, and whom it is about.

    Attributes:
        groups: Names of the groups of each device, such as ``site=berlin``.
        run_length: Mean number of rounds to the first false alarm of a version.
        others: What else is known to be wrong with a device, in words.
        left: Devices that run another version by now: alarms about those alone are over.
    """

    promise: Promise
    groups: Groups
    run_length: float
    others: Mapping[str, str] = field(default_factory=dict)
    left: frozenset[str] = frozenset()


@dataclass
class _Scene:
    """The devices of a version as they are of late."""

    terms: Terms
    subjects: Subjects
    falls: list[Fall]
    ended: list[Fall] = field(default_factory=list)

    @property
    def bound(self) -> float:
        return bound_of(self.subjects, self.terms)

    def devices(self) -> list[str]:
        return [name for level, name in self.subjects if level == DEVICE]

    def members(self, level: Level, name: str) -> list[str]:
        if level == FLEET:
            return self.devices()
        if level == GROUP:
            return [one for one in self.devices() if name in self.terms.groups.get(one, ())]
        return [name]

    def excess(self, device: str) -> float:
        return self.subjects[DEVICE, device].rate - self.terms.promise.allowed

    def noise(self, device: str) -> float:
        seen = self.subjects[DEVICE, device]
        if not self.terms.promise.is_share:
            return seen.noise
        share = (seen.bad + 1) / (seen.n + 2)
        return math.sqrt(share * (1 - share) / max(seen.n, 1e-9))

    def pooled(self, devices: Iterable[str]) -> tuple[float, float]:
        """Return badness of some devices together, and of how many labels."""
        held = [self.subjects[DEVICE, name] for name in devices if (DEVICE, name) in self.subjects]
        n = sum(seen.n for seen in held)
        return (sum(seen.bad for seen in held) / n if n else 0.0), n


def bound_of(subjects: Subjects, terms: Terms) -> float:
    """Return the logarithm of what a detector has to reach, with so many of them."""
    return math.log(terms.run_length * max(1, len(subjects)))


def follow(
    state: State, rounds: Sequence[Round], terms: Terms, *, now: float
) -> tuple[State, tuple[Fall, ...]]:
    """Return the state after some rounds, and the alarms that ended; those that stand are in the state.

    Args:
        state: Of one version.
        rounds: New ones; none when only ``others`` may have changed.
        terms: What an alarm needs.
        now: When an alarm of these rounds begins, Unix seconds.
    """
    scene = _Scene(terms, subjects_of(state), list(state.falls))
    crossed: dict[tuple[Level, str], float] = {}
    for one in sorted(rounds, key=lambda one: one.end):
        scene.subjects = watch(scene.subjects, one, terms.promise, terms.groups)
        scene.falls = [_calmed(scene, fall, one) for fall in scene.falls]
        for key, seen in _heard(scene, one):
            if seen.value >= scene.bound:
                crossed[key] = max(seen.value, crossed.get(key, -math.inf))
    for (level, name), value in sorted(crossed.items(), key=lambda entry: _place(entry[0], entry[1])):
        _open(scene, level, name, value=value, now=now)
    over = [fall for fall in scene.falls if fall.calm >= CALM_ROUNDS or terms.left.issuperset(fall.devices)]
    scene.falls = [_refreshed(scene, fall) for fall in scene.falls if fall not in over]
    subjects = _without(scene, over)
    return replace(with_subjects(state, subjects), falls=tuple(scene.falls)), (*scene.ended, *over)


def _heard(scene: _Scene, one: Round) -> Iterable[tuple[tuple[Level, str], Seen]]:
    names = {(FLEET, ALL), *((DEVICE, name) for name in one.devices)}
    names |= {(GROUP, group) for name in one.devices for group in scene.terms.groups.get(name, ())}
    return [(name, scene.subjects[name]) for name in sorted(names)]


def _place(key: tuple[Level, str], value: float) -> tuple[int, float]:
    return _ORDER.index(key[0]), -value


def _calmed(scene: _Scene, fall: Fall, one: Round) -> Fall:
    if one.devices.keys().isdisjoint(fall.devices):
        return fall
    badness, _ = scene.pooled(fall.devices)
    return replace(fall, calm=fall.calm + 1 if badness <= scene.terms.promise.allowed else 0)


def _open(scene: _Scene, level: Level, name: str, *, value: float, now: float) -> None:
    """Open the alarm that a crossing speaks of, unless one explains its devices already."""
    scope = _attribute(scene, level, name)
    if scope is None:
        return
    level, name = scope
    devices = set(scene.members(level, name))
    if devices <= scene.terms.left or any(devices <= set(fall.devices) for fall in scene.falls):
        return
    scene.ended += [fall for fall in scene.falls if set(fall.devices) <= devices]
    scene.falls = [fall for fall in scene.falls if not set(fall.devices) <= devices]
    began = min(scene.subjects[DEVICE, one].quiet for one in devices)
    seen = scene.subjects.get((level, name))
    fall = Fall(
        level=level,
        subject=name,
        devices=tuple(sorted(devices)),
        since=now,
        began=began if seen is None else max(began, seen.quiet),
        badness=0.0,
        n=0,
        value=value,
        bound=scene.bound,
    )
    scene.falls.append(_refreshed(scene, fall))


def _refreshed(scene: _Scene, fall: Fall) -> Fall:
    badness, n = scene.pooled(fall.devices)
    told = Counter(scene.terms.others[name] for name in fall.devices if name in scene.terms.others)
    is_explained = told.total() >= MOST_EXPLAINED * len(fall.devices)
    other = told.most_common(1)[0][0] if told and is_explained else ""
    return replace(fall, badness=badness, n=round(n), other=other)


def _attribute(scene: _Scene, level: Level, name: str) -> tuple[Level, str] | None:
    """Return the widest subject whose devices are worse alike; None while it cannot be told."""
    members = scene.members(level, name)
    excess = np.array([scene.excess(one) for one in members])
    strength = float(np.quantile(excess, 0.75))
    if strength <= 0:
        return None  # the detector still tells of what is over
    # Whoever crossed together is granted the noise; whoever is to be drawn in is not.
    granted = np.array([scene.noise(one) for one in members])
    together = float((excess >= ALIKE * strength - granted).mean())
    if level == FLEET:
        return (FLEET, ALL) if together >= MOST_OF_FLEET else None
    if level == GROUP and together < MOST_OF_GROUP:
        return None  # one member pulls the others along: it will cross by itself
    return _upwards(scene, level, name, strength)


def _upwards(scene: _Scene, level: Level, name: str, strength: float) -> tuple[Level, str]:
    def share(devices: Sequence[str]) -> float:
        alike = [scene.excess(one) >= ALIKE * strength for one in devices]
        return sum(alike) / len(alike) if len(alike) > 1 else 0.0  # one device is no group

    if share(scene.devices()) >= MOST_OF_FLEET:
        return FLEET, ALL
    if level == DEVICE:
        groups = {group: scene.members(GROUP, group) for group in scene.terms.groups.get(name, ())}
        alike = [group for group, devices in groups.items() if share(devices) >= MOST_OF_GROUP]
        if alike:  # of several labels the widest
            return GROUP, max(alike, key=lambda group: (len(groups[group]), group))
    return level, name


def _without(scene: _Scene, over: Iterable[Fall]) -> Subjects:
    """Return the subjects; the detectors of those that an ended alarm was about start anew."""
    gone = {name for fall in over for name in fall.devices}
    reset = {(DEVICE, name) for name in gone} | {(fall.level, fall.subject) for fall in over}
    return {
        key: replace(seen, logs=(-math.inf,) * len(seen.logs)) if key in reset else seen
        for key, seen in scene.subjects.items()
    }

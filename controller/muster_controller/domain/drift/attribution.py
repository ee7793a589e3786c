"""Whom a crossing is about: the widest scope whose devices have moved alike, and no wider.

Every column that has moved has a vote; the middle one decides. Of several groups that moved alike that one is
chosen which holds the devices that moved and no others: the smallest that explains them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from muster_controller.domain.drift.groups import Groups
from muster_controller.domain.drift.levels import FORGET, SHARE_TOLERANCE, is_calibrated, row_variance
from muster_controller.domain.drift.state import Level, Levels, Moved, Store, Watched

ALIKE = 0.4  # of the strongest: a device that moved by so much shares the cause
MOST_OF_GROUP = 0.66
MOST_OF_FLEET = 0.7
LEGS = ("location", "scale", "skew", "tails", "missing", "outside")
SCORE_LEGS = 4


@dataclass(frozen=True)
class Scene:
    """A state in the terms of attribution; the first axis of arrays is the calibrated device.

    Attributes:
        groups: Which devices are in each group.
        moved: Recent distance from each device's level, by column and leg.
        noise: Standard deviation of that.
        normal: The levels themselves.
    """

    names: tuple[str, ...]
    groups: Mapping[str, NDArray[np.bool_]]
    moved: Store
    noise: Store
    normal: Store
    index: Mapping[str, int] = field(default_factory=dict)

    def where(self, devices: tuple[str, ...]) -> NDArray[np.bool_]:
        """Return which calibrated devices are among these."""
        there = np.zeros(len(self.names), dtype=bool)
        there[[self.index[name] for name in devices if name in self.index]] = True
        return there

    def members(self, level: Level, subject: str) -> NDArray[np.bool_]:
        """Return which calibrated devices a subject has."""
        match level:
            case "fleet":
                return np.ones(len(self.names), dtype=bool)
            case "group":
                return self.groups.get(subject, np.zeros(len(self.names), dtype=bool))
            case "device":
                return self.where((subject,))


@dataclass(frozen=True)
class Scope:
    """What an alarm is about, and the devices that it explains.

    Attributes:
        certain: No wider scope may have moved alike, as far as recent rounds can tell.
    """

    level: Level
    subject: str
    devices: tuple[str, ...]
    certain: bool


@dataclass(frozen=True)
class Crossing:
    """A subject whose detector has reached the bound, and the columns that say so."""

    level: Level
    subject: str
    moved: tuple[Moved, ...]


def make_scene(state: Watched, groups: Groups, calibration: int) -> Scene:
    """Return where every calibrated device stands."""
    levels, ready = state.levels, is_calibrated(state.levels, calibration)
    rows = np.asarray(levels.rows / np.maximum(levels.rounds, 1), dtype=np.float32)
    variance = row_variance(levels) / np.maximum(rows, 1)[:, None, None] * np.float32(FORGET / (2 - FORGET))
    usual = levels.hits / np.maximum(levels.rows, 1)[:, None, None]
    shares = levels.recent_shares - usual
    noise = np.concatenate([np.sqrt(variance), _share_noise(levels, rows)], axis=2)
    names = tuple(name for name, known in zip(levels.names, ready.tolist(), strict=True) if known)
    members: dict[str, NDArray[np.bool_]] = {}
    for at, name in enumerate(names):
        for group in groups.get(name, ()):
            members.setdefault(group, np.zeros(len(names), dtype=bool))[at] = True
    return Scene(
        names=names,
        groups=members,
        moved=np.concatenate([levels.recent, shares], axis=2)[ready],
        noise=noise[ready],
        normal=np.concatenate([levels.mean, usual], axis=2)[ready],
        index={name: at for at, name in enumerate(names)},
    )


def _share_noise(levels: Levels, rows: Store) -> Store:
    """Return the standard deviation of the recent shares, as if what is tolerated were there."""
    share = levels.hits / np.maximum(levels.rows, 1)[:, None, None] + np.float32(SHARE_TOLERANCE)
    return np.asarray(np.sqrt(share / np.maximum(rows, 1)[:, None, None] * np.float32(FORGET / (2 - FORGET))))


def attribute(scene: Scene, crossing: Crossing, tolerance: float) -> Scope | None:
    """Return what a crossing is about; None while it cannot be told."""
    members = scene.members(crossing.level, crossing.subject)
    if not members.any():
        return None
    columns = np.array([moved.column for moved in crossing.moved])
    legs = np.array([LEGS.index(moved.leg) for moved in crossing.moved])
    sides = np.array([1.0 if moved.effect >= 0 else -1.0 for moved in crossing.moved])
    moved = sides * scene.moved[:, columns, legs]
    strength = np.quantile(moved[members], 0.75, axis=0)
    noise = scene.noise[:, columns, legs]
    # Within that, it is the peers that have moved, or the detector still tells of what is over: of a drift
    # that ended, or of a level that was learned anew. Whatever is alike then is alike by chance.
    still = np.maximum(tolerance, 2 * np.median(noise[members], axis=0))
    if np.median(strength - np.where(legs < SCORE_LEGS, still, SHARE_TOLERANCE)) <= 0:
        return None
    # Whoever crossed together is granted the noise; whoever is to be drawn in is not.
    alike, perhaps = moved >= ALIKE * strength, moved >= ALIKE * strength - noise
    together = np.median(perhaps[members].mean(axis=0))
    match crossing.level:
        case "fleet":
            return _fleet(scene) if together >= MOST_OF_FLEET else None
        case "group" if together < MOST_OF_GROUP:
            return None  # one member pulls the others along: it will cross by itself
        case "group" | "device":
            return _widest(scene, crossing, members, alike=alike, perhaps=perhaps)


def _widest(
    scene: Scene,
    crossing: Crossing,
    members: NDArray[np.bool_],
    *,
    alike: NDArray[np.bool_],
    perhaps: NDArray[np.bool_],
) -> Scope:
    """Return the scope around a crossing that holds those that moved alike, and the fewest others."""
    chosen, best, certain = members, _overlap(alike, members), True
    name: tuple[Level, str] = (crossing.level, crossing.subject)
    for wider, inside in _around(scene, members):
        needed = MOST_OF_FLEET if wider[0] == "fleet" else MOST_OF_GROUP
        if np.median(alike[inside].mean(axis=0)) < needed:
            certain = certain and bool(np.median(perhaps[inside].mean(axis=0)) < needed)
            continue
        found = _overlap(alike, inside)
        if found >= best:  # of two that explain as much, the wider one: it comes later
            name, chosen, best = wider, inside, found
    if name[0] == "fleet":
        return _fleet(scene)
    devices = tuple(scene.names[at] for at in np.flatnonzero(chosen))
    return Scope(*name, devices, certain)


def _around(scene: Scene, members: NDArray[np.bool_]) -> list[tuple[tuple[Level, str], NDArray[np.bool_]]]:
    """Return the groups that hold all members and others, and the fleet; one device is no group."""
    wider: list[tuple[tuple[Level, str], NDArray[np.bool_]]] = [
        (("group", group), inside)
        for group, inside in sorted(scene.groups.items(), key=lambda one: (int(one[1].sum()), one[0]))
        if inside.sum() > members.sum() and not (members & ~inside).any()
    ]
    everyone = np.ones(len(scene.names), dtype=bool)
    return [*wider, (("fleet", "all"), everyone)] if len(everyone) > 1 else wider


def _overlap(alike: NDArray[np.bool_], inside: NDArray[np.bool_]) -> float:
    """Return what share of those that moved alike, or are inside, are both (Jaccard, 1901)."""
    both = (alike & inside[:, None]).sum(axis=0)
    either = (alike | inside[:, None]).sum(axis=0)
    return float(np.median(both / np.maximum(either, 1)))


def _fleet(scene: Scene) -> Scope:
    return Scope("fleet", "all", scene.names, certain=True)

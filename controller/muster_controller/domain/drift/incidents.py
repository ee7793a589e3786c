"""From detectors to alarms: one per cause, at the level that explains it.

1. A subject whose detector reaches the bound is a crossing. The bound is the stated run length times the
   number of subjects: the mean over all subjects is an e-detector too, so the first false alarm of the whole
   model comes after that many rounds on average.
2. The cause of a crossing is looked for upwards: when the devices of its group, or of the fleet, have moved
   alike, the alarm is about those.
3. A pending alarm is attributed anew for two rounds, because its siblings may cross a little later. Then it
   fires. Whatever lies within its scope is not reported again.
4. It is resolved when its columns have stayed within the tolerance for some rounds.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from muster_controller.domain.drift.levels import (
    FORGET,
    SHARE_TOLERANCE,
    column_values,
    is_calibrated,
    row_variance,
    values,
)
from muster_controller.domain.drift.measures import Array
from muster_controller.domain.drift.state import Bank, DriftState, Incident, Level, Moved
from muster_controller.domain.sequential import log_mean

HOLD_ROUNDS = 2
CALM_ROUNDS = 10
ALIKE = 0.4  # of the strongest: a device that moved by so much shares the cause
MOST_OF_GROUP = 0.66
MOST_OF_FLEET = 0.7
SHARE_NOISE = 0.02  # a share within this of calibration has not moved
SHARE_UNIT = 0.1  # a share that grew by this much ranks like one standard deviation
LEGS = ("location", "scale", "skew", "tails", "missing", "outside")
SCORE_LEGS = 4
# A shift says more to people than odd tails; missing values come first, because they explain the rest.
PLAINEST_FIRST = (4, 0, 1, 5, 2, 3)


@dataclass(frozen=True)
class Scene:
    """A state in the terms of attribution; the first axis of arrays is the calibrated device.

    Attributes:
        moved: Recent distance from each device's level, by column and leg.
        noise: Standard deviation of that.
    """

    names: tuple[str, ...]
    labels: NDArray[np.object_]
    moved: Array
    noise: Array

    def where(self, devices: tuple[str, ...]) -> NDArray[np.bool_]:
        """Return which calibrated devices are among these."""
        return np.isin(np.array(self.names, dtype=object), np.array(devices, dtype=object))


@dataclass(frozen=True)
class Bounds:
    """What an alarm needs.

    Attributes:
        run_length: Mean number of rounds to the first false alarm of the whole model.
        tolerance: Of score means, in standard deviations.
    """

    run_length: float
    tolerance: float


@dataclass(frozen=True)
class Scope:
    """What an alarm is about, and the devices that it explains."""

    level: Level
    subject: str
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Crossing:
    """A subject whose detector has reached the bound, and the columns that say so."""

    level: Level
    subject: str
    moved: tuple[Moved, ...]


def make_scene(state: DriftState, groups: Mapping[str, str], calibration: int) -> Scene:
    """Return where every calibrated device stands."""
    levels, ready = state.levels, is_calibrated(state.levels, calibration)
    rows = levels.rows / np.maximum(levels.rounds, 1)
    variance = row_variance(levels) / np.maximum(rows, 1)[:, None, None] * FORGET / (2 - FORGET)
    shares = levels.recent_shares - levels.hits / np.maximum(levels.rows, 1)[:, None, None]
    noise = np.concatenate([np.sqrt(variance), np.full(shares.shape, SHARE_NOISE)], axis=2)
    names = tuple(name for name, known in zip(levels.names, ready, strict=True) if known)
    return Scene(
        names=names,
        labels=np.array([groups.get(name, "") for name in names], dtype=object),
        moved=np.concatenate([levels.recent, shares], axis=2)[ready],
        noise=noise[ready],
    )


def follow(
    state: DriftState, scene: Scene, config: Bounds, *, seen: frozenset[str], now: float
) -> tuple[DriftState, tuple[Incident, ...]]:
    """Return the state after its alarms have followed a round, and the alarms that ended in it.

    Args:
        seen: Devices of the round.
        now: When an alarm of this round begins or fires.
    """
    subjects = sum(len(bank.names) for bank in state.banks.values())
    bound = float(np.log(config.run_length * max(1, subjects)))
    log = _Log([_refresh(state, scene, incident, config, bound=bound) for incident in state.incidents])
    for pending in [incident for incident in log.active if incident.fired_at is None and incident.moved]:
        crossing = Crossing(pending.level, pending.subject, pending.moved)
        log.place(_attribute(scene, crossing, config), now)
    for crossing in _crossings(state, scene, config, bound=bound):
        log.place(_attribute(scene, crossing, config), now)
    log.active = [
        incident if incident.moved else _refresh(state, scene, incident, config, bound=bound)
        for incident in log.active
    ]
    log.active = [_settle(scene, incident, config, seen=seen, now=now) for incident in log.active]
    over = [incident for incident in log.active if incident.calm >= CALM_ROUNDS]
    _forget(state.banks, [*log.ended, *over])
    active = tuple(incident for incident in log.active if incident not in over)
    return _with_incidents(state, active), (*log.ended, *over)


@dataclass
class _Log:
    """The alarms of one round while they are being sorted out."""

    active: list[Incident]
    ended: list[Incident] = field(default_factory=list)

    def place(self, scope: Scope | None, now: float) -> None:
        """Open an alarm, unless one explains its devices already; those that it explains end."""
        if scope is None or any(set(scope.devices) <= set(i.devices) for i in self.active):
            return
        inside = [incident for incident in self.active if set(incident.devices) <= set(scope.devices)]
        pending = [incident for incident in inside if incident.fired_at is None]
        self.active = [incident for incident in self.active if incident not in inside]
        # One that was opened in this very round was never told to anybody.
        self.ended += [incident for incident in inside if incident.moved]
        self.active.append(
            Incident(
                level=scope.level,
                subject=scope.subject,
                devices=scope.devices,
                since=min([incident.since for incident in pending], default=now),
                held=max([incident.held for incident in pending], default=0),
            )
        )


def _settle(
    scene: Scene, incident: Incident, config: Bounds, *, seen: frozenset[str], now: float
) -> Incident:
    """Return an alarm after one more round that its devices took part in."""
    if seen.isdisjoint(incident.devices):
        return incident
    held, calm = incident.held + 1, incident.calm + 1 if _is_calm(scene, incident, config) else 0
    fired_at = incident.fired_at
    if fired_at is None and held > HOLD_ROUNDS:
        fired_at = now
    return replace(incident, held=held, calm=calm, fired_at=fired_at)


def _is_calm(scene: Scene, incident: Incident, config: Bounds) -> bool:
    """Tell whether every column of an alarm is where it was before, as far as recent rounds can tell."""
    there = scene.where(incident.devices)
    if not there.any():
        return False
    for moved in incident.moved:
        leg = LEGS.index(moved.leg)
        level = float(np.median(scene.moved[there, moved.column, leg]))
        noise = float(np.median(scene.noise[there, moved.column, leg])) / float(there.sum()) ** 0.5
        allowed = config.tolerance + 2 * noise if leg < SCORE_LEGS else SHARE_NOISE
        if abs(level) > allowed:
            return False
    return True


def _refresh(
    state: DriftState, scene: Scene, incident: Incident, config: Bounds, *, bound: float
) -> Incident:
    """Return an alarm with what its detector says now."""
    bank = state.banks[incident.level]
    at = bank.index().get(incident.subject)
    if at is None:
        return incident
    value = float(values(bank)[at])
    moved = _moved(bank, at, scene.where(incident.devices), scene, config)
    return replace(incident, value=value, bound=bound, moved=moved or incident.moved)


def _moved(bank: Bank, at: int, there: NDArray[np.bool_], scene: Scene, config: Bounds) -> tuple[Moved, ...]:
    """Return the columns that have moved, strongest first; there is always one."""
    columns = column_values(bank)[at]
    # The detector of a wider subject may lag behind those of its devices.
    least = min(float(np.log(config.run_length)), float(columns.max()))
    moved = []
    for column in np.flatnonzero(columns >= least):
        leg = _telling(bank, at, int(column), least)
        effect = float(np.median(scene.moved[there, column, leg])) if there.any() else 0.0
        moved.append(Moved(int(column), LEGS[leg], effect, float(columns[column])))
    return tuple(sorted(moved, key=_rank, reverse=True))


def _telling(bank: Bank, at: int, column: int, least: float) -> int:
    """Return the leg to name: the plainest that is certain, or else the one that says most."""
    scores = log_mean(bank.scores[at, column].astype(np.float64)).max(axis=1)
    legs = np.concatenate([scores, log_mean(bank.shares[at, column].astype(np.float64))])
    certain = [leg for leg in PLAINEST_FIRST if legs[leg] >= least]
    return certain[0] if certain else int(legs.argmax())


def _rank(moved: Moved) -> float:
    return abs(moved.effect) / (SHARE_UNIT if LEGS.index(moved.leg) >= SCORE_LEGS else 1.0)


def _crossings(state: DriftState, scene: Scene, config: Bounds, *, bound: float) -> Iterator[Crossing]:
    """Yield every subject at the bound, from the fleet downwards, the strongest of a level first."""
    levels: tuple[Level, ...] = ("fleet", "group", "device")
    for level in levels:
        bank = state.banks[level]
        reached = values(bank)
        for at in np.argsort(-reached, kind="stable"):
            if reached[at] < bound:
                break
            there = _members(scene, level, bank.names[at])
            yield Crossing(level, bank.names[at], _moved(bank, int(at), there, scene, config))


def _attribute(scene: Scene, crossing: Crossing, config: Bounds) -> Scope | None:
    """Return the widest scope whose devices have moved alike; None while it cannot be told.

    Every column that has moved has a vote; the middle one decides.
    """
    members = _members(scene, crossing.level, crossing.subject)
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
    still = np.maximum(config.tolerance, 2 * np.median(noise[members], axis=0))
    if np.median(strength - np.where(legs < SCORE_LEGS, still, SHARE_TOLERANCE)) <= 0:
        return None
    # Whoever crossed together is granted the noise; whoever is to be drawn in is not.
    together = (moved >= ALIKE * strength - noise)[members].mean(axis=0)
    alike = moved >= ALIKE * strength
    match crossing.level:
        case "fleet":
            return _fleet(scene) if np.median(together) >= MOST_OF_FLEET else None
        case "group" if np.median(together) < MOST_OF_GROUP:
            return None  # one member pulls the others along: it will cross by itself
        case "group" | "device":
            return _upwards(scene, crossing, alike)


def _upwards(scene: Scene, crossing: Crossing, alike: NDArray[np.bool_]) -> Scope:
    if len(alike) > 1 and np.median(alike.mean(axis=0)) >= MOST_OF_FLEET:
        return _fleet(scene)
    label = crossing.subject
    if crossing.level == "device":
        label = str(scene.labels[scene.names.index(crossing.subject)])
        group = (scene.labels == label) & (label != "")
        # One device is no group.
        if group.sum() < 2 or np.median(alike[group].mean(axis=0)) < MOST_OF_GROUP:  # noqa: PLR2004
            return Scope("device", crossing.subject, (crossing.subject,))
    names = tuple(name for name, own in zip(scene.names, scene.labels, strict=True) if own == label)
    return Scope("group", label, names)


def _members(scene: Scene, level: Level, subject: str) -> NDArray[np.bool_]:
    match level:
        case "fleet":
            return np.ones(len(scene.names), dtype=bool)
        case "group":
            return np.asarray(scene.labels == subject, dtype=bool)
        case "device":
            return np.array([name == subject for name in scene.names], dtype=bool)


def _fleet(scene: Scene) -> Scope:
    return Scope("fleet", "all", scene.names)


def _forget(banks: Mapping[Level, Bank], ended: list[Incident]) -> None:
    for incident in ended:
        bank = banks[incident.level]
        at = bank.index().get(incident.subject)
        if at is not None:
            bank.reset(at)


def _with_incidents(state: DriftState, incidents: tuple[Incident, ...]) -> DriftState:
    return dataclasses.replace(state, incidents=incidents)

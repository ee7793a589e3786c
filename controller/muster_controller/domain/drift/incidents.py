"""From detectors to alarms: one per cause, at the level that explains it.

1. Subjects cross together by e-BH (Wang and Ramdas, 2022; over time e-d-BH, Dandapanthula and Ramdas, 2025):
   of K subjects those i with the largest detectors, for the largest i of which all say K times the run length
   over i. While nothing drifts, the first alarm of the whole model comes after the run length on average or
   later, because then the mean of all detectors has reached it. While something does, of the alarms that are
   raised at any moment the expected share that is false is at most the rounds so far over the run length.
2. The cause of a crossing is looked for upwards: when the devices of its group, or of the fleet, have moved
   alike, the alarm is about those.
3. When that cannot be told yet, a pending alarm is attributed anew for two rounds, because its siblings may
   cross a little later. Then it fires. Whatever lies within its scope is not reported again.
4. It is resolved when its columns have stayed within the tolerance for some rounds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from dataclasses import replace as with_fields

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from muster_controller.domain.drift.attribution import (
    LEGS,
    SCORE_LEGS,
    Crossing,
    Scene,
    Scope,
    attribute,
    make_scene,
)
from muster_controller.domain.drift.detectors import column_values, leg_values
from muster_controller.domain.drift.groups import Groups
from muster_controller.domain.drift.levels import SHARE_TOLERANCE
from muster_controller.domain.drift.state import LEVELS, Bank, Incident, Level, Moved, Watched

HOLD_ROUNDS = 2
CALM_ROUNDS = 10
SHARE_UNIT = 0.1  # a share that grew by this much ranks like one standard deviation
# A shift says more to people than odd tails; missing values come first, because they explain the rest.
PLAINEST_FIRST = (4, 0, 1, 5, 2, 3)


@dataclass(frozen=True)
class Bounds:
    """What an alarm needs.

    Attributes:
        run_length: Mean number of rounds to the first false alarm of the whole model.
        tolerance: Of score means, in standard deviations.
        calibration: Rounds that a device takes to set its level.
        answers: Columns of what the model answers: what goes wrong with those follows from its inputs.
    """

    run_length: float
    tolerance: float
    calibration: int
    answers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Evidence:
    """What the detectors of a level say; R itself, by subject and column."""

    bank: Bank
    columns: NDArray[np.float64]
    values: NDArray[np.float64]
    index: dict[str, int]

    @classmethod
    def of(cls, bank: Bank) -> "Evidence":
        """Read a bank."""
        columns = column_values(bank)
        return cls(bank, columns, columns.mean(axis=1), bank.index())


def follow(
    state: Watched, groups: Groups, bounds: Bounds, *, seen: frozenset[str], now: float
) -> tuple[Watched, tuple[Incident, ...]]:
    """Return the state after its alarms have followed a round, and the alarms that ended in it.

    Args:
        seen: Devices of the round.
        now: When an alarm of this round begins or fires.
    """
    said = {level: Evidence.of(bank) for level, bank in state.banks.items()}
    bound = reach([evidence.values for evidence in said.values()], bounds.run_length)
    if not state.incidents and not any((evidence.values >= bound).any() for evidence in said.values()):
        return state, ()
    round_ = _Round(make_scene(state, groups, bounds.calibration), said, bounds, bound, now)
    round_.active = [round_.refresh(incident) for incident in state.incidents]
    round_.attribute_anew()
    round_.take_in()
    active = [round_.settle(incident, seen=seen) for incident in round_.active]
    over = [incident for incident in active if incident.calm >= CALM_ROUNDS]
    kept = tuple(incident for incident in active if incident not in over)
    known = {incident.name for incident in state.incidents}
    fresh = [incident for incident in kept if incident.name not in known]
    ended = (*round_.ended, *over)
    state = with_fields(state, incidents=kept, banks=_start_anew(state, groups, ended=ended, fresh=fresh))
    return state, ended


def reach(values: list[NDArray[np.float64]], run_length: float) -> float:
    """Return what a detector must reach to cross, by e-BH over all of them."""
    ordered = np.sort(np.concatenate(values))[::-1]
    if not len(ordered):
        return run_length
    needed = run_length * len(ordered) / np.arange(1, len(ordered) + 1)
    crossed = np.flatnonzero(ordered >= needed)
    return float(needed[crossed[-1]] if len(crossed) else needed[0])


@dataclass
class _Round:
    """The alarms of one round while they are being sorted out."""

    scene: Scene
    said: dict[Level, Evidence]
    bounds: Bounds
    bound: float
    now: float
    active: list[Incident] = field(default_factory=list)
    ended: list[Incident] = field(default_factory=list)
    certain: set[tuple[Level, str]] = field(default_factory=set)
    opened_by: dict[tuple[Level, str], Crossing] = field(default_factory=dict)

    def refresh(self, incident: Incident) -> Incident:
        """Return an alarm with what its detector says now."""
        return self._told(incident, *incident.name)

    def _told(self, incident: Incident, level: Level, subject: str) -> Incident:
        """Return an alarm with what the detector of a subject says now, where there is one."""
        evidence = self.said[level]
        at = evidence.index.get(subject)
        if at is None:
            return incident
        moved = self._moved(evidence, at, self.scene.where(incident.devices))
        value, bound = _log(evidence.values[at]), _log(self.bound)
        return replace(incident, value=value, bound=bound, moved=moved or incident.moved)

    def _first_told(self, incident: Incident) -> Incident:
        """Return an alarm of this round with its evidence.

        A group whose devices never shared a round has no detector of its own: then what crossed speaks.
        """
        crossing = self.opened_by[incident.name]
        told = self.refresh(self._told(incident, crossing.level, crossing.subject))
        return told if told.moved else replace(told, moved=crossing.moved)

    def attribute_anew(self) -> None:
        """Look again for the cause of each pending alarm."""
        for pending in [incident for incident in self.active if incident.fired_at is None and incident.moved]:
            self._place(Crossing(pending.level, pending.subject, pending.moved))

    def take_in(self) -> None:
        """Open alarms for what has crossed."""
        for crossing in self._crossings():
            self._place(crossing)

    def settle(self, incident: Incident, *, seen: frozenset[str]) -> Incident:
        """Return an alarm after one more round that its devices took part in."""
        if not incident.moved:
            incident = self._first_told(incident)
        if seen.isdisjoint(incident.devices):
            return incident
        held, calm = incident.held + 1, incident.calm + 1 if self._is_calm(incident) else 0
        fired_at = incident.fired_at
        if fired_at is None and (held > HOLD_ROUNDS or incident.name in self.certain):
            fired_at = self.now
        return replace(incident, held=held, calm=calm, fired_at=fired_at)

    def _crossings(self) -> Iterator[Crossing]:
        """Yield every subject at the bound, from the fleet downwards, the strongest of a level first."""
        for level in reversed(LEVELS):
            evidence = self.said[level]
            for at in np.argsort(-evidence.values, kind="stable"):
                if evidence.values[at] < self.bound:
                    break
                subject = evidence.bank.names[at]
                there = self.scene.members(level, subject)
                yield Crossing(level, subject, self._moved(evidence, int(at), there))

    def _place(self, crossing: Crossing) -> None:
        """Open an alarm for the cause of a crossing, unless one explains its devices already.

        Those that it explains end.
        """
        scope = attribute(self.scene, crossing, self.bounds.tolerance)
        if scope is None:
            return
        if scope.certain:
            self.certain.add((scope.level, scope.subject))
        if any(set(scope.devices) <= set(i.devices) for i in self.active):
            return
        inside = [incident for incident in self.active if set(incident.devices) <= set(scope.devices)]
        pending = [incident for incident in inside if incident.fired_at is None]
        self.active = [incident for incident in self.active if incident not in inside]
        # One that was opened in this very round was never told to anybody.
        self.ended += [incident for incident in inside if incident.moved]
        self.opened_by[scope.level, scope.subject] = crossing
        self.active.append(
            Incident(
                level=scope.level,
                subject=scope.subject,
                devices=scope.devices,
                since=min([incident.since for incident in pending], default=self.now),
                began=min([self._began(scope), *(incident.began for incident in pending)]),
                held=max([incident.held for incident in pending], default=0),
            )
        )

    def _began(self, scope: Scope) -> float:
        """Return since when a detector of the subject, or of one of its devices, has said something."""
        own = [(scope.level, scope.subject), *(("device", device) for device in scope.devices)]
        quiet = [self._quiet(level, name, crossed=name != scope.subject) for level, name in own]
        return min((since for since in quiet if since is not None), default=self.now)

    def _quiet(self, level: Level, name: str, *, crossed: bool) -> float | None:
        evidence = self.said[level]
        at = evidence.index.get(name)
        if at is None or (crossed and evidence.values[at] < self.bound):
            return None
        return float(evidence.bank.quiet[at])

    def _is_calm(self, incident: Incident) -> bool:
        """Tell whether every column of an alarm is where it was before, as far as recent rounds can tell."""
        there = self.scene.where(incident.devices)
        if not there.any():
            return False
        for moved in incident.moved:
            leg = LEGS.index(moved.leg)
            level = float(np.median(self.scene.moved[there, moved.column, leg]))
            noise = float(np.median(self.scene.noise[there, moved.column, leg])) / float(there.sum()) ** 0.5
            allowed = self.bounds.tolerance if leg < SCORE_LEGS else SHARE_TOLERANCE
            if abs(level) > allowed + 2 * noise:
                return False
        return True

    def _moved(self, evidence: Evidence, at: int, there: NDArray[np.bool_]) -> tuple[Moved, ...]:
        """Return the columns that have moved, strongest first; there is always one."""
        columns = evidence.columns[at]
        # The detector of a wider subject may lag behind those of its devices.
        least = min(self.bounds.run_length, float(columns.max()))
        moved = []
        for column in np.flatnonzero(columns >= least):
            leg = _telling(leg_values(evidence.bank, at, int(column)), least)
            effect, normal = (
                float(np.median(of[there, column, leg])) if there.any() else 0.0
                for of in (self.scene.moved, self.scene.normal)
            )
            moved.append(Moved(int(column), LEGS[leg], effect, _log(columns[column]), normal))
        moved += self._lacking(moved, columns, there)
        # Where values are missing, what that did to the answers comes after the inputs.
        after = self.bounds.answers if any(one.leg == "missing" for one in moved) else frozenset()
        return tuple(sorted(moved, key=lambda one: (one.column not in after, _rank(one)), reverse=True))

    def _lacking(
        self, moved: list[Moved], columns: NDArray[np.float64], there: NDArray[np.bool_]
    ) -> list[Moved]:
        """Return the input that explains missing answers, where its own detector does not say so yet.

        A call of many rows has no answer where one of them lacks a value, so that answers show it sooner.
        """
        inputs = [column for column in range(len(columns)) if column not in self.bounds.answers]
        is_lacking = any(one.column in self.bounds.answers and one.leg == "missing" for one in moved)
        is_told = any(one.column in inputs and LEGS.index(one.leg) >= SCORE_LEGS for one in moved)
        if not is_lacking or is_told or not inputs or not there.any():
            return []
        shares = np.median(self.scene.moved[there][:, inputs, SCORE_LEGS:], axis=0)
        at, share = divmod(int(shares.argmax()), shares.shape[1])
        column, leg, effect = inputs[at], SCORE_LEGS + share, float(shares[at, share])
        normal = float(np.median(self.scene.normal[there, column, leg]))
        found = Moved(column, LEGS[leg], effect, _log(columns[column]), normal)
        return [found] if effect > 0 else []


def _telling(legs: NDArray[np.float64], least: float) -> int:
    """Return the leg to name: the plainest that is certain, or else the one that says most."""
    certain = [leg for leg in PLAINEST_FIRST if legs[leg] >= least]
    return certain[0] if certain else int(legs.argmax())


def _rank(moved: Moved) -> float:
    return abs(moved.effect) / (SHARE_UNIT if LEGS.index(moved.leg) >= SCORE_LEGS else 1.0)


def _log(value: float) -> float:
    return float(np.log(max(value, 1e-30)))


def _start_anew(
    state: Watched, groups: Groups, *, ended: tuple[Incident, ...], fresh: list[Incident]
) -> dict[Level, Bank]:
    """Return banks without what told of an alarm that ended, or of what a fresh one explains."""
    names: dict[Level, set[str]] = {level: set() for level in LEVELS}
    for incident in ended:
        names[incident.level].add(incident.subject)
    for incident in fresh:
        names["device"] |= set(incident.devices)
        names["group"] |= {group for device in incident.devices for group in groups.get(device, ())}
    for incident in fresh:
        names[incident.level].discard(incident.subject)
    banks = {}
    for level, bank in state.banks.items():
        at = [index for index, name in enumerate(bank.names) if name in names[level]]
        banks[level] = bank.reset(np.array(at, dtype=np.intp))
    return banks

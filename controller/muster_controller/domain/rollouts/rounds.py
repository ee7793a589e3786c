"""Rounds of a rollout: stage and control side by side, window by window.

The device is the unit. Every witness is compared with its own time before, and the mean of the devices that
run the version with the mean of the control in the same round: a difference of differences, in which
whatever is peculiar to a device, and whatever happens to all of them, cancels.

A window belongs to the round in which its middle lies; a round is closed one round later. A window that
comes later still makes a round of its own, which counts if both arms are in it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from muster_controller.domain.facts import WindowFacts
from muster_controller.domain.rollouts import gauges
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.gauges import Reading, Scale
from muster_controller.domain.rollouts.ledger import Ledger, Side, Totals, Track, Trial
from muster_controller.domain.rollouts.plan import Plan

# The mean before is itself an estimate, and its error stays the same in every round: so many of its
# standard errors are granted to both tests. Chosen by simulation, see tests/property/test_sequential_laws.py.
SLACK = 1.5
# What few rounds say about a device's spread is pulled towards that of all, as if seen for so many rounds.
PRIOR_ROUNDS = 20.0

# One round never decides alone: a short hiccup of the stage is no reason to go back.
MOST_HARM = 3.0

Readings = dict[str, dict[str, Reading]]  # by device, then gauge


def take_in(
    plan: Plan,
    ledger: Ledger,
    windows: Iterable[WindowFacts],
    *,
    arms: Mapping[str, int],
    started: float,
    now: float,
) -> Ledger:
    """Return the ledger after windows, and after the rounds that ``now`` closes.

    Args:
        arms: Of the witnesses.
        started: When the rollout began, Unix seconds: an earlier trial of the same version does not count.
    """
    working = _Working(plan, ledger, arms, started)
    for window in windows:
        working.add(window)
    return working.close(now)


@dataclass
class _Working:
    """A ledger that is being written: local to one call of ``take_in``."""

    plan: Plan
    ledger: Ledger
    arms: Mapping[str, int]
    started: float

    def __post_init__(self) -> None:
        self.scale = Scale(*self.ledger.scale) if self.ledger.scale else None
        self.before = {device: dict(tracks) for device, tracks in self.ledger.before.items()}
        self.switched = dict(self.ledger.switched)
        self.reporting = set(self.ledger.reporting)
        self.totals = self.ledger.totals
        self.trials = dict(self.ledger.trials)
        self.rounds = self.ledger.rounds
        self.open: dict[int, dict[Side, Readings]] = {
            index: {
                side: {
                    device: {gauge: Reading(*reading) for gauge, reading in readings.items()}
                    for device, readings in devices.items()
                }
                for side, devices in sides.items()
            }
            for index, sides in self.ledger.open.items()
        }

    def add(self, window: WindowFacts) -> None:
        """Put a window into its round, if it says anything to this rollout."""
        arm = self.arms.get(window.device)
        index = int((window.start + window.end) / 2 // self.plan.round_seconds)
        if window.manifest == self.plan.digest:
            if window.end <= self.started:
                return
            self._count(window)
            # The round of the change is left out: part of it is the old version's, and the new one warms up.
            if arm in (None, CONTROL) or index <= self.switched.setdefault(window.device, index):
                return
            self._read(window, index, "new")
        elif window.manifest == self.plan.previous and arm is not None and window.device not in self.switched:
            self.scale = self.scale or gauges.scale_of(window)
            self._read(window, index, "old")

    def _read(self, window: WindowFacts, index: int, side: Side) -> None:
        held = self.open.setdefault(index, {}).setdefault(side, {}).setdefault(window.device, {})
        for gauge, reading in gauges.read(window, self.scale).items():
            held[gauge] = held[gauge] + reading if gauge in held else reading

    def close(self, now: float) -> Ledger:
        """Close the rounds that are over, in order, and return the ledger."""
        current = int(now // self.plan.round_seconds)
        # An index in the future is a device with a wrong clock: it must not keep a round open for ever.
        for index in sorted(self.open):
            if index < current - 1 or index > current + 1:
                self._close_round(self.open.pop(index))
        return replace(
            self.ledger,
            scale=(self.scale.mean, self.scale.sd) if self.scale else None,
            before=self.before,
            switched=self.switched,
            open={
                index: {
                    side: {
                        device: {gauge: (r.rows, r.mean, r.variance) for gauge, r in readings.items()}
                        for device, readings in devices.items()
                    }
                    for side, devices in sides.items()
                }
                for index, sides in self.open.items()
            },
            trials=self.trials,
            rounds=self.rounds,
            reporting=tuple(sorted(self.reporting)),
            totals=self.totals,
        )

    def _count(self, window: WindowFacts) -> None:
        missing, predictions = gauges.missing_predictions(window)
        self.totals = Totals(
            self.totals.calls + window.calls,
            self.totals.errors + window.errors,
            self.totals.predictions + predictions,
            self.totals.missing + missing,
        )
        if window.calls > 0:
            self.reporting.add(window.device)

    def _close_round(self, sides: Mapping[Side, Readings]) -> None:
        old, new = sides.get("old", {}), sides.get("new", {})
        counted = False
        for gauge in sorted({gauge for held in (*old.values(), *new.values()) for gauge in held}):
            counted |= self._close_gauge(gauge, self._large(gauge, old), self._large(gauge, new))
        has_control = any(arm == CONTROL for arm in self.arms.values())
        self.rounds += counted if has_control else any(new.values())

    def _large(self, gauge: str, devices: Readings) -> dict[str, Reading]:
        """Return one gauge of the devices that had rows enough in a round."""
        return {
            device: held[gauge]
            for device, held in devices.items()
            if gauge in held and held[gauge].rows >= self.plan.minimum_rows
        }

    def _close_gauge(self, gauge: str, old: Mapping[str, Reading], new: Mapping[str, Reading]) -> bool:
        control = {d: r for d, r in old.items() if self.arms.get(d) == CONTROL}
        level = self._control_level(gauge, control)
        for device, reading in old.items():
            learns = not (device in control and self.ledger.frozen)
            if learns and (level is not None or not self.ledger.frozen):
                tracks = self.before.setdefault(device, {})
                tracks[gauge] = tracks.get(gauge, Track()).after(reading, reading.mean - (level or 0.0))
        treated = {d: r for d, r in new.items() if self._track(d, gauge)}
        if level is None or not treated:
            return False
        self._compare(gauge, treated, {d: r for d, r in control.items() if self._track(d, gauge)})
        return True

    def _control_level(self, gauge: str, control: Mapping[str, Reading]) -> float | None:
        """Return how far the control is from its own level in this round; None while that is not known."""
        if not self.ledger.frozen:
            return None
        moved = [r.mean - track.mean for d, r in control.items() if (track := self._track(d, gauge))]
        return sum(moved) / len(moved) if moved else None

    def _track(self, device: str, gauge: str) -> Track | None:
        track = self.before.get(device, {}).get(gauge)
        return track if track is not None and track.rounds >= self.plan.before_rounds else None

    def _compare(self, gauge: str, treated: Mapping[str, Reading], control: Mapping[str, Reading]) -> None:
        margin = gauges.margin_of(gauge, self.plan.margins)
        spreads = self._spreads(gauge)
        moved, noise, doubt = 0.0, 0.0, 0.0
        for sign, arm in ((1.0, treated), (-1.0, control)):
            for device, reading in arm.items():
                track = self.before[device][gauge]
                spread = max(spreads[device], _least_variance(gauge, track, reading, margin=margin))
                moved += sign * (reading.mean - track.mean) / len(arm)
                noise += spread / reading.rows / len(arm) ** 2
                doubt += spread / track.rows / len(arm) ** 2
        sd, slack = max(noise, 1e-12) ** 0.5, SLACK * doubt**0.5
        sides = gauges.sides_of(gauge)
        self.trials[gauge] = tuple(
            trial.after(
                moved,
                harm=min((side * moved - margin - slack) / sd, MOST_HARM),
                assurance=(margin - side * moved - slack) / sd,
            )
            for side, trial in zip(sides, self.trials.get(gauge, (Trial(),) * len(sides)), strict=True)
        )

    def _spreads(self, gauge: str) -> dict[str, float]:
        """Return the variance of a round's mean times its rows, per device, from the rounds before.

        Rows that depend on each other make it larger than the variance of a row.
        """
        tracks = {d: t[gauge] for d, t in self.before.items() if gauge in t and t[gauge].rounds > 1}
        free = sum(track.rounds - 1 for track in tracks.values())
        pooled = sum(track.scatter for track in tracks.values()) / free if free else 0.0
        return {
            device: (PRIOR_ROUNDS * pooled + track.scatter) / (PRIOR_ROUNDS + track.rounds - 1)
            for device, track in tracks.items()
        }


def _least_variance(gauge: str, track: Track, reading: Reading, *, margin: float) -> float:
    """Return the variance of one row: the larger of before and now, and never less than the margin allows.

    A share that was 0 before has no variance of its own, and one failed call would then prove everything. A
    share at the edge of its margin has variance p (1 - p), so that much is always granted.
    """
    floor = 0.0
    if gauges.is_share(gauge):
        edge = min(max(track.mean, 0.0) + margin, 0.5)
        floor = edge * (1 - edge)
    return max(track.variance, reading.variance, floor, 1e-12)

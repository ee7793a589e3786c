"""Rounds of a rollout: stage and control side by side, window by window.

The device is the unit. Every witness is compared with its own time before, and the mean of the devices that
run the version with the mean of the control in the same round: a difference of differences, in which
whatever is peculiar to a device, and whatever happens to all of them, cancels.

A window belongs to the round in which its middle lies; a round is closed one round later. A window that
comes later still makes a round of its own, which counts if both arms are in it. What devices of a stage show
says nothing about those that were not heard yet: when more of these come than may fail, rounds and assurance
begin anew. Labels come much later than
what they are about, so they make rounds of their own: one each time both arms have enough new ones.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from msgspec.structs import replace

from muster_controller.domain.facts import LabelFacts, Observed, WindowFacts
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.judging import gauges
from muster_controller.domain.rollouts.judging.gauges import Lens, Reading, Scale
from muster_controller.domain.rollouts.judging.ledger import (
    Ledger,
    Round,
    Side,
    Track,
    Trial,
    begin_anew,
    noted,
    seat,
)
from muster_controller.domain.rollouts.planning.conditions import ACCURACY, INVALID
from muster_controller.domain.rollouts.planning.plan import Plan

# The mean before is itself an estimate, and its error stays the same in every round: so many of its
# standard errors are granted to both tests. Chosen by simulation, see tests/property/test_sequential_laws.py.
SLACK = 1.5
# Devices do not answer alike to what happens to all of them: an instrument near an edge of its range moves
# more than another. A third of what the control has moved for certain, that is beyond so many of its standard
# errors, is taken as the spread of that answer between devices; its error is granted like that before, to the
# test that stops and not to the one that promotes: under a large shift no good version would ever be healthy.
CERTAIN = 2.0
UNEVEN = 1 / 3
# What few rounds say about a device's spread is pulled towards that of all, as if seen for so many rounds.
PRIOR_ROUNDS = 20.0

# One round never decides alone: a short hiccup of the stage is no reason to go back.
MOST_HARM = 3.0

LABELS_ROUND = 20  # new labels of each arm that make a round
LABELS_BEFORE = 2  # rounds of labels, pushes that is, about a device's time before
AHEAD_ROUNDS = 2  # by which a window may lie after now: what lies further ahead has a wrong clock
MAX_NAMES = 32  # of counters, kept for messages

Readings = dict[str, dict[str, Reading]]  # by device, then gauge
Arms = tuple[Mapping[str, Reading], Mapping[str, Reading]]  # stage and control
_Plain = tuple[float, float, float]


def take_in(
    plan: Plan,
    ledger: Ledger,
    windows: Iterable[WindowFacts],
    *,
    arms: Mapping[str, int],
    started: float,
    now: float,
    observed: Observed = Observed(),  # noqa: B008 - it is frozen
    upto: int = 0,
) -> Ledger:
    """Return the ledger after windows and labels, and after the rounds that ``now`` closes.

    Args:
        arms: Of the witnesses.
        started: When the rollout began, Unix seconds: an earlier trial of the same version does not count.
        observed: What is known besides windows.
        upto: Number of the newest window.
    """
    current = int(now // plan.round_seconds)
    seated = seat(ledger, arms)
    working = _Working(plan, seated, arms, started, current, observed)
    for window in windows:
        working.add(window)
    for label in observed.labels:
        working.add_label(label)
    after = working.close(max(upto, ledger.upto))
    if after.closed > ledger.closed:
        return noted(after, "round")
    return noted(after, "clock") if after.misdated != ledger.misdated else after


@dataclass
class _Working:
    """A ledger that is being written: local to one call of ``take_in``."""

    plan: Plan
    ledger: Ledger
    arms: Mapping[str, int]
    started: float
    current: int
    observed: Observed

    def __post_init__(self) -> None:
        ledger = self.ledger
        self.scale = Scale(*ledger.scale) if ledger.scale else None
        self.before = {device: dict(tracks) for device, tracks in ledger.before.items()}
        self.switched, self.slow = dict(ledger.switched), dict(ledger.slow)
        self.reporting, self.heard = set(ledger.reporting), set(ledger.heard)
        self.contaminated, self.misdated = dict(ledger.contaminated), dict(ledger.misdated)
        self.counters = set(ledger.counters)
        self.totals = ledger.totals
        self.trials = dict(ledger.trials)
        self.rounds, self.late, self.begun = ledger.rounds, ledger.late, ledger.begun
        self.compared = dict(ledger.compared)
        self.open: dict[int, dict[Side, Readings]] = {
            index: {
                side: {device: _readings(held) for device, held in devices.items()}
                for side, devices in sides.items()
            }
            for index, sides in ledger.open.items()
        }
        self.labels: dict[Side, dict[str, Reading]] = {
            side: _readings(held) for side, held in ledger.labels.items()
        }

    def add(self, window: WindowFacts) -> None:
        """Put a window into its round, if it says anything to this rollout."""
        arm = self.arms.get(window.device)
        index = int((window.start + window.end) / 2 // self.plan.round_seconds)
        if arm is not None:
            self._check(window, arm, index)
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
            if window.device not in self.slow and sum(window.latency) >= self.plan.minimum_rows:
                self.slow[window.device] = gauges.slow_bins(window.latency)
            self._read(window, index, "old")

    def add_label(self, label: LabelFacts) -> None:
        """Count what became known of predictions of either version."""
        arm = self.arms.get(label.device)
        is_new = label.manifest == self.plan.digest and label.end > self.started
        is_old = label.manifest == self.plan.previous
        if is_new:
            totals = self.totals
            self.totals = replace(totals, labels=totals.labels + label.of, right=totals.right + label.right)
        if arm is None or label.of <= 0:
            return
        share = label.right / label.of
        reading = Reading(label.of, share, share * (1 - share))
        if is_old and label.end <= self.started:
            self._learn(label.device, ACCURACY, reading, share)
        elif (is_old and arm == CONTROL) or (is_new and arm != CONTROL):
            held = self.labels.setdefault("new" if is_new else "old", {})
            held[label.device] = held[label.device] + reading if label.device in held else reading

    def close(self, upto: int) -> Ledger:
        """Close the rounds that are over, in order, and return the ledger.

        Rounds are closed once in each round, and not whenever somebody looks: so the course depends on which
        windows had come by then, and on nothing else.
        """
        if self.current > self.ledger.closed:
            # An index in the future is a device with a wrong clock: it must not keep a round open for ever.
            for index in sorted(self.open):
                if index < self.current - 1 or index > self.current + 1:
                    self._close_round(self.open.pop(index))
            self._close_labels()
        return replace(
            self.ledger,
            scale=(self.scale.mean, self.scale.sd) if self.scale else None,
            before=self.before,
            switched=self.switched,
            open={
                index: {
                    side: {device: _plain(readings) for device, readings in devices.items()}
                    for side, devices in sides.items()
                }
                for index, sides in self.open.items()
            },
            trials=self.trials,
            rounds=self.rounds,
            compared=self.compared,
            late=self.late,
            begun=self.begun,
            reporting=tuple(sorted(self.reporting)),
            totals=self.totals,
            heard=tuple(sorted(self.heard)),
            contaminated=self.contaminated,
            misdated=self.misdated,
            beside=tuple(sorted(self.arms.keys() & set(self.observed.beside))),
            slow=self.slow,
            counters=tuple(sorted(self.counters)[:MAX_NAMES]),
            labels={side: _plain(held) for side, held in self.labels.items()},
            upto=upto,
            closed=max(self.current, self.ledger.closed),
            labels_upto=max(self.ledger.labels_upto, self.observed.labels_upto),
            crashes={**self.ledger.crashes, **self.observed.crashes},
            agreement={**self.ledger.agreement, **self.observed.agreement},
        )

    def _check(self, window: WindowFacts, arm: int, index: int) -> None:
        """Note what tells that the comparison itself is not as it was planned."""
        if index > self.current + AHEAD_ROUNDS:
            self.misdated[window.device] = self.current
        if window.counters and len(self.counters) < MAX_NAMES:
            self.counters.update(window.counters)
        if arm == CONTROL and window.calls > 0:
            if window.manifest == self.plan.previous:
                self.heard.add(window.device)
            elif window.manifest == self.plan.digest and window.end > self.started:
                self.contaminated[window.device] = max(index, self.contaminated.get(window.device, index))

    def _read(self, window: WindowFacts, index: int, side: Side) -> None:
        held = self.open.setdefault(index, {}).setdefault(side, {}).setdefault(window.device, {})
        lens = Lens(
            scale=self.scale,
            slow=self.slow.get(window.device),
            counters=self.plan.margins.counters,
            reliability=self._reliability(window.manifest),
        )
        for gauge, reading in gauges.read(window, lens).items():
            if gauge == INVALID and self.plan.margins.invalid is None:
                continue
            held[gauge] = held[gauge] + reading if gauge in held else reading

    def _reliability(self, digest: str) -> Sequence[tuple[int, int]]:
        return () if self.plan.margins.estimate is None else self.observed.reliability.get(digest, ())

    def _count(self, window: WindowFacts) -> None:
        missing, predictions = gauges.missing_predictions(window)
        totals, latency = self.totals, self.totals.latency
        if window.latency:
            latency = tuple(a + b for a, b in zip_longest(latency, window.latency, fillvalue=0))
        self.totals = replace(
            totals,
            calls=totals.calls + window.calls,
            errors=totals.errors + window.errors,
            predictions=totals.predictions + predictions,
            missing=totals.missing + missing,
            latency=latency,
        )
        if window.calls > 0:
            self.reporting.add(window.device)

    def _close_round(self, sides: Mapping[Side, Readings]) -> None:
        old, new = sides.get("old", {}), sides.get("new", {})
        seen = {
            gauge: self._close_gauge(gauge, self._large(gauge, old), self._large(gauge, new))
            for gauge in sorted({gauge for held in (*old.values(), *new.values()) for gauge in held})
        }
        least = self.plan.minimums.devices
        pairs = {gauge: arms for gauge, arms in seen.items() if min(map(len, arms)) >= least}
        self._meet({device for arms in pairs.values() for arm in arms for device in arm})
        counted = [self._compare(gauge, *arms) for gauge, arms in pairs.items()]
        has_control = any(arm == CONTROL for arm in self.arms.values())
        self.rounds += any(counted) if has_control else any(new.values())

    def _meet(self, devices: Collection[str]) -> None:
        """Count who is compared, and begin anew when many of the stage are compared for the first time."""
        fresh = {d for d in devices if d not in self.compared and self.arms.get(d) != CONTROL}
        known = sum(self.arms.get(d) != CONTROL for d in self.compared)
        self.late += len(fresh)
        if self.late > self.plan.limits.failures * (known + len(fresh)):
            self.begun += 1
            self.trials = begin_anew(self.trials, begun=self.begun)
            self.rounds, self.late, self.compared = 0, 0, dict.fromkeys(self.compared, 0)
        self.compared |= {device: self.compared.get(device, 0) + 1 for device in sorted(devices)}

    def _large(self, gauge: str, devices: Readings) -> dict[str, Reading]:
        """Return one gauge of the devices that had rows enough in a round."""
        return {
            device: held[gauge]
            for device, held in devices.items()
            if gauge in held and held[gauge].rows >= self.plan.minimum_rows
        }

    def _close_gauge(self, gauge: str, old: Mapping[str, Reading], new: Mapping[str, Reading]) -> Arms:
        """Learn from those that do not run the version; return stage and control as far as they are known."""
        control = {d: r for d, r in old.items() if self.arms.get(d) == CONTROL}
        level = self._control_level(gauge, control)
        for device, reading in old.items():
            learns = not (device in control and self.ledger.frozen)
            if learns and (level is not None or not self.ledger.frozen):
                self._learn(device, gauge, reading, reading.mean - (level or 0.0))
        if level is None:
            return {}, {}
        treated = {d: r for d, r in new.items() if self._track(d, gauge)}
        return treated, {d: r for d, r in control.items() if self._track(d, gauge)}

    def _close_labels(self) -> None:
        """Compare labels when both arms have enough new ones of devices that were labelled before as well."""
        arms = [
            {d: r for d, r in self.labels.get(side, {}).items() if self._track(d, ACCURACY)}
            for side in ("new", "old")
        ]
        if all(sum(r.rows for r in arm.values()) >= LABELS_ROUND for arm in arms) and self._compare(
            ACCURACY, *arms
        ):
            self.labels = {}

    def _learn(self, device: str, gauge: str, reading: Reading, mean: float) -> None:
        tracks = self.before.setdefault(device, {})
        tracks[gauge] = tracks.get(gauge, Track()).after(reading, mean)

    def _control_level(self, gauge: str, control: Mapping[str, Reading]) -> float | None:
        """Return how far the control is from its own level in this round; None while that is not known."""
        if not self.ledger.frozen:
            return None
        moved = [r.mean - track.mean for d, r in control.items() if (track := self._track(d, gauge))]
        return sum(moved) / len(moved) if moved else None

    def _track(self, device: str, gauge: str) -> Track | None:
        track = self.before.get(device, {}).get(gauge)
        wanted = LABELS_BEFORE if gauge == ACCURACY else self.plan.before_rounds
        return track if track is not None and track.rounds >= wanted else None

    def _compare(self, gauge: str, treated: Mapping[str, Reading], control: Mapping[str, Reading]) -> bool:
        """Take one round of a gauge into its trials; False when too few devices are in it."""
        margin = gauges.margin_of(gauge, self.plan.margins)
        if min(len(treated), len(control)) < self.plan.minimums.devices or not math.isfinite(margin):
            return False
        seen = self._side_by_side(gauge, treated, control, margin=margin)
        sides = gauges.sides_of(gauge, self.plan.margins)
        self.trials[gauge] = tuple(
            trial.after(
                seen,
                harm=min((side * seen.moved - margin - seen.caution) / seen.sd, MOST_HARM),
                assurance=(margin - side * seen.moved - seen.slack) / seen.sd,
            )
            for side, trial in zip(sides, self.trials.get(gauge, (Trial(),) * len(sides)), strict=True)
        )
        return True

    def _side_by_side(
        self, gauge: str, treated: Mapping[str, Reading], control: Mapping[str, Reading], *, margin: float
    ) -> Round:
        spreads = self._spreads(gauge)
        moved, noise, doubt, levels = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
        for number, arm in enumerate((treated, control)):
            for device, reading in arm.items():
                track = self.before[device][gauge]
                least = gauges.least_variance(gauge, track.mean, margin)
                spread = max(spreads[device], track.variance, reading.variance, least, 1e-12)
                moved[number] += (reading.mean - track.mean) / len(arm)
                levels[number] += reading.mean / len(arm)
                noise[number] += spread / reading.rows / len(arm) ** 2
                doubt[number] += spread / track.rows / len(arm) ** 2
        shift = max(abs(moved[1]) - CERTAIN * (noise[1] + doubt[1]) ** 0.5, 0.0)
        uneven = (UNEVEN * shift) ** 2 * (1 / len(treated) + 1 / len(control))
        return Round(
            moved=moved[0] - moved[1],
            sd=max(sum(noise), 1e-12) ** 0.5,
            slack=SLACK * sum(doubt) ** 0.5,
            caution=SLACK * (sum(doubt) + uneven) ** 0.5,
            level=levels[0],
            beside=levels[1],
            samples=sum(reading.rows for reading in treated.values()),
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


def _readings(held: Mapping[str, _Plain]) -> dict[str, Reading]:
    return {name: Reading(*plain) for name, plain in held.items()}


def _plain(readings: Mapping[str, Reading]) -> dict[str, _Plain]:
    return {name: (r.rows, r.mean, r.variance) for name, r in readings.items()}

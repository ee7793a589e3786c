"""What a rollout has learned from windows: the time before, open rounds, and the wealth of its tests."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from muster_controller.domain.rollouts.judging.gauges import Reading
from muster_controller.domain.sequential import bet, new_wealth

Side = Literal["old", "new"]  # the version that answered
Kind = Literal["round", "freeze", "stage", "cast", "clock"]
STAKE = 0.1  # of the wealth that a bet on harm began with: what all its new beginnings together are given
_NOBODY: Mapping[str, int | None] = MappingProxyType({})
MAX_JOURNAL = 20_000  # entries; a rollout that goes on for longer cannot be replayed from its beginning


class Track(Struct, frozen=True):
    """One gauge of one device in the time before.

    Attributes:
        rounds: Rounds seen.
        rows: Of all of them.
        mean: Weighted by rows.
        scatter: Sum of rows times the squared distance of a round's mean from ``mean``.
        variance: Of one row.
    """

    rounds: int = 0
    rows: float = 0.0
    mean: float = 0.0
    scatter: float = 0.0
    variance: float = 0.0

    def after(self, reading: Reading, mean: float) -> "Track":
        """Return the track with one more round, of which ``mean`` is the gauge."""
        rows = self.rows + reading.rows
        step = mean - self.mean
        share = reading.rows / rows
        return Track(
            rounds=self.rounds + 1,
            rows=rows,
            mean=self.mean + step * share,
            scatter=self.scatter + reading.rows * step * step * (1 - share),
            variance=self.variance + (reading.variance - self.variance) * share,
        )


class Round(Struct, frozen=True):
    """One gauge in one round, stage beside control.

    Attributes:
        moved: Version minus control, less the difference before.
        sd: Standard error of that.
        slack: What is granted to both tests for the error of the time before.
        caution: What is granted to the test of harm: that, and what devices may answer unlike to a shift.
        level, beside: The gauge in stage and control, as means over devices.
        samples: Rows of the version.
    """

    moved: float
    sd: float
    slack: float
    caution: float
    level: float
    beside: float
    samples: float


class Trial(Struct, frozen=True):
    """One gauge in one direction: the wealth of a bet on harm, and of one on its absence.

    Attributes:
        harm: Logarithms of the e-process against "within the margin", over the whole rollout; it is given a
            new stake when other devices come, see ``begin_anew``.
        assurance: The same against "outside the margin", since the devices of the stage were heard, see
            ``Ledger.compared``. A round that is far outside weighs as it is, however good the others were.
        rounds: Rounds in ``assurance``; everything below is over those.
        effect: Mean of version minus control, less the difference before.
        level, beside: Means of the gauge itself, in stage and control.
        samples: Rows of the version.
        precision, score, slack: Sums over rounds of 1, ``moved`` and ``slack``, each by the standard error:
            what the interval is computed from, see ``sequential.interval``.
    """

    harm: tuple[float, ...] = tuple(new_wealth().tolist())
    assurance: tuple[float, ...] = tuple(new_wealth().tolist())
    rounds: int = 0
    effect: float = 0.0
    level: float = 0.0
    beside: float = 0.0
    samples: float = 0.0
    precision: float = 0.0
    score: float = 0.0
    slack: float = 0.0

    def after(self, seen: Round, *, harm: float, assurance: float) -> "Trial":
        """Return the trial with one more round."""
        rounds = self.rounds + 1
        return Trial(
            harm=tuple((self.harm + bet(harm)).tolist()),
            assurance=tuple((self.assurance + bet(assurance, least=-math.inf)).tolist()),
            rounds=rounds,
            effect=self.effect + (seen.moved - self.effect) / rounds,
            level=self.level + (seen.level - self.level) / rounds,
            beside=self.beside + (seen.beside - self.beside) / rounds,
            samples=self.samples + seen.samples,
            precision=self.precision + 1 / seen.sd,
            score=self.score + seen.moved / seen.sd,
            slack=self.slack + seen.slack / seen.sd,
        )


class Totals(Struct, frozen=True):
    """Sums over every window of the version, witnesses or not; ``labels`` are over every label of it."""

    calls: int = 0
    errors: int = 0
    predictions: int = 0
    missing: int = 0
    latency: tuple[int, ...] = ()
    labels: int = 0
    right: int = 0


class Entry(Struct, frozen=True, array_like=True):
    """Something that was done to a ledger, and what had been taken in by then: enough to do it all again.

    Attributes:
        kind: Rounds were closed, the control's level was fixed, a stage began, other devices are compared, or
            a window came from the future, which depends on when one looks.
        current: The round that was running.
        upto, labels_upto: Numbers of the newest window and label that had been taken in.
        arms: Of devices whose arm is another one since; None: compared no more.
    """

    kind: Kind
    current: int
    upto: int
    labels_upto: int
    arms: dict[str, int | None] = {}


class Ledger(Struct, frozen=True):
    """Everything learned so far.

    Attributes:
        arms: Of the witnesses, as they were when windows were taken in last.
        frozen: The control's level is fixed: set when the first stage is admitted.
        before: Tracks by witness and gauge.
        switched: Round in which each witness first answered with the version.
        open: Rounds that are not closed yet: by index, the version that answered, device and gauge.
        trials: By gauge; one entry per direction.
        rounds: Rounds of this stage that counted, since its devices were heard.
        compared: Witnesses that were compared in this stage: in how many of ``rounds``.
        late: How many devices of the stage are among them that were not there when ``rounds`` began.
        begun: How often rounds began in this rollout.
        reporting: Devices whose windows of the version arrived in this stage.
        heard: Devices of the control whose windows arrived in this stage.
        contaminated: Devices of the control that answered with the version, and the newest round in which.
        misdated: Witnesses that sent a window from the future, and the round in which it came.
        beside: Witnesses that another rollout, of another model, has given a version.
        slow: By witness, from which bins on its calls are slow, see ``gauges.slow_bins``.
        counters: Names that applications were seen to count by; a few, for messages.
        labels: New labels by version and device, as gauges, until both arms have enough to be compared.
        upto, labels_upto: Numbers of the newest window and label that were taken in.
        closed: The round that was running when rounds were closed last: they are once in each.
        journal: What was done, in order; see ``replay``.
        crashes: Of the version, by device.
        agreement: Rows on which candidate and current version agreed in shadow, by device, and rows compared.
    """

    arms: dict[str, int] = {}
    frozen: bool = False
    scale: tuple[float, float] | None = None
    before: dict[str, dict[str, Track]] = {}
    switched: dict[str, int] = {}
    open: dict[int, dict[Side, dict[str, dict[str, tuple[float, float, float]]]]] = {}
    trials: dict[str, tuple[Trial, ...]] = {}
    rounds: int = 0
    compared: dict[str, int] = {}
    late: int = 0
    begun: int = 0
    reporting: tuple[str, ...] = ()
    totals: Totals = Totals()
    heard: tuple[str, ...] = ()
    contaminated: dict[str, int] = {}
    misdated: dict[str, int] = {}
    beside: tuple[str, ...] = ()
    slow: dict[str, tuple[int, int]] = {}
    counters: tuple[str, ...] = ()
    labels: dict[Side, dict[str, tuple[float, float, float]]] = {}
    upto: int = 0
    labels_upto: int = 0
    closed: int = -1
    journal: tuple[Entry, ...] = ()
    crashes: dict[str, int] = {}
    agreement: dict[str, tuple[int, int]] = {}


def seat(ledger: Ledger, arms: Mapping[str, int]) -> Ledger:
    """Return the ledger that compares these devices from here on."""
    if ledger.arms == arms:
        return ledger
    devices = sorted(ledger.arms.keys() | arms.keys())
    changed = {name: arms.get(name) for name in devices if ledger.arms.get(name) != arms.get(name)}
    return noted(replace(ledger, arms=dict(arms)), "cast", arms=changed)


def freeze(ledger: Ledger) -> Ledger:
    """Fix the control's level: from here on, only differences from it are learned."""
    return noted(replace(ledger, frozen=True), "freeze")


def begin_stage(ledger: Ledger) -> Ledger:
    """Forget what must be shown again for every stage; evidence of harm is kept for the whole rollout."""
    trials = {
        gauge: tuple(Trial(harm=trial.harm) for trial in sides) for gauge, sides in ledger.trials.items()
    }
    return noted(
        replace(ledger, trials=trials, rounds=0, compared={}, late=0, reporting=(), heard=()), "stage"
    )


def begin_anew(trials: Mapping[str, tuple[Trial, ...]], *, begun: int) -> dict[str, tuple[Trial, ...]]:
    """Return trials that ask about devices which were not heard before.

    What the others showed is no assurance about these. And it has nearly used up the wealth of the bet on
    harm, so that harm that begins with these would show after as many rounds again: the bet gets a new stake.
    All stakes together, ``STAKE / (n (n + 1))`` for the n-th, are ``STAKE``: a sum of e-processes that begin
    at any time ever reaches (1 + ``STAKE``) / p with probability p at most.

    Args:
        begun: How often that has happened, this time included.
    """
    stake = math.log(STAKE / (begun * (begun + 1)))
    return {
        gauge: tuple(Trial(harm=tuple(np.logaddexp(trial.harm, stake).tolist())) for trial in sides)
        for gauge, sides in trials.items()
    }


def noted(ledger: Ledger, kind: Kind, *, arms: Mapping[str, int | None] = _NOBODY) -> Ledger:
    """Return the ledger with an entry in its journal."""
    entry = Entry(kind, ledger.closed, ledger.upto, ledger.labels_upto, dict(arms))
    return replace(ledger, journal=(*ledger.journal, entry)[-MAX_JOURNAL:])

"""What a rollout has learned from windows: the time before, open rounds, and the wealth of its tests."""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from muster_controller.domain.rollouts.gauges import Reading
from muster_controller.domain.sequential import bet, new_wealth

Side = Literal["old", "new"]  # the version that answered


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


class Trial(Struct, frozen=True):
    """One gauge in one direction: the wealth of a bet on harm, and of one on its absence.

    Attributes:
        harm: Logarithms of the e-process against "within the margin", over the whole rollout.
        assurance: The same against "outside the margin", since the stage began.
        rounds: Rounds in ``assurance``.
        effect: Mean over those rounds of version minus control, less the difference before.
    """

    harm: tuple[float, ...] = tuple(new_wealth().tolist())
    assurance: tuple[float, ...] = tuple(new_wealth().tolist())
    rounds: int = 0
    effect: float = 0.0

    def after(self, effect: float, harm: float, assurance: float) -> "Trial":
        """Return the trial with one more round."""
        rounds = self.rounds + 1
        return Trial(
            harm=tuple((self.harm + bet(harm)).tolist()),
            assurance=tuple((self.assurance + bet(assurance)).tolist()),
            rounds=rounds,
            effect=self.effect + (effect - self.effect) / rounds,
        )


class Totals(Struct, frozen=True):
    """Sums over every window of the version, witnesses or not."""

    calls: int = 0
    errors: int = 0
    predictions: int = 0
    missing: int = 0


class Ledger(Struct, frozen=True):
    """Everything learned so far.

    Attributes:
        frozen: The control's level is fixed: set when the first stage is admitted.
        before: Tracks by witness and gauge.
        switched: Round in which each witness first answered with the version.
        open: Rounds that are not closed yet: by index, the version that answered, device and gauge.
        trials: By gauge; one entry per direction.
        rounds: Rounds of this stage that counted.
        reporting: Devices whose windows of the version arrived in this stage.
    """

    frozen: bool = False
    scale: tuple[float, float] | None = None
    before: dict[str, dict[str, Track]] = {}
    switched: dict[str, int] = {}
    open: dict[int, dict[Side, dict[str, dict[str, tuple[float, float, float]]]]] = {}
    trials: dict[str, tuple[Trial, ...]] = {}
    rounds: int = 0
    reporting: tuple[str, ...] = ()
    totals: Totals = Totals()


def freeze(ledger: Ledger) -> Ledger:
    """Fix the control's level: from here on, only differences from it are learned."""
    return replace(ledger, frozen=True)


def begin_stage(ledger: Ledger) -> Ledger:
    """Forget what must be shown again for every stage; evidence of harm is kept for the whole rollout."""
    trials = {
        gauge: tuple(Trial(harm=trial.harm) for trial in sides) for gauge, sides in ledger.trials.items()
    }
    return replace(ledger, trials=trials, rounds=0, reporting=())

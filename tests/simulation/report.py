"""What seeds have shown, one row each and all together."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from simulation.controller import RUN_LENGTH
from simulation.run import Outcome
from simulation.versions import EXPECTED, Kind

SURPRISE = 1e-3  # a count of false alarms that is less likely than this contradicts the stated rate


@dataclass(frozen=True)
class Totals:
    """Figures over many seeds.

    Attributes:
        rounds: Rounds of windows that the fleets lived, all together.
        expected_alarms: False alarms in so many rounds, at the stated rate.
        drifts, owed, found: Seeds in which a site drifted, in which it must be named, and in which it was.
        faults: That were written down; what weather does to single messages comes on top.
    """

    seeds: int
    steps: int
    rounds: int
    messages: int
    lost: int
    power_cuts: int
    crashes: int
    false_alarms: int
    expected_alarms: float
    drifts: int
    owed: int
    found: int
    faults: int
    seconds: float
    broken: int


def add_up(outcomes: Sequence[Outcome]) -> Totals:
    """Return the totals of some seeds."""
    drifts = [outcome for outcome in outcomes if outcome.drifted]
    rounds = sum(outcome.rounds for outcome in outcomes)
    return Totals(
        seeds=len(outcomes),
        steps=sum(outcome.steps for outcome in outcomes),
        rounds=rounds,
        messages=sum(outcome.traffic.sent for outcome in outcomes),
        lost=sum(outcome.traffic.lost for outcome in outcomes),
        power_cuts=sum(outcome.cuts + outcome.kills for outcome in outcomes),
        crashes=sum(outcome.crashes for outcome in outcomes),
        false_alarms=sum(outcome.false_alarms for outcome in outcomes),
        expected_alarms=rounds / RUN_LENGTH,
        drifts=len(drifts),
        owed=sum(outcome.owed for outcome in drifts),
        found=sum(outcome.found_drift for outcome in drifts),
        faults=sum(len(outcome.story.faults) for outcome in outcomes),
        seconds=sum(outcome.seconds for outcome in outcomes),
        broken=sum(bool(outcome.broken) for outcome in outcomes),
    )


@dataclass(frozen=True)
class Ends:
    """How the rollouts of one kind of version ended.

    Attributes:
        completed: That ended by promotion.
        stopped: That a verdict ended.
        ordered: That a person ended, because the evidence never sufficed or came too late.
        blamed: Of a version that is fine: that did not complete for a reason that is not ours.
        forgiven: Of those that a person ended, whose plan tries again what devices refuse at once: while it
            does, nobody has failed, and there is nothing to judge.
        exposed: Devices that were told to run it, all together; ``first``: that the first stages have.
    """

    rollouts: int = 0
    completed: int = 0
    stopped: int = 0
    ordered: int = 0
    blamed: int = 0
    forgiven: int = 0
    exposed: int = 0
    first: int = 0

    def as_expected(self, kind: Kind) -> float:
        """Return the share of rollouts that ended as they should; see ``EXPECTED``."""
        wanted = self.completed + self.blamed if EXPECTED[kind].completes else self.stopped
        judged = self.rollouts - self.forgiven
        return wanted / judged if judged else 1.0


def by_kind(outcomes: Sequence[Outcome]) -> dict[Kind, Ends]:
    """Return how the rollouts ended that followed a first version, by kind."""
    found = dict.fromkeys(Kind, Ends())
    for outcome in outcomes:
        for one in outcome.rollouts:
            if one.version == "1.0.0":
                continue
            held = found[one.kind]
            found[one.kind] = Ends(
                rollouts=held.rollouts + 1,
                completed=held.completed + (one.by == "completion"),
                stopped=held.stopped + (one.by == "verdict"),
                ordered=held.ordered + (one.by == "order"),
                blamed=held.blamed + (one.by != "completion" and bool(one.blame)),
                forgiven=held.forgiven + (one.by == "order" and _is_forgiven(outcome, one.kind)),
                exposed=held.exposed + one.exposed,
                first=held.first + one.first,
            )
    return found


def _is_forgiven(outcome: Outcome, kind: Kind) -> bool:
    return outcome.story.terms.forgives and EXPECTED[kind].stages == 1


def ends(outcomes: Sequence[Outcome]) -> list[str]:
    """Say how the rollouts of each kind of version ended."""
    heads = ("version", "rollouts", "completed", "stopped", "by a person", "exposed", "in first stages")
    lines = ["", "  ".join(head.ljust(14) for head in heads).rstrip()]
    for kind, one in by_kind(outcomes).items():
        cells = (kind, one.rollouts, one.completed, one.stopped, one.ordered, one.exposed, one.first)
        lines.append("  ".join(str(cell).ljust(14) for cell in cells).rstrip())
    return lines


def most_false_alarms(rounds: int) -> int:
    """Return the most false alarms in so many rounds that do not contradict the stated rate.

    Alarms that come once in ``RUN_LENGTH`` rounds on average are about a Poisson number.

    >>> most_false_alarms(2000)
    5
    """
    mean = rounds / RUN_LENGTH
    count, share, below = 0, math.exp(-mean), math.exp(-mean)
    while 1 - below > SURPRISE:
        count += 1
        share *= mean / count
        below += share
    return count


def row(outcome: Outcome) -> dict[str, Any]:
    """Return a seed as one row."""
    traffic, story = outcome.traffic, outcome.story
    return {
        "seed": outcome.seed,
        "devices": len(story.fleet),
        "versions": [str(kind) for kind in story.versions],
        "drifts": story.drifting,
        "faults": len(story.faults),
        "seconds": round(outcome.seconds),
        "sent": traffic.sent,
        "lost": traffic.lost,
        "doubled": traffic.duplicated,
        "forged": traffic.forged,
        "cuts": outcome.cuts + outcome.kills,
        "crashes": outcome.crashes,
        "installed": outcome.committed,
        "rolled back": outcome.rolled_back,
        "rollouts": [f"{one.version} {one.phase}" for one in outcome.rollouts],
        "alarms": [f"{alarm.level} {alarm.subject}" for alarm in outcome.alarms],
        "false alarms": outcome.false_alarms,
        "history": outcome.digest,
        "broken": outcome.broken,
        "again": f"scripts/simulate --seeds {outcome.seed} --trace, or --shrink {outcome.seed}"
        if outcome.broken
        else "",
        "verdict": "BROKEN" if outcome.broken else "ok",
    }


def document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return everything as plain values."""
    return {"seeds": [row(outcome) for outcome in outcomes], "totals": asdict(add_up(outcomes))}


HEAD = (
    "seed", "devices", "versions", "drifts", "faults", "seconds", "sent", "lost", "doubled", "cuts",
    "crashes", "installed", "rolled back", "alarms", "verdict",
)  # fmt: skip
_WIDTHS = {"versions": 19, "drifts": 6, "alarms": 18, "installed": 9, "rolled back": 11}


def line(values: dict[str, Any]) -> str:
    """Lay out a row for people."""
    cells = [_cell(values[name]).ljust(_WIDTHS.get(name, 7)) for name in HEAD]
    broken = "".join(
        f"\n        {law[:400]}" for law in [*values["broken"], *filter(None, [values.get("again")])]
    )
    return "  ".join(cells).rstrip() + broken


def heading() -> str:
    """Return the names of the columns."""
    return line({name: name for name in HEAD} | {"broken": ()})


def _cell(value: object) -> str:
    return "-" if value in (None, [], "") else ", ".join(value) if isinstance(value, list) else str(value)


def summary(totals: Totals) -> str:
    """Say what all seeds together have shown."""
    return (
        f"\n{totals.seeds} seeds, {totals.steps} steps: {totals.messages} messages ({totals.lost} lost), "
        f"{totals.power_cuts} power cuts, {totals.crashes} crashes of the controller\n"
        f"{totals.faults} faults in {totals.seconds:,.0f} s that were lived\n"
        f"drift: named in {totals.found} of {totals.drifts} seeds, promised in {totals.owed}; "
        f"false alarms: {totals.false_alarms} in {totals.rounds} rounds, "
        f"at the stated rate {totals.expected_alarms:.1f} at most on average\n"
        f"seeds in which an invariant broke: {totals.broken}"
    )

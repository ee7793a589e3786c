"""What seeds have shown, one row each and all together."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from simulation.controller import RUN_LENGTH
from simulation.run import FLEET, Outcome

SURPRISE = 1e-3  # a count of false alarms that is less likely than this contradicts the stated rate


@dataclass(frozen=True)
class Totals:
    """Figures over many seeds.

    Attributes:
        rounds: Rounds of windows that the fleets lived, all together.
        expected_alarms: False alarms in so many rounds, at the stated rate.
        drifts, found: Seeds in which a site drifted, and in which that site was named.
        good, completed: Rollouts of good versions, and those that completed.
        bad, stopped: Rollouts of bad versions, and those that did not complete.
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
    found: int
    good: int
    completed: int
    bad: int
    stopped: int
    broken: int


def add_up(outcomes: Sequence[Outcome]) -> Totals:
    """Return the totals of some seeds."""
    rolled = [one for outcome in outcomes for one in outcome.rollouts]
    good = [one for one in rolled if one.kind == "good"]
    bad = [one for one in rolled if one.kind != "good"]
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
        found=sum(outcome.found_drift for outcome in drifts),
        good=len(good),
        completed=sum(one.phase == "completed" for one in good),
        bad=len(bad),
        stopped=sum(one.phase != "completed" for one in bad),
        broken=sum(bool(outcome.broken) for outcome in outcomes),
    )


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
    traffic, script = outcome.traffic, outcome.script
    return {
        "seed": outcome.seed,
        "devices": len(FLEET),
        "candidate": script.candidate,
        "drifts": script.drifting,
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
        "verdict": "BROKEN" if outcome.broken else "ok",
    }


def document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return everything as plain values."""
    return {"seeds": [row(outcome) for outcome in outcomes], "totals": asdict(add_up(outcomes))}


HEAD = (
    "seed", "devices", "candidate", "drifts", "seconds", "sent", "lost", "doubled", "cuts", "crashes",
    "installed", "rolled back", "alarms", "verdict",
)  # fmt: skip
_WIDTHS = {"candidate": 9, "drifts": 6, "alarms": 18, "installed": 9, "rolled back": 11}


def line(values: dict[str, Any]) -> str:
    """Lay out a row for people."""
    cells = [_cell(values[name]).ljust(_WIDTHS.get(name, 7)) for name in HEAD]
    broken = "".join(f"\n        {law}" for law in values["broken"])
    return "  ".join(cells).rstrip() + broken


def heading() -> str:
    """Return the names of the columns."""
    return line({name: name for name in HEAD} | {"broken": ()})


def _cell(value: object) -> str:
    return "-" if value in (None, []) else ", ".join(value) if isinstance(value, list) else str(value)


def summary(totals: Totals) -> str:
    """Say what all seeds together have shown."""
    return (
        f"\n{totals.seeds} seeds, {totals.steps} steps: {totals.messages} messages ({totals.lost} lost), "
        f"{totals.power_cuts} power cuts, {totals.crashes} crashes of the controller\n"
        f"good versions: {totals.completed} of {totals.good} rollouts completed; "
        f"bad versions: {totals.stopped} of {totals.bad} rollouts stopped\n"
        f"drift: named in {totals.found} of {totals.drifts} seeds; false alarms: {totals.false_alarms} in "
        f"{totals.rounds} rounds, at the stated rate {totals.expected_alarms:.1f} at most on average\n"
        f"seeds in which an invariant broke: {totals.broken}"
    )

"""Whether the devices of the stage crash sooner than those of the control: a race of first crashes.

Each device counts once, with its first crash since the rollout began: crashes of one device come in rows, and
a device whose power supply is bad crashes with every version. Who crashed before it was given the version has
left the race, in every arm alike. When the next one crashes, the chance that it is one of the ``s`` of the
stage and not one of the ``c`` of the control is ``w s / (w s + c)``, where the version makes first crashes
``w`` times as frequent; for no effect at all that is exact whatever devices differ in, because arms are drawn
at random. The likelihood ratio of a larger ``w`` to the tolerated one, multiplied over crashes and averaged
over a few, has a mean of 1 at most while the truth is within what is tolerated, so it may be looked at at any
time. What happens to all devices, a heat wave or a broker that is away, cancels.

It only speaks against a version. That crashes are rare would take too many devices to show. Pure.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.judging.evidence import Gate, Verdict
from muster_controller.domain.rollouts.judging.experiment import Cast
from muster_controller.domain.rollouts.judging.gates import bound_of, shares
from muster_controller.domain.rollouts.judging.ledger import Ledger
from muster_controller.domain.rollouts.planning.conditions import CRASHED
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.sequential import log_mean

TIMES: Final = (2.0, 8.0, 32.0)  # the tolerated ratio: what the evidence bets on
UNIT: Final = "share of devices"
_PRECISION: Final = 1e-6  # of a share that is looked for


@dataclass(frozen=True)
class Crash:
    """One device has crashed for the first time.

    Attributes:
        in_stage: It is of the stage; else of the control.
        stage, control: Devices that had not crashed before, it among them.
    """

    in_stage: bool
    stage: int
    control: int


def crashing(plan: Plan, ledger: Ledger, cast: Cast) -> Iterator[Gate]:
    """Yield the gate that compares first crashes, where the plan asks for it."""
    share = shares(plan, ledger).get(CRASHED)
    tolerated = plan.margins.crashes
    if share is None or tolerated is None:
        return
    crashes, bound = tuple(race(cast)), bound_of(plan, share)
    stage, control = len(cast.given), len(cast.control())
    hits = sum(crash.in_stage for crash in crashes)
    beside = len(crashes) - hits
    evidence = log_evidence(crashes, tolerated)
    detail = f"{hits} of {stage} devices have crashed, and {beside} of {control} of the control"
    if not (stage and control):
        verdict, detail = Verdict.INCONCLUSIVE, "no device of the stage, or of the control, is compared"
    elif evidence >= math.log(bound):
        verdict, detail = Verdict.UNHEALTHY, f"{detail}; tolerated {tolerated:g} times as soon"
    else:
        verdict = Verdict.HEALTHY
    shown = (hits / stage, beside / control) if stage and control else (None, None)
    yield Gate(
        CRASHED,
        verdict,
        None if shown[0] is None or shown[1] is None else shown[0] - shown[1],
        tolerated,
        UNIT,
        evidence=float(f"{math.exp(min(evidence, 700.0)):.3g}"),
        bound=bound,
        detail=detail,
        value=shown[0],
        control=shown[1],
        samples=stage,
        share=share,
        spent=min(1.0, max(0.0, evidence / math.log(bound))),
    )


def race(cast: Cast) -> Iterator[Crash]:
    """Yield the first crashes that say something, in their order."""
    given = [(at, False, device) for device, at in cast.given.items()]
    crashed = [(crash.at, True, device) for device, crash in cast.crashed.items() if device in cast.arms]
    control, stage, out = cast.control(), set[str](), set[str]()
    for _, has_crashed, device in sorted([*given, *crashed]):
        if not has_crashed:
            stage |= {device} - out
            continue
        arm, of_version = cast.arms[device], cast.crashed[device].of_version
        in_stage = arm != CONTROL and of_version
        if in_stage:
            stage.add(device)  # also one that was given it again since
        if (in_stage or (arm == CONTROL and not of_version)) and stage and control:
            yield Crash(in_stage, len(stage), len(control))
        out.add(device)
        stage.discard(device)
        control.discard(device)


def log_evidence(crashes: tuple[Crash, ...], tolerated: float) -> float:
    """Return the logarithm of the e-value against "first crashes are at most so many times as frequent".

    >>> alone = tuple(Crash(True, 5 - crashed, 45) for crashed in range(5))
    >>> [round(math.exp(log_evidence(alone[:count], 1.5))) for count in range(1, 6)]
    [4, 20, 144, 1398, 20811]
    """
    sums = np.zeros(len(TIMES))
    for crash in crashes:
        odds = np.array([tolerated, *(tolerated * times for times in TIMES)]) * crash.stage / crash.control
        chances = odds / (1 + odds) if crash.in_stage else 1 / (1 + odds)
        sums += np.log(chances[1:] / chances[0])
    return float(log_mean(sums))


def least_crashes(stage: int, control: int, *, tolerated: float, bound: float) -> int | None:
    """Return how many devices of a stage must crash, and none of the control, to be stopped; None: never."""
    alone = tuple(Crash(in_stage=True, stage=stage - count, control=control) for count in range(stage))
    for count in range(1, stage + 1):
        if log_evidence(alone[:count], tolerated) >= math.log(bound):
            return count
    return None


def smallest_share(stage: int, control: int, *, tolerated: float, bound: float, power: float) -> float | None:
    """Return the smallest share of devices that crash which is caught with a probability.

    None of the control crashes then; None where not even a version that crashes everywhere is caught.
    """
    needed = least_crashes(stage, control, tolerated=tolerated, bound=bound)
    if needed is None:
        return None
    low, high = 0.0, 1.0
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (low, middle) if _at_least(needed, stage, middle) >= power else (middle, high)
    return high


def _at_least(needed: int, of: int, share: float) -> float:
    """Return the probability of so many hits or more."""
    below = sum(math.comb(of, count) * share**count * (1 - share) ** (of - count) for count in range(needed))
    return 1 - below

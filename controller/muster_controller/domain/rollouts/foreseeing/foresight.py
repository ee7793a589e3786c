"""The power of each gate of a plan in each stage, from what the time before has taught. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from muster_controller.domain.rollouts.draw import CONTROL, WITNESSES
from muster_controller.domain.rollouts.foreseeing.power import (
    POWER,
    Arms,
    noise_of,
    rounds_until_healthy,
    smallest_effect,
)
from muster_controller.domain.rollouts.judging import gauges
from muster_controller.domain.rollouts.judging.crashes import UNIT, smallest_share
from muster_controller.domain.rollouts.judging.gates import bound_of, shares
from muster_controller.domain.rollouts.judging.ledger import Ledger
from muster_controller.domain.rollouts.planning.conditions import CRASHED
from muster_controller.domain.rollouts.planning.plan import Plan

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class GatePower:
    """What one gate can see in one stage.

    Attributes:
        stage: Counted from 1.
        devices, control: That are compared.
        rounds: In which the stage is compared, at least.
        smallest: The smallest effect that is caught with probability ``power.POWER`` within those rounds, in
            the unit of the margin; None: none is. Of crashed devices: the share of the stage, none of the
            control, where the margin is a ratio.
        healthy_after: Rounds after which a version without effect is healthy, with the same probability;
            None: it may never be.
    """

    gate: str
    stage: int
    unit: str
    margin: float
    devices: int
    control: int
    rounds: int
    smallest: float | None
    healthy_after: int | None


def foresee(plan: Plan, ledger: Ledger, drawn: Mapping[str, int]) -> tuple[GatePower, ...]:
    """Return what each gate could see, stage by stage; nothing where there is no control, or no time before.

    Args:
        plan: What is asked for.
        ledger: What the windows before have taught.
        drawn: The arm of every device.
    """
    control = min(WITNESSES, sum(arm == CONTROL for arm in drawn.values()))
    if not control:
        return ()
    kinds: dict[str, list[str]] = {}
    for gauge in sorted({gauge for tracks in ledger.before.values() for gauge in tracks}):
        kinds.setdefault(gauges.gate_of(gauge), []).append(gauge)
    treated = 0
    found: list[GatePower] = []
    for index in range(len(plan.stages)):
        treated += min(WITNESSES, sum(arm == index for arm in drawn.values()))
        arms = Arms(treated, control, _before(plan, ledger))
        found += _stage(plan, ledger, kinds, arms=arms, index=index)
    return tuple(found)


def _before(plan: Plan, ledger: Ledger) -> int:
    """Return how many rounds before there will have been: those seen, or those that are waited for."""
    seen = [max(track.rounds for track in tracks.values()) for tracks in ledger.before.values() if tracks]
    return max(plan.before_rounds, sorted(seen)[len(seen) // 2] if seen else 0)


def _stage(
    plan: Plan, ledger: Ledger, kinds: Mapping[str, Sequence[str]], *, arms: Arms, index: int
) -> Iterator[GatePower]:
    stage = plan.stages[index]
    rounds = max(stage.minimum_rounds, int(stage.soak_seconds // plan.round_seconds))
    for name, share in shares(plan, ledger).items():
        if name == CRASHED:
            yield _of_crashes(plan, arms, share, index=index, rounds=rounds)
        if name not in kinds:
            continue
        held = kinds[name]
        margin = gauges.margin_of(held[0], plan.margins)
        bets = sum(len(gauges.sides_of(gauge, plan.margins)) for gauge in held)
        bound = bound_of(plan, share)
        worst: list[float | None] = []
        healthy: list[int | None] = []
        for gauge in held:
            noise = noise_of(ledger.before, gauge, least=_least(gauge, margin, ledger))
            if noise is not None:
                worst.append(smallest_effect(margin, noise, arms, bound=bound * bets, rounds=rounds))
                healthy.append(rounds_until_healthy(margin, noise, arms, needed=1 / plan.hold_budget))
        yield GatePower(
            gate=name,
            stage=index + 1,
            unit=gauges.unit_of(name),
            margin=margin,
            devices=arms.treated,
            control=arms.control,
            rounds=rounds,
            smallest=_largest(worst),
            healthy_after=_largest(healthy),
        )


def _of_crashes(plan: Plan, arms: Arms, share: float, *, index: int, rounds: int) -> GatePower:
    """Return what the race of first crashes could see: which share of the stage, and none of the control."""
    tolerated = plan.margins.crashes
    assert tolerated is not None
    bound = bound_of(plan, share)
    smallest = smallest_share(arms.treated, arms.control, tolerated=tolerated, bound=bound, power=POWER)
    return GatePower(
        gate=CRASHED,
        stage=index + 1,
        unit=UNIT,
        margin=tolerated,
        devices=arms.treated,
        control=arms.control,
        rounds=rounds,
        smallest=smallest,
        healthy_after=0,
    )


def _least(gauge: str, margin: float, ledger: Ledger) -> float:
    """Return the variance of one row that the gates assume at least."""
    levels = [tracks[gauge].mean for tracks in ledger.before.values() if gauge in tracks]
    return gauges.least_variance(gauge, sum(levels) / len(levels), margin)


def _largest(found: Sequence[Number | None]) -> Number | None:
    """Return the worst of the gauges of a gate; None where one of them has none."""
    known = [one for one in found if one is not None]
    return max(known) if known and len(known) == len(found) else None

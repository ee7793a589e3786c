"""The draw of a plan's arms, as every method on a fleet uses it: Muster's own."""

from collections.abc import Mapping
from dataclasses import dataclass

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.machine import Start, State, decide
from muster_controller.domain.rollouts.planning.plan import Plan


@dataclass(frozen=True)
class Drawn:
    """Which device belongs where.

    Attributes:
        arms: Stage of each device, by its index, or ``CONTROL``.
        tracked: Devices whose sketches are looked at, by any method: Muster's witnesses.
    """

    arms: tuple[int, ...]
    tracked: tuple[int, ...]


def started(plan: Plan, devices: Mapping[str, DeviceFacts], now: float) -> State:
    """Return a rollout that was just started on all devices.

    Raises:
        RuntimeError: It could not be started; the message says why.
    """
    decision = decide(plan, State(), Start("simulation", "", Facts(now, devices)))
    if decision.refused is not None:
        raise RuntimeError(decision.refused)
    return decision.state


def drawn_by(plan: Plan, names: tuple[str, ...]) -> Drawn:
    """Draw the arms of a fleet."""
    state = started(plan, {name: DeviceFacts(name, current=plan.previous) for name in names}, 0.0)
    chosen = set(state.witnesses)
    return Drawn(
        tuple(state.members[name].arm for name in names),
        tuple(index for index, name in enumerate(names) if name in chosen),
    )


__all__ = ["CONTROL", "Drawn", "drawn_by", "started"]

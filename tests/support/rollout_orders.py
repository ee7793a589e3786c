"""What the operator orders in a course of rollouts, and when."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from muster_controller.domain.people import Person
from muster_controller.domain.rollouts.states import RolloutPhase
from muster_controller.service import approvals, people, rollout_edits, rollouts
from muster_controller.service.context import Context
from muster_controller.service.rollout_plans import RolloutRequest
from muster_controller.service.rollouts import WayBack
from muster_controller.store.engine import Reading
from muster_controller.store.rollouts import in_phases

ANNA = "anna"
BEN, CARL = Person("ben", ("approver",)), Person("carl", ("approver",))
PLAN: Mapping[str, Any] = {
    "stages": [
        {"percent": 50, "soak_seconds": 10, "minimum_rounds": 1},
        {"percent": 100, "soak_seconds": 10, "minimum_rounds": 1},
    ],
    "control": 0.0,
    "round_seconds": 10.0,
    "seed": "7",
}
NOISY = "lyon-2"  # a device of the first stage


@dataclass(frozen=True)
class Order:
    """Something that a person orders once; its reason tells it from all others in the audit trail.

    Attributes:
        give: Orders it.
    """

    action: str
    reason: str
    give: Callable[[Context], object]


def _start(version: str, reason: str, **plan: Any) -> Order:
    def give(context: Context) -> object:
        request = RolloutRequest(f"digits@{version}", None, {**PLAN, **plan})
        return rollouts.start_rollout(context, ANNA, request, reason)

    return Order("rollout.start", reason, give)


def _steer(command: Callable[..., object], reason: str, **how: Any) -> Order:
    def give(context: Context) -> object:
        return command(context, ANNA, _live(context), reason=reason, **how)

    return Order(f"rollout.{command.__name__}", reason, give)


def _approve(reason: str, who: Person = BEN) -> Order:
    def give(context: Context) -> object:
        return approvals.approve(context, who, _live(context), reason=reason)

    return Order("rollout.approve", reason, give)


def _edit(version: str, reason: str, **plan: Any) -> Order:
    def give(context: Context) -> object:
        request = RolloutRequest(f"digits@{version}", None, {**PLAN, **plan})
        return rollout_edits.edit_rollout(context, ANNA, _live(context), request, reason=reason)

    return Order("rollout.edit", reason, give)


def _revoke(who: Person, reason: str) -> Order:
    def give(context: Context) -> object:
        return people.revoke(context, ANNA, who.name, reason)

    return Order("person.revoke", reason, give)


def _go_back(reason: str, way: WayBack) -> Order:
    def give(context: Context) -> object:
        return rollouts.roll_back(context, ANNA, _live(context), way, reason)

    return Order("rollout.rollback", reason, give)


def _live(context: Context) -> int:
    """Return the number of the newest rollout."""
    with Reading(context.engine) as session:
        return max(one.id for one in in_phases(session, tuple(RolloutPhase)))


# By the number of the instant.
ORDERS: Mapping[int, tuple[Order, ...]] = {
    0: (
        _start("1.3.0", "it is faster", approval={"needed": 1}),
        _approve("yes, that one", CARL),
        _edit("1.1.0", "the one that we tried", approval={"needed": 1}),
        _approve("yes, this one", CARL),
        _revoke(CARL, "left"),
        _approve("yes, start it"),
    ),
    1: (_steer(rollouts.pause, "lunch"),),
    2: (
        _steer(rollouts.resume, "back from lunch"),
        _approve("yes, go on"),
        _steer(rollouts.promote, "it is good"),
    ),
    4: (_approve("yes, to the end"), _steer(rollouts.promote, "it is good everywhere")),
    5: (_start("1.2.0", "it is smaller"),),
    8: (_start("1.2.0", "once more", limits={"failures": 1.0}),),
    10: (_steer(rollouts.retry, "the disks are cleaned"),),
    11: (_steer(rollouts.abort, "not today", mode="revert"),),
    13: (_start("1.3.0", "it is new"),),
    14: (_go_back("it is noisy", WayBack(devices=(NOISY,))), _steer(rollouts.promote, "go on")),
    15: (_steer(rollouts.promote, "so be it"), _go_back("it was wrong", WayBack())),
}
INSTANTS = 17

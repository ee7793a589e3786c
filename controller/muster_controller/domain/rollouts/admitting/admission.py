"""Admission: which devices of the admitted stages are given the version now, and what the others wait for.

1. A device that is to be tried again waits for its backoff, and until it has let go of the failed try.
2. Where the plan minds when or how fast, only a device that can be reached is given the version: one that
   wakes later gets what is right then, not what was right when it fell asleep.
3. Outside its maintenance windows, by the clock on its wall, a device is due and nothing more.
4. Of those that are ready the rate and the byte budget take as many as they allow, in the order of the draw.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import nsmallest

from msgspec.structs import replace

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts.admitting.pace import Pace, bytes_left, rate_left, record
from muster_controller.domain.rollouts.admitting.wall import is_open, opens_in
from muster_controller.domain.rollouts.draw import CONTROL, place
from muster_controller.domain.rollouts.members import Member
from muster_controller.domain.rollouts.outcome import has_failed
from muster_controller.domain.rollouts.planning.plan import Plan


@dataclass(frozen=True)
class Admission:
    """Who is given the version now.

    Attributes:
        changed: Members that were given it, or from whom it was taken before they heard of it.
        pace: Of the rollout, afterwards.
        closed: Devices heard of lately whose maintenance windows are closed.
        rated, spent: Devices that are ready, and wait for the rate, or for the byte budget.
        waiting: Devices that wait for the end of their backoff.
        asleep: Devices that are due and cannot be reached.
        opens_in: Seconds until the first of the closed windows opens; None: none ever does.
    """

    changed: dict[str, Member]
    pace: Pace
    closed: int = 0
    rated: int = 0
    spent: int = 0
    waiting: int = 0
    asleep: int = 0
    opens_in: float | None = None

    @property
    def due(self) -> int:
        """Devices heard of lately that the plan's own pace keeps from the version."""
        return self.closed + self.rated + self.spent


def is_paced(plan: Plan) -> bool:
    """Tell whether a plan minds when or how fast devices are given the version."""
    return bool(plan.windows) or plan.ramp is not None or plan.byte_budget is not None


def is_due(member: Member, admitted: int, *, with_control: bool) -> bool:
    """Tell whether a member should have the version and was not given it."""
    if member.given is not None or member.withdrawn:
        return False
    return with_control if member.arm == CONTROL else member.arm < admitted


def give(
    members: Mapping[str, Member], admitted: int, now: float, *, with_control: bool
) -> dict[str, Member]:
    """Return all due members that need not wait for another try, as given the version now."""
    return {
        name: replace(member, given=now)
        for name, member in members.items()
        if member.retry_at is None and is_due(member, admitted, with_control=with_control)
    }


def admit_due(
    plan: Plan,
    facts: Facts,
    members: Mapping[str, Member],
    *,
    admitted: int,
    with_control: bool,
    pace: Pace,
    running: int,
) -> Admission:
    """Decide for every member that is due.

    Args:
        admitted: Number of stages whose devices may have the version.
        with_control: The control may have it as well.
        running: Devices that run the version.
    """
    looking = _Looking(plan, facts)
    for name, member in members.items():
        if member.given is not None and not looking.minds:
            continue
        if (device := facts.devices.get(name)) is None:
            continue
        if member.given is not None:
            looking.recall(member, device)
        elif is_due(member, admitted, with_control=with_control) and name not in facts.elsewhere:
            looking.consider(member, device)
    rate = rate_left(plan.ramp, pace, running=running, now=facts.now)
    room = bytes_left(plan.byte_budget, pace, each=facts.download_bytes, now=facts.now)
    chosen = _first(plan, looking.ready, min(rate, room))
    left = len(looking.ready) - len(chosen)
    given = {name: replace(members[name], given=facts.now, retry_at=None) for name in chosen}
    return Admission(
        changed=looking.recalled | given,
        pace=record(plan.ramp, plan.byte_budget, pace, devices=len(chosen), now=facts.now),
        closed=looking.closed,
        rated=left if rate <= room else 0,
        spent=left if rate > room else 0,
        waiting=looking.waiting,
        asleep=looking.asleep,
        opens_in=min(looking.openings, default=None),
    )


def _first(plan: Plan, ready: list[str], most: float) -> list[str]:
    if len(ready) <= most:
        return ready
    return nsmallest(int(most), ready, key=lambda name: place(plan.seed, name))


class _Looking:
    """What is being gathered: local to one call of ``admit_due``."""

    def __init__(self, plan: Plan, facts: Facts) -> None:
        self._plan = plan
        self._facts = facts
        self.minds = is_paced(plan)
        self.ready: list[str] = []
        self.recalled: dict[str, Member] = {}
        self.openings: set[float] = set()
        self.closed = self.waiting = self.asleep = 0

    def recall(self, member: Member, device: DeviceFacts) -> None:
        """Take the version away from a device that cannot have heard of it, when now is not the time."""
        assert member.given is not None
        if device.seen is not None and device.seen > member.given:
            return
        if not self._facts.is_reachable(device) or not self._is_open(device):
            self.recalled[device.device] = replace(member, given=None)

    def consider(self, member: Member, device: DeviceFacts) -> None:
        """Take in one device that is due."""
        if member.retry_at is not None and (
            self._facts.now < member.retry_at or has_failed(self._plan.digest, device)
        ):
            self.waiting += 1
        elif self.minds and not self._facts.is_reachable(device):
            self.asleep += 1
        elif self._is_open(device):
            self.ready.append(device.device)
        else:
            self.closed += 1
            wait = opens_in(self._plan.windows, self._facts.offsets.get(device.zone), self._facts.now)
            if wait is not None:
                self.openings.add(wait)

    def _is_open(self, device: DeviceFacts) -> bool:
        return is_open(self._plan.windows, self._facts.offsets.get(device.zone), self._facts.now)

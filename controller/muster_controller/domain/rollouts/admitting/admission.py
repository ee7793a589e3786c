"""Admission: which devices of the admitted stages are given the version now, and what the others wait for.

1. A device that is to be tried again waits for its backoff, and until it has let go of the failed try.
2. Where the plan minds when or how fast, only a device that can be reached is given the version: one that
   wakes later gets what is right then, not what was right when it fell asleep.
3. Outside its maintenance windows, by the clock on its wall, a device is due and nothing more.
4. Of those that are ready the rate and the byte budget take as many as they allow, in the order of the draw.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from muster_controller.domain.facts import Facts
from muster_controller.domain.rollouts.admitting.pace import Pace, bytes_left, rate_left, record
from muster_controller.domain.rollouts.admitting.wall import is_open, opens_in
from muster_controller.domain.rollouts.draw import CONTROL, line_of
from muster_controller.domain.rollouts.members import Member
from muster_controller.domain.rollouts.outcome import has_failed
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.roster import Crowd, Mask, Roster, roster_of
from muster_controller.domain.rollouts.sight import Sight, by_kind


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


def are_due(roster: Roster, admitted: int, *, with_control: bool) -> Mask:
    """Tell of every member what ``is_due`` tells of one."""
    table = roster.columns.table
    kinds = (table["arm"] - CONTROL) * 4 + roster.columns.is_given() * 2 + table["is_withdrawn"]

    def told(kind: int) -> int:
        arm, (given, withdrawn) = kind // 4 + CONTROL, divmod(kind % 4, 2)
        member = Member(arm, given=0.0 if given else None, withdrawn="by order" if withdrawn else "")
        return is_due(member, admitted, with_control=with_control)

    return by_kind(kinds, told).astype(np.bool_)


def give(
    members: Mapping[str, Member], admitted: int, now: float, *, with_control: bool
) -> dict[str, Member]:
    """Return all due members that need not wait for another try, as given the version now."""
    roster = roster_of(members)
    is_due = are_due(roster, admitted, with_control=with_control)
    fresh = Crowd(roster.columns.names, is_due & np.isnan(roster.columns.table["retry_at"]))
    return {name: replace(roster[name], given=now) for name in fresh}


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
    roster = roster_of(members)
    looking = _Looking(plan, facts, roster)
    due = are_due(roster, admitted, with_control=with_control) & looking.sight.is_known
    due[[row for name in facts.elsewhere if (row := looking.sight.names.rows.get(name)) is not None]] = False
    waits = due & looking.waits()
    asleep = due & ~waits & looking.is_asleep
    closed = due & ~waits & ~asleep & ~looking.is_open
    ready = due & ~waits & ~asleep & looking.is_open
    rate = rate_left(plan.ramp, pace, running=running, now=facts.now)
    room = bytes_left(plan.byte_budget, pace, each=facts.download_bytes, now=facts.now)
    chosen = looking.first(ready, min(rate, room))
    left = int(np.count_nonzero(ready)) - len(chosen)
    given = {name: replace(roster[name], given=facts.now, retry_at=None) for name in chosen}
    return Admission(
        changed={name: replace(roster[name], given=None) for name in looking.recalled()} | given,
        pace=record(plan.ramp, plan.byte_budget, pace, devices=len(chosen), now=facts.now),
        closed=int(np.count_nonzero(closed)),
        rated=left if rate <= room else 0,
        spent=left if rate > room else 0,
        waiting=int(np.count_nonzero(waits)),
        asleep=int(np.count_nonzero(asleep)),
        opens_in=looking.opens_in(closed),
    )


class _Looking:
    """Everybody at once: local to one call of ``admit_due``."""

    def __init__(self, plan: Plan, facts: Facts, roster: Roster) -> None:
        self._plan, self._facts = plan, facts
        self.sight = Sight(facts, roster)
        self.is_open = self.sight.by_zone(
            lambda zone: is_open(plan.windows, facts.offsets.get(zone or ""), facts.now)
        )
        self.is_asleep = ~self.sight.is_reachable & is_paced(plan)

    def waits(self) -> Mask:
        """Tell which members wait for another try."""
        digest, retry_at = self._plan.digest, self.sight.members["retry_at"]
        has_let_go = self.sight.by_kind(digest, lambda device: not has_failed(digest, device)).astype(
            np.bool_
        )
        waits: Mask = ~np.isnan(retry_at) & ((self._facts.now < retry_at) | ~has_let_go)
        return waits

    def recalled(self) -> Crowd:
        """Return those who cannot have heard that they were given the version, when now is not the time."""
        sight = self.sight
        if not is_paced(self._plan):
            return Crowd(sight.names, np.zeros(len(sight.names.all), np.bool_))
        unheard = sight.is_known & sight.is_given & ~(sight.seen > sight.members["given"])
        return Crowd(sight.names, unheard & (~sight.is_reachable | ~self.is_open))

    def first(self, ready: Mask, most: float) -> list[str]:
        """Return the first of those that are ready, in the order of the draw."""
        names, rows = self.sight.names, np.flatnonzero(ready)
        if len(rows) > most:
            places = names.places(line_of(self._plan))[rows]
            rows = rows[np.argsort(places, kind="stable")[: int(most)]]
        return [names.all[row] for row in rows.tolist()]

    def opens_in(self, closed: Mask) -> float | None:
        """Return the seconds until the first of the closed windows opens; None when none ever does."""
        waits = [
            opens_in(self._plan.windows, self._facts.offsets.get(zone or ""), self._facts.now)
            for zone in self.sight.zones(closed)
        ]
        return min((wait for wait in waits if wait is not None), default=None)

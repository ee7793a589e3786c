"""The devices of a rollout, a page at a time, and what paces it: for fleets that fit on no page."""

import datetime as dt
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import Final

from muster_controller.domain.rollouts.admitting.pace import bytes_left, rate_left, rate_of
from muster_controller.domain.rollouts.admitting.wall import is_open, opens_in
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.states import State
from muster_controller.service.context import Context
from muster_controller.service.rollout_views import OUTCOMES, Outcome, RolloutDeviceView
from muster_controller.service.rollouts import list_rollout_devices
from muster_controller.stepping import course_of
from muster_controller.store.facts import start_facts
from muster_controller.store.views.paging import Page, encode_cursor, text_cursor

PAGE: Final = 100


@dataclass(frozen=True)
class DeviceCounts:
    """Devices of a cohort by what became of them, in the order of a rollout's course; none that is 0."""

    total: int
    outcomes: dict[Outcome, int]


@dataclass(frozen=True)
class PaceView:
    """What makes devices wait that may have the version.

    Attributes:
        due: Devices that may have it and were not given it yet.
        closed: Of them, those whose maintenance windows are closed; the first opens at ``opens_at``.
        rate: Devices a minute that the ramp allows now; None: no ramp.
        rate_left: Devices that it still allows at this moment.
        bytes_left: Of the byte budget, at this moment; None: no budget.
    """

    due: int
    closed: int
    opens_at: dt.datetime | None
    rate: float | None
    rate_left: int | None
    bytes_left: int | None
    bytes_budget: int | None


def page_devices(
    context: Context,
    number: int,
    *,
    outcome: Outcome | None = None,
    limit: int = PAGE,
    cursor: str | None = None,
) -> tuple[Page[RolloutDeviceView], DeviceCounts]:
    """Return what became of the devices of a cohort, by id, and how many there are of each kind.

    Raises:
        NotFoundError: No such rollout.
        RequestError: The cursor is not one of such a list.
    """
    found = list_rollout_devices(context, number)
    counted = Counter(view.outcome for view in found)
    counts = DeviceCounts(len(found), {name: counted[name] for name in OUTCOMES if counted[name]})
    wanted = [view for view in found if outcome is None or view.outcome == outcome]
    after = text_cursor(cursor)
    begin = 0 if after is None else bisect_right(wanted, after, key=lambda view: view.device)
    shown = tuple(wanted[begin : begin + limit])
    more = begin + limit < len(wanted)
    return Page(shown, encode_cursor(shown[-1].device) if more else None), counts


def show_pace(context: Context, number: int) -> PaceView | None:
    """Return what makes devices wait; None where the plan minds neither when nor how fast.

    Raises:
        NotFoundError: No such rollout.
    """
    now = context.clock()
    with context.reading() as session:
        course = course_of(session, number)
        plan, state = course.plan, course.state
        if not plan.windows and plan.ramp is None and plan.byte_budget is None:
            return None
        facts = start_facts(
            session,
            plan.model,
            plan.digest,
            number=number,
            now=now,
            reachable_seconds=context.settings.reachable_seconds,
        )
    due = [
        facts.devices[name]
        for name, member in state.members.items()
        if 0 <= member.arm < state.admitted and member.given is None and name in facts.devices
    ]
    offsets = [facts.offsets.get(device.zone) for device in due]
    closed = [offset for offset in offsets if not is_open(plan.windows, offset, now)]
    waits = [wait for offset in closed if (wait := opens_in(plan.windows, offset, now)) is not None]
    opens = None if not waits else dt.datetime.fromtimestamp(now + min(waits), dt.UTC)
    running = sum(
        facts.devices[name].current == plan.digest for name in state.members if name in facts.devices
    )
    return _pace(
        plan, state, now, running=running, each=facts.download_bytes, due=len(due), shut=(len(closed), opens)
    )


def _pace(
    plan: Plan,
    state: State,
    now: float,
    *,
    running: int,
    each: int,
    due: int,
    shut: tuple[int, dt.datetime | None],
) -> PaceView:
    ramp, budget, pace = plan.ramp, plan.byte_budget, state.pace
    return PaceView(
        due=due,
        closed=shut[0],
        opens_at=shut[1],
        rate=None if ramp is None else rate_of(ramp, pace, running),
        rate_left=None if ramp is None else int(rate_left(ramp, pace, running=running, now=now)),
        bytes_left=None
        if budget is None or not each
        else int(bytes_left(budget, pace, each=each, now=now)) * each,
        bytes_budget=None if budget is None else budget.bytes,
    )

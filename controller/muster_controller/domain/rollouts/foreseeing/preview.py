"""What a plan would do, before anything is done: who, how much, by when, and what its gates could see. Pure.

The end is the earliest: every device answers at once, downloads take no time, nothing is wrong with the
version, and the noise is that of the time before.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from muster_controller.domain.facts import DeviceFacts, Facts
from muster_controller.domain.rollouts import draw
from muster_controller.domain.rollouts.admitting.pace import Pace, rate_of
from muster_controller.domain.rollouts.admitting.wall import is_open, opens_in
from muster_controller.domain.rollouts.foreseeing.eligibility import Ineligible, Known, fetches, ineligible
from muster_controller.domain.rollouts.foreseeing.foresight import GatePower, foresee
from muster_controller.domain.rollouts.judging.ledger import Ledger
from muster_controller.domain.rollouts.planning.plan import Plan

_CLOSING: Final = 2  # rounds more than are compared: the one of the change, and the one that is still open


@dataclass(frozen=True)
class StageTimes:
    """How long one stage takes at least, in seconds, and what takes so long.

    Attributes:
        windows: Until the maintenance windows of all its devices have opened.
        pace: That rate ramp and byte budget take for its devices.
        trial: In shadow and on probation.
        soak: As the plan says, or as long as the rounds take that evidence needs.
        rounds: That evidence needs; None: so few devices may never show that the version is healthy.
    """

    windows: float
    pace: float
    trial: float
    soak: float
    rounds: int | None

    @property
    def seconds(self) -> float:
        """The whole stage."""
        return self.windows + self.pace + self.trial + self.soak


@dataclass(frozen=True)
class Preview:
    """What a plan would do.

    Attributes:
        drawn: The arm of every device, see ``draw``.
        ineligible: Devices that the version will not reach, or not now.
        bytes_each: What a device fetches that has nothing of the version; ``bytes_total`` of all devices
            together, deltas aside.
        starts: Unix seconds; ``before`` it lies the time that must be seen first, in seconds.
        times: By stage.
        finish: Unix seconds, at the earliest; None: the plan would hold and wait for a person.
        powers: By gate and stage.
    """

    drawn: Mapping[str, int]
    ineligible: tuple[Ineligible, ...]
    bytes_each: int
    bytes_total: int
    starts: float
    before: float
    times: tuple[StageTimes, ...]
    finish: float | None
    powers: tuple[GatePower, ...]


def preview(plan: Plan, known: Known, facts: Facts, ledger: Ledger) -> Preview:
    """Return what a plan would do now.

    Args:
        plan: What is asked for.
        known: About version and fleet.
        facts: Of this moment, without windows.
        ledger: What the windows before have taught.
    """
    names = draw.cohort(plan, facts.devices)
    devices = {name: facts.devices[name] for name in names}
    drawn = draw.arms(plan, draw.draw(plan, names), names)
    powers = foresee(plan, ledger, drawn)
    starts = max(facts.now, plan.start_at or 0.0)
    before = _before(plan, ledger, drawn)
    times, running = [], 0
    moment = starts + before
    for index in range(len(plan.stages)):
        stage = [devices[name] for name, arm in drawn.items() if arm == index]
        times.append(
            _times(plan, known, facts, stage, index=index, at=moment, running=running, powers=powers)
        )
        running += len(stage)
        moment += times[-1].seconds
    endless = any(one.rounds is None for one in times)
    return Preview(
        drawn=drawn,
        ineligible=tuple(ineligible(known, facts, devices, zoned=bool(plan.windows))),
        bytes_each=known.manifest.total_length,
        bytes_total=sum(fetches(known, device) for device in devices.values()),
        starts=starts,
        before=before,
        times=tuple(times),
        finish=None if endless else moment,
        powers=powers,
    )


def _before(plan: Plan, ledger: Ledger, drawn: Mapping[str, int]) -> float:
    """Return the seconds for which the arms must still be seen before the first stage."""
    if draw.CONTROL not in drawn.values():
        return 0.0
    seen = [
        max((track.rounds for track in ledger.before.get(name, {}).values()), default=0)
        for name, arm in drawn.items()
        if arm in {draw.CONTROL, 0}
    ]
    missing = max(0, plan.before_rounds - max(seen, default=0))
    return (missing + 1) * plan.round_seconds if missing else 0.0


def _times(
    plan: Plan,
    known: Known,
    facts: Facts,
    stage: Sequence[DeviceFacts],
    *,
    index: int,
    at: float,
    running: int,
    powers: Sequence[GatePower],
) -> StageTimes:
    needed = [one.healthy_after for one in powers if one.stage == index + 1 and one.healthy_after != 0]
    least = plan.stages[index].minimum_rounds
    rounds = None if None in needed else max([least, *(count for count in needed if count is not None)])
    length = ((least if rounds is None else rounds) + _CLOSING) * plan.round_seconds
    return StageTimes(
        windows=_opening(plan, facts, stage, at),
        pace=max(
            _ramping(plan, len(stage), running), _loading(plan, sum(fetches(known, one) for one in stage))
        ),
        trial=plan.probation_seconds + (plan.shadow.seconds if plan.shadow is not None else 0.0),
        soak=max(plan.stages[index].soak_seconds, length),
        rounds=rounds,
    )


def _opening(plan: Plan, facts: Facts, stage: Sequence[DeviceFacts], at: float) -> float:
    """Return the seconds until the windows of all devices have been open; of unknown zones nobody knows."""
    waits = [0.0]
    for zone in {device.zone for device in stage}:
        offset = facts.offsets.get(zone)
        if not is_open(plan.windows, offset, at):
            waits.append(opens_in(plan.windows, offset, at) or 0.0)
    return max(waits)


def _ramping(plan: Plan, devices: int, running: int) -> float:
    """Return the seconds that the rate takes for so many devices, each of which installs at once."""
    if plan.ramp is None or devices == 0:
        return 0.0
    seconds, left = 0.0, devices
    while left > 0:
        rate = rate_of(plan.ramp, Pace(), running)
        some = min(left, plan.ramp.after - running % plan.ramp.after) if plan.ramp.after else left
        # What a minute holds is given at its beginning.
        seconds += some / rate * 60
        running, left = running + some, left - some
    return max(0.0, seconds - min(devices, rate) / rate * 60)


def _loading(plan: Plan, length: int) -> float:
    if plan.byte_budget is None:
        return 0.0
    return max(0, math.ceil(length / plan.byte_budget.bytes) - 1) * plan.byte_budget.seconds

"""The draw: which devices are the control, and which stage each other one belongs to.

A seeded hash gives every device a place between 0 and 1. Cuts, fixed when the rollout starts, divide that
line: first the control, then the stages. The same model, seed and devices give the same arms; another model
has a line of its own, so that no device is the first to be given every new version. The draw is made once and
kept as members; a late joiner of a dynamic rollout falls into an arm as randomly as the others did.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from heapq import nsmallest
from types import MappingProxyType

from msgspec import Struct

from muster_controller.domain.facts import DeviceFacts
from muster_controller.domain.rollouts.members import Member
from muster_controller.domain.rollouts.planning.plan import Plan, Stage
from muster_controller.domain.selector import known_by, parse

WITNESSES = 64  # devices of one arm that comparisons look at: enough, and it bounds what is kept
CONTROL = -1
PINNED = "pinned"  # a device with this label, whatever its value, is drawn into no rollout
_END = "g"  # after every hexadecimal digit
_NOBODY: Mapping[str, int] = MappingProxyType({})


class Cuts(Struct, frozen=True):
    """Where the line is cut: a device belongs to the first arm whose cut is not before its place.

    Attributes:
        control: Cut of the control; empty when there is none.
        stages: Cuts of the stages, in order.
    """

    control: str
    stages: tuple[str, ...]

    def arm(self, place: str) -> int:
        """Return the index of the stage of a place, or ``CONTROL``."""
        if place <= self.control:
            return CONTROL
        return next(index for index, cut in enumerate(self.stages) if place <= cut)


def line_of(plan: Plan) -> str:
    """Return the name of the line on which a plan draws: of its model, and of its seed."""
    return f"{plan.model}\n{plan.seed}"


def place(line: str, device: str) -> str:
    """Return where a device stands on a line of ``line_of``, as hexadecimal digits."""
    return hashlib.sha256(f"{line}\n{device}".encode()).hexdigest()[:16]


def cohort(plan: Plan, devices: Mapping[str, DeviceFacts]) -> list[str]:
    """Return the devices that the plan's selector chooses; those that are pinned keep what they run."""
    return [name for name in chosen(plan, devices) if PINNED not in devices[name].labels]


def chosen(plan: Plan, devices: Mapping[str, DeviceFacts]) -> list[str]:
    """Return the devices that the plan's selector chooses, pinned ones included."""
    selector = parse(plan.selector)
    return [name for name, device in devices.items() if selector.matches(known_by(name, device.labels))]


def draw(plan: Plan, devices: Iterable[str]) -> Cuts:
    """Cut the line for a cohort; there is no control without a previous version or with one device only."""
    line = line_of(plan)
    places = sorted(place(line, device) for device in devices)
    total = len(places)
    controls = 0
    if plan.previous is not None and plan.control > 0 and total > 1:
        controls = min(max(1, round(plan.control * total)), total - 1)
    ends = [min(controls + _size(stage, total), total) for stage in plan.stages[:-1]]
    stages = [places[end - 1] if end else "" for end in ends]
    return Cuts(places[controls - 1] if controls else "", (*stages, _END))


def _size(stage: Stage, total: int) -> int:
    """Return how many devices all stages up to this one have: rounded up, so that none is empty."""
    if stage.count is not None:
        return stage.count
    assert stage.percent is not None
    return max(1, -int(-stage.percent * total // 100))


def arms(plan: Plan, cuts: Cuts, devices: Iterable[str]) -> dict[str, int]:
    """Return the stage of every device, or ``CONTROL``."""
    line = line_of(plan)
    return {device: cuts.arm(place(line, device)) for device in devices}


def joiners(plan: Plan, cuts: Cuts, members: Collection[str], devices: Iterable[str]) -> dict[str, Member]:
    """Return the devices that are not members yet, each in the arm of its place."""
    late = [device for device in devices if device not in members]
    return {device: Member(arm) for device, arm in arms(plan, cuts, late).items()}


def witnesses(plan: Plan, drawn: Mapping[str, int], watched: Mapping[str, int] = _NOBODY) -> dict[str, int]:
    """Return the part of ``drawn`` that comparisons look at, beside those that are ``watched`` already.

    With them there are at most ``WITNESSES`` of each arm. Whoever is watched stays so: what was learned of
    its time before is not thrown away.
    """
    line, room = line_of(plan), Counter(watched.values())
    names: dict[int, list[str]] = {}
    for device, arm in drawn.items():
        names.setdefault(arm, []).append(device)
    return {
        device: arm
        for arm, found in names.items()
        for device in nsmallest(WITNESSES - room[arm], found, key=lambda name: place(line, name))
    }

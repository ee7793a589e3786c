"""The cases of ``scripts/bench rollouts``: what a fleet is like, what is planted, and under which plan."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rollouts.fleet import Plant, Setting
from rollouts.muster import BEFORE

# How unlike the textbook devices and rows are; see ``Setting``.
NOISE: Mapping[str, Setting] = {
    "quiet": Setting(),
    "usual": Setting(
        uneven=0.5, offsets=0.3, correlation=0.5, bursts=0.3, season=0.1, unlike=0.1, silent=0.05
    ),
    "rough": Setting(
        uneven=0.8,
        offsets=0.6,
        correlation=0.9,
        wander=0.05,
        memory=0.5,
        bursts=0.6,
        season=0.3,
        unlike=0.3,
        silent=0.2,
    ),
    "wandering": Setting(uneven=0.5, offsets=0.3, wander=0.15, memory=0.95, bursts=0.3, silent=0.05),
}
NOTHING = Plant()
ROUNDS = 12  # that a stage must be seen, at least
WINDOWS = 60  # from the start of a rollout on
SINCE = BEFORE + 3  # the window from which on everything moves, in the cases in which it does
# Five canaries against 45 of 90 devices, then 20, then all that are not the control.
FEW = {
    "control": 0.5,
    "stages": [{"count": 5}, {"count": 20}, {"percent": 100}],
    "margins": {"value": 0.1, "errors": 0.005},
}
# Shares of a fleet of any size, with a quarter of it as the control; failed calls have their usual margin.
SHARES = {
    "control": 0.25,
    "stages": [{"percent": 5}, {"percent": 25}, {"percent": 100}],
    "margins": {"value": 0.1},
}


@dataclass(frozen=True)
class Case:
    """One kind of rollout.

    Attributes:
        setting: Of the fleet.
        plan: Fields of the plan; every stage also gets ``rounds``.
        rounds: Windows that a stage is seen, at least, under every method.
        windows: That are watched from the start of the rollout on.
        good: The version is within the margins of its plan: to stop it is false.
    """

    name: str
    plant: Plant = NOTHING
    setting: Setting = NOISE["usual"]
    plan: Mapping[str, Any] = field(default_factory=lambda: FEW)
    rounds: int = ROUNDS
    windows: int = WINDOWS
    good: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """Return the fields of the plan as ``parse_plan`` takes them."""
        stages = [
            {**stage, "soak_seconds": 0, "minimum_rounds": self.rounds} for stage in self.plan["stages"]
        ]
        return {**self.plan, "stages": stages}

    @property
    def stage_windows(self) -> int:
        """How long a stage lasts under a method that only counts windows: as long as ours takes, at least.

        Ours leaves out the window of the change, and closes a round one window late.
        """
        return self.rounds + 2


def margins(**changed: float) -> dict[str, Any]:
    """Return ``FEW`` with other margins."""
    return {**FEW, "margins": {**FEW["margins"], **changed}}  # type: ignore[dict-item]


GOOD = (
    Case("no effect", good=True),
    Case("no effect, every stage 25 windows", rounds=25, windows=100, good=True),
    Case("common shift +0.2 sd", Plant(common=0.2, since=SINCE), good=True),
    Case("common shift +0.5 sd", Plant(common=0.5, since=SINCE), good=True),
    Case("common +2 points of failed calls", Plant(common_failing=0.02, since=SINCE), good=True),
    Case("moved by just the margin, 0.1 sd", Plant(shift=0.1), rounds=40, good=True),
)
BAD = (
    Case("+0.1 sd, margin 0.04", Plant(shift=0.1), plan=margins(value=0.04)),
    Case("+0.25 sd, margin 0.1", Plant(shift=0.25)),
    Case("+0.5 sd, margin 0.1", Plant(shift=0.5)),
    Case("+1 point of failed calls, margin 0.5 points", Plant(failing=0.01)),
    Case("+2 points of failed calls, margin 0.5 points", Plant(failing=0.02)),
    Case("+5 points of failed calls, margin 0.5 points", Plant(failing=0.05)),
    Case("does not load anywhere", Plant(crash=1.0)),
    Case("does not load on 3 of 10 devices", Plant(crash=0.3)),
)
CASES = (*GOOD, *BAD)

SIZES = (20, 100, 1000, 10_000)
LEVELS = ("quiet", "usual", "rough")


def sized(case: Case, size: int, noise: str) -> Case:
    """Return a case on a fleet of another size and noise, under the plan of shares."""
    setting = replace(NOISE[noise], devices=size)
    return replace(case, name=f"{case.name} | {size} | {noise}", setting=setting, plan=SHARES)


OF_SIZES = (
    Case("no effect", rounds=6, windows=40, good=True),
    Case("common shift +0.2 sd", Plant(common=0.2, since=SINCE), rounds=6, windows=40, good=True),
    Case("+0.25 sd", Plant(shift=0.25), rounds=6, windows=40),
    Case("does not load anywhere", Plant(crash=1.0), rounds=6, windows=40),
)
MARGINS = (0.05, 0.1, 0.15, 0.2)
ROWS = (100, 300, 1000)


def powered(margin: float, rows: int) -> Case:
    """Return the case that shows what a margin does to the power."""
    setting = replace(NOISE["usual"], rows=rows)
    name = f"+0.25 sd | {margin:g} | {rows}"
    return Case(name, Plant(shift=0.25), setting, margins(value=margin))


# What breaks the assumption that rounds are independent of each other, given the time before.
LIMITS = (
    Case("no effect, devices that wander", setting=NOISE["wandering"], rounds=15, good=True),
    Case("no effect, rough", setting=NOISE["rough"], rounds=15, good=True),
)

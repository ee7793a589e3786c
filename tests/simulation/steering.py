"""The operator of a simulated fleet: rolls versions out, and looks after those rollouts that hold."""

import datetime as dt
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from muster_controller.domain.rollouts.admitting.pace import MaintenanceWindow, Ramp
from muster_controller.domain.rollouts.machine import (
    Abort,
    Event,
    Pause,
    Resume,
    RollBack,
    RolloutPhase,
    State,
    Step,
)
from muster_controller.domain.rollouts.planning.plan import Plan, Stage
from simulation.story import ZONES
from simulation.versions import EXPECTED, MODEL, Kind, Version, first_version, make_version

if TYPE_CHECKING:
    from simulation.run import Simulation

FINAL = frozenset({RolloutPhase.COMPLETED, RolloutPhase.ROLLED_BACK, RolloutPhase.ABORTED})
# In rounds.
REST_ROUNDS = 2.0  # between two rollouts
DRIFT_ROUNDS = 13.0  # in which drift must be found
PATIENCE_ROUNDS = 1.0  # with a rollout that holds
DEADLINE_ROUNDS = 9.0  # of a stage
RETURN_ROUNDS = 2.0  # of a rollback
RESUMES = 2  # before the operator gives up


@dataclass(frozen=True)
class Rolled:
    """How a rollout ended.

    Attributes:
        by: What ended it: ``verdict``, ``order`` or ``completion``.
        blame: Why a good version did not complete, where that is no fault of ours; empty otherwise.
        exposed: Devices that were ever told to run the version; ``first``: those of its first stage, at most.
    """

    version: str
    kind: Kind
    phase: str
    reason: str
    by: str
    blame: str
    exposed: int
    first: int


class Operator:
    """Rolls versions out, one after the other, and looks after those rollouts that hold.

    Attributes:
        ended: How the rollouts ended.
    """

    def __init__(self, simulation: "Simulation", installed: Version | None) -> None:
        self._simulation = simulation
        self.ended: list[Rolled] = []
        self._next: Version | None = None
        self._running: tuple[int, Plan, Version] | None = None
        self._installed = installed
        self._versions = self._choose()
        self._resumes = 0
        self._held_since: float | None = None
        self._paused_until = math.inf
        self._rests_until = simulation.world.now + 2 * simulation.pace.window
        self.story = "nothing was rolled out"

    def _choose(self) -> Iterator[Version]:
        story = self._simulation.story
        if self._installed is None:
            yield first_version()
        for number, kind in enumerate(story.versions, start=1):
            yield make_version(f"1.{number}.0", kind, release=number + 1, own_baseline=story.own_baselines)

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to be rolled out or found."""
        return self._running is None and self._rests_until == math.inf

    def look(self) -> None:
        """Do what an operator does now and then."""
        now = self._simulation.world.now
        if self._running is not None:
            self._look_after(*self._running)
        elif now >= self._rests_until:
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        simulation = self._simulation
        if self._installed is None or not simulation.is_to_drift:
            self._begin()
        elif simulation.is_calibrated(self._installed):
            simulation.let_drift()
            self._rests_until = now + DRIFT_ROUNDS * simulation.pace.window

    def _begin(self) -> None:
        self._next = version = self._next or next(self._versions, None)
        if version is None or (self._installed is None and version.kind is not Kind.FINE):
            # Most harm is so only by comparison, and there is nothing to compare with.
            self._rests_until = math.inf
            return
        simulation, seconds = self._simulation, self._simulation.pace.window
        simulation.catalogue.release(version)
        simulation.controller.release(version)
        stages = tuple(self._stages())
        ramp = simulation.story.ramp if self._installed is not None else 0
        plan = Plan(
            model=MODEL,
            digest=version.digest,
            previous=self._installed.digest if self._installed is not None else None,
            stages=stages[-1:] if self._installed is None else stages,
            before_rounds=4,
            round_seconds=seconds,
            probation_seconds=seconds,
            shadow=simulation.story.order,
            ramp=Ramp(ramp) if ramp else None,
            windows=tuple(self._windows()) if self._installed is not None else (),
            stage_deadline_seconds=DEADLINE_ROUNDS * seconds
            + (60 * len(simulation.devices) / ramp if ramp else 0),
            rollback_deadline_seconds=RETURN_ROUNDS * seconds,
            seed=str(simulation.story.seed),
        )
        number = simulation.controller.start_rollout(plan)
        simulation.world.note(f"rollout {number} of {version.name} ({version.kind}) starts")
        self._running, self._next = (number, plan, version), None
        self._resumes, self._held_since = 0, None

    def _stages(self) -> Iterator[Stage]:
        soak = self._simulation.story.soak * self._simulation.pace.window
        for size in self._simulation.story.stages[:-1]:
            if size == 1:
                yield Stage(count=1, soak_seconds=soak, minimum_rounds=3)
            else:
                yield Stage(percent=size, soak_seconds=soak, minimum_rounds=3)
        yield Stage(percent=100, soak_seconds=soak, minimum_rounds=3)

    def _windows(self) -> Iterator[MaintenanceWindow]:
        """Yield windows that are open at the same time everywhere, whatever the clock on the wall shows."""
        for minutes in self._simulation.story.windows:
            ends = [math.ceil(self._simulation.world.start / 60 + minute) * 60 for minute in minutes]
            for zone in ZONES:
                first, last = (dt.datetime.fromtimestamp(end, ZoneInfo(zone)) for end in ends)
                yield MaintenanceWindow(f"{first:%H:%M}", f"{last:%H:%M}")

    def pause(self, seconds: float) -> None:
        """Pause the rollout that runs, if one does, and resume it some seconds later."""
        if self._running is None:
            return
        number, plan, _ = self._running
        if self._order(number, plan, "pause"):
            self._simulation.world.note(f"an operator pauses rollout {number}")
            self._paused_until = self._simulation.world.now + seconds

    def _order(self, number: int, plan: Plan, order: str) -> bool:
        """Give an order; tell whether it fitted."""
        self._simulation.witness.rollouts.ordered(number, order)
        orders: dict[str, Callable[[float], Event]] = {
            "pause": lambda now: Pause("operator", "lunch", now),
            "resume": lambda now: Resume("operator", "accepted", now),
            "abort": lambda now: Abort("operator", "no way on", "revert", now),
            "rollback": lambda now: RollBack("operator", "it crashes", now),
        }
        return self._simulation.controller.command(number, plan, orders[order])

    def _look_after(self, number: int, plan: Plan, version: Version) -> None:
        simulation, now = self._simulation, self._simulation.world.now
        seen = simulation.witness.rollouts.courses[number]
        if seen.phase == "running" and seen.state["step"] != "hold" and self._held_since is None:
            return
        state = simulation.controller.state(number)
        self.story = f"{version.name}: {state.phase} {state.step} stage {state.stage + 1}, {state.waiting}"
        if state.phase is RolloutPhase.COMPLETED and EXPECTED[version.kind].late:
            self._order(number, plan, "rollback")
        elif state.phase in FINAL:
            self._end(number, version, state)
        elif state.phase is RolloutPhase.PAUSED:
            if now >= self._paused_until:
                self._order(number, plan, "resume")
        elif state.phase is RolloutPhase.RUNNING and state.step is Step.HOLD:
            self._held_since = self._held_since or now
            if now - self._held_since >= PATIENCE_ROUNDS * simulation.pace.window:
                self._held_since = None
                self._decide(number, plan, state)
        else:
            self._held_since = None

    def _decide(self, number: int, plan: Plan, state: State) -> None:
        self._resumes += 1
        self._simulation.world.note(f"rollout {number} holds, waiting for {state.waiting}")
        self._order(number, plan, "resume" if self._resumes <= RESUMES else "abort")

    def _blame(self, version: Version) -> str:
        """Return what may keep even a good version from completing."""
        if version.digest in self._simulation.witness.blamed:
            return "the power went during its trial"
        # A level that was learned in few rounds may be off by most of a margin; then no evidence is enough.
        return "the evidence never sufficed" if self._resumes > RESUMES else ""

    def _end(self, number: int, version: Version, state: State) -> None:
        simulation = self._simulation
        simulation.world.note(f"rollout of {version.name} is {state.phase}: {state.reason}")
        course = simulation.witness.rollouts.courses[number]
        by = "order" if course.orders & {"abort", "rollback"} else "verdict"
        self.ended.append(
            Rolled(
                version=version.name,
                kind=version.kind,
                phase=state.phase,
                reason=state.reason,
                by="completion" if state.phase is RolloutPhase.COMPLETED else by,
                blame=self._blame(version),
                exposed=len(course.ever),
                first=course.first,
            )
        )
        self._running = None
        if state.phase is RolloutPhase.COMPLETED:
            self._installed = version
        self._rests_until = simulation.world.now + REST_ROUNDS * simulation.pace.window

"""The operator of a simulated fleet: rolls versions out, and looks after those rollouts that hold."""

import datetime as dt
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from muster_controller.domain.rollouts.admitting.pace import ByteBudget, MaintenanceWindow, Ramp
from muster_controller.domain.rollouts.admitting.retry import PASSING, Retry
from muster_controller.domain.rollouts.machine import (
    Abort,
    Event,
    Pause,
    Resume,
    RollBack,
    RolloutPhase,
    State,
    Step,
    Withhold,
)
from muster_controller.domain.rollouts.planning.approval import Approval
from muster_controller.domain.rollouts.planning.conditions import CounterMargin, Margins, Minimums
from muster_controller.domain.rollouts.planning.plan import Plan, Stage, parse_plan
from muster_models.errors import Reason
from simulation.rollout_laws import Course
from simulation.story import ZONES
from simulation.versions import (
    ACCURACY_MARGIN,
    EXPECTED,
    LEAST_LABELS,
    MODEL,
    SCRAP_MARGIN,
    Kind,
    Version,
    first_version,
    make_version,
)

if TYPE_CHECKING:
    from simulation.run import Simulation

FINAL = frozenset({RolloutPhase.COMPLETED, RolloutPhase.ROLLED_BACK, RolloutPhase.ABORTED})
# In rounds.
REST_ROUNDS = 2.0  # between two rollouts
LABELLED_ROUNDS = (
    4.0  # more before the first that is judged by labels, so that there are some to compare with
)
DRIFT_ROUNDS = 13.0  # in which drift must be found
PATIENCE_ROUNDS = 1.0  # with a rollout that holds
DEADLINE_ROUNDS = 9.0  # of a stage
RETURN_ROUNDS = 2.0  # of a rollback
RESUMES = 2  # once nothing goes wrong any more, before the operator gives up
REMIND_ROUNDS = 8.0  # after people were asked to agree
APPROVERS = 2
RETRIES = 2
MINUTE = 60.0
# A version may be to blame for these.
FORGIVEN = (Reason.CRASHED, Reason.WRONG_OUTPUT, Reason.LOAD_FAILED)


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
        self._starts_at = math.inf
        rounds = REST_ROUNDS + (LABELLED_ROUNDS if simulation.story.terms.labels else 0.0)
        self._rests_until = simulation.world.now + rounds * simulation.pace.window
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
        return self._running is None and self._rests_until == self._starts_at == math.inf

    def look(self) -> None:
        """Do what an operator does now and then."""
        now = self._simulation.world.now
        if now >= self._starts_at:
            self._start_again()
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
        simulation.desk.release(version)
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
            **(self._terms(version) if self._installed is not None else {}),
            stage_deadline_seconds=DEADLINE_ROUNDS * seconds
            + 2 * simulation.story.terms.labels
            + sum(60 * len(simulation.devices) / each for each in (ramp, self._budget) if each),
            rollback_deadline_seconds=RETURN_ROUNDS * seconds,
            seed=str(simulation.story.seed),
        )
        plan = parse_plan(msgspec.to_builtins(plan))  # as it comes in: what people agree with is its text
        number = simulation.desk.start_rollout(plan)
        self._ask_people(number, plan)
        simulation.world.note(f"rollout {number} of {version.name} ({version.kind}) starts")
        self._running, self._next = (number, plan, version), None
        self._resumes, self._held_since = 0, None

    @property
    def _budget(self) -> int:
        """How many copies a minute the fleet may download; 0 for no limit."""
        return self._simulation.story.terms.budget if self._installed is not None else 0

    def _terms(self, version: Version) -> dict[str, Any]:
        """Return what a plan asks for besides."""
        story, each = self._simulation.story, sum(map(len, version.blobs.values()))
        terms = story.terms
        reasons = (*PASSING, *FORGIVEN) if terms.forgives else PASSING
        return {
            "dynamic": story.is_dynamic,
            "retry": Retry(reasons, tries=RETRIES, backoff_seconds=terms.retry) if terms.retry else None,
            "byte_budget": ByteBudget(each * terms.budget + each // 2, MINUTE) if terms.budget else None,
            "approval": Approval(APPROVERS, expires_seconds=terms.expires) if terms.approvals else None,
            "margins": Margins(
                counters={"scrap": CounterMargin(SCRAP_MARGIN)} if terms.counts else {},
                accuracy=ACCURACY_MARGIN if terms.labels else None,
            ),
            "minimums": Minimums(labels=LEAST_LABELS),
        }

    def _ask_people(self, number: int, plan: Plan) -> None:
        """Let people agree with a rollout, or refuse it, each at their time."""
        simulation = self._simulation
        self._asked_at = simulation.world.now
        if plan.approval is None:
            return
        if edits := simulation.story.terms.edits:
            edit = functools.partial(self._edit, number, plan)
            simulation.world.after(edits, functools.partial(simulation.controller.live, edit))
        for person, seconds in enumerate(simulation.story.terms.approvals):
            agree = functools.partial(simulation.desk.approve, number, plan, f"person {person}")
            simulation.world.after(seconds, functools.partial(simulation.controller.live, agree))
        if simulation.story.terms.withheld:
            refuse = functools.partial(self._withhold, number)
            seconds = simulation.story.terms.withheld
            simulation.world.after(seconds, functools.partial(simulation.controller.live, refuse))

    def _edit(self, number: int, plan: Plan) -> None:
        """Let every stage soak for longer; a rollout that has begun keeps its plan."""
        simulation, more = self._simulation, self._simulation.pace.window
        stages = [replace(stage, soak_seconds=stage.soak_seconds + more) for stage in plan.stages]
        edited = parse_plan(msgspec.to_builtins(replace(plan, stages=tuple(stages))))
        is_taken = simulation.desk.edit(number, edited)
        simulation.world.note(f"an edit of rollout {number} is {'taken' if is_taken else 'refused'}")
        if is_taken and self._running is not None and self._running[0] == number:
            self._running = (number, edited, self._running[2])
            self._asked_at = simulation.world.now

    def _withhold(self, number: int) -> None:
        """Refuse a rollout that has not begun."""
        if self._simulation.desk.command(
            number, lambda now: Withhold("person 0", "approver", "not tonight", now)
        ):
            self._simulation.world.note(f"somebody refuses rollout {number}")
            self._simulation.witness.rollouts.ordered(number, "withhold")

    def _remind(self, number: int, plan: Plan) -> None:
        """Ask people once more who have not agreed in time."""
        if self._simulation.world.now - self._asked_at > REMIND_ROUNDS * self._simulation.pace.window:
            self._asked_at = self._simulation.world.now
            for person in range(APPROVERS):
                self._simulation.desk.approve(number, plan, f"person {person}")

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
        number, *_ = self._running
        if self._order(number, "pause"):
            self._simulation.world.note(f"an operator pauses rollout {number}")
            self._paused_until = self._simulation.world.now + seconds

    def stop(self, seconds: float) -> None:
        """Stop the model, and let it answer again some seconds later."""
        self._simulation.desk.stop_model()
        self._simulation.world.note("an operator stops the model")
        self._starts_at = self._simulation.world.now + seconds

    def _start_again(self) -> None:
        """Lift the order that stopped the model, once its time has come."""
        desk = self._simulation.desk
        if desk.is_stopped():
            self._simulation.world.note("an operator lets the model answer again")
            desk.start_model()
        self._starts_at = math.inf

    def _order(self, number: int, order: str) -> bool:
        """Give an order; tell whether it fitted."""
        self._simulation.witness.rollouts.ordered(number, order)
        orders: dict[str, Callable[[float], Event]] = {
            "pause": lambda now: Pause("operator", "lunch", now),
            "resume": lambda now: Resume("operator", "accepted", now),
            "abort": lambda now: Abort("operator", "no way on", "revert", now),
            "rollback": lambda now: RollBack("operator", "it crashes", now),
        }
        return self._simulation.desk.command(number, orders[order])

    def _look_after(self, number: int, plan: Plan, version: Version) -> None:
        simulation, now = self._simulation, self._simulation.world.now
        seen = simulation.witness.rollouts.courses[number]
        if seen.phase == "running" and seen.state["step"] != "hold" and self._held_since is None:
            return
        state = simulation.desk.state(number)
        self.story = f"{version.name}: {state.phase} {state.step} stage {state.stage + 1}, {state.waiting}"
        if state.phase is RolloutPhase.COMPLETED and EXPECTED[version.kind].late:
            self._order(number, "rollback")
        elif state.phase in FINAL:
            self._end(number, version, state)
        elif state.phase is RolloutPhase.PENDING_APPROVAL:
            self._remind(number, plan)
        elif state.phase is RolloutPhase.PAUSED:
            if now >= self._paused_until:
                self._order(number, "resume")
        elif state.phase is RolloutPhase.RUNNING and state.step is Step.HOLD:
            self._held_since = self._held_since or now
            if now - self._held_since >= PATIENCE_ROUNDS * simulation.pace.window:
                self._held_since = None
                self._decide(number, state)
        else:
            self._held_since = None

    def _decide(self, number: int, state: State) -> None:
        # While things go wrong a hold says little about a version, and a patient person does not give it up.
        self._resumes += self._simulation.is_clear
        self._simulation.world.note(f"rollout {number} holds, waiting for {state.waiting}")
        self._order(number, "resume" if self._resumes <= RESUMES else "abort")

    def _blame(self, version: Version) -> str:
        """Return what may keep even a good version from completing."""
        if self._running is not None and "withhold" in self._course(self._running[0]).orders:
            return "somebody refused"
        if version.digest in self._simulation.witness.blamed:
            return "the power went during its trial"
        # A level that was learned in few rounds may be off by most of a margin; then no evidence is enough.
        return "the evidence never sufficed" if self._resumes > RESUMES else ""

    def _course(self, number: int) -> Course:
        return self._simulation.witness.rollouts.courses[number]

    def _end(self, number: int, version: Version, state: State) -> None:
        simulation = self._simulation
        simulation.world.note(f"rollout of {version.name} is {state.phase}: {state.reason}")
        course = self._course(number)
        by = "order" if course.orders & {"abort", "rollback", "withhold"} else "verdict"
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

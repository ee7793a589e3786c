"""What people and applications ask of a simulated controller, by the functions that serve its API.

An order that the controller dies of is not given; whoever gave it gives it again, as one does over HTTP.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from muster_controller.config import Settings
from muster_controller.domain.facts import Facts
from muster_controller.domain.rollouts import machine as domain
from muster_controller.domain.rollouts.planning.plan import Plan
from muster_controller.domain.rollouts.starting import approved
from muster_controller.service.label_pushing import push_labels
from muster_controller.stepping import Stepping, course_of
from muster_controller.store import assignments, versions
from muster_controller.store.device_facts import device_facts
from muster_controller.store.engine import Reading, Unit
from simulation.controller import Controller
from simulation.versions import MODEL, Version

if TYPE_CHECKING:
    from muster_controller.service.context import Context


@dataclass(frozen=True)
class _Served:
    """What a push of labels asks of a controller's context, and no more."""

    settings: Settings
    clock: Callable[[], float]
    unit: Callable[[], Unit]


class Desk:
    """Takes orders for a controller that runs."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._stepping = Stepping(controller.settings)
        self._context = cast(
            "Context", _Served(controller.settings, controller.clock, controller.unit)
        )  # the rest of a context is files, keys and a repository, which nobody has here

    def release(self, version: Version) -> None:
        """Take a released version."""
        self._controller.hold(version)
        with self._controller.unit() as session:
            versions.add(session, version.verified, self._controller.world.now)

    def start_rollout(self, plan: Plan) -> int:
        """Start a rollout and return its number."""
        now = self._controller.world.now
        with self._controller.unit() as session:
            devices = device_facts(session, plan.model)
            facts = Facts(now, devices, reachable_seconds=self._controller.settings.reachable_seconds)
            decision = domain.decide(plan, domain.State(), domain.Start("operator", "", facts))
            assert decision.refused is None, decision.refused
            begun = self._stepping.begin(session, plan, decision, by="operator", now=now)
            self._controller.wake()
            return begun.id

    def command(self, number: int, order: Callable[[float], domain.Event]) -> bool:
        """Give an order about a rollout; tell whether it fitted."""
        with self._controller.unit() as session:
            course, now = course_of(session, number), self._controller.clock()
            decision = domain.decide(course.plan, course.state, order(now))
            if decision.refused is None:
                self._stepping.take(session, course, decision, now)
                self._controller.wake()
        return decision.refused is None

    def edit(self, number: int, plan: Plan) -> bool:
        """Give a rollout another plan; tell whether that was taken."""
        with self._controller.unit() as session:
            course, now = course_of(session, number), self._controller.clock()
            devices = device_facts(session, plan.model)
            facts = Facts(now, devices, reachable_seconds=self._controller.settings.reachable_seconds)
            edit = domain.Edit("editor", "a longer soak", plan, facts)
            decision = domain.decide(course.plan, course.state, edit)
            if decision.refused is None:
                self._stepping.take(session, course, decision, now)
                self._controller.wake()
        return decision.refused is None

    def approve(self, number: int, seen: Plan, person: str) -> None:
        """Let a person agree with a rollout whose plan they have seen, as it was then."""
        with self._controller.unit() as session:
            course, now = course_of(session, number), self._controller.clock()
            event = domain.Approve(person, "approver", "seen", approved(seen, course.state), now)
            decision = domain.decide(course.plan, course.state, event)
            if decision.refused is None:
                if seen == course.plan:
                    self._controller.witness.rollouts.agreed(number, person, now)
                self._stepping.take(session, course, decision, now)
                self._controller.wake()

    def stop_model(self) -> None:
        """Order that the model answers with its fallback everywhere."""
        with self._controller.unit() as session:
            if MODEL not in assignments.stopped(session):
                assignments.stop(session, MODEL, self._controller.clock())
                self._controller.wake()

    def start_model(self) -> None:
        """Lift that order."""
        with self._controller.unit() as session:
            if MODEL in assignments.stopped(session):
                assignments.start(session, MODEL)
                self._controller.wake()

    def is_stopped(self) -> bool:
        """Tell whether the model is stopped."""
        assert self._controller.engine is not None
        with Reading(self._controller.engine) as session:
            return MODEL in assignments.stopped(session)

    def state(self, number: int) -> domain.State:
        """Return where a rollout is."""
        assert self._controller.engine is not None
        with Reading(self._controller.engine) as session:
            return course_of(session, number).state

    def push(self, body: bytes) -> bool:
        """Take labels, where the controller runs and goes on running; tell whether they were taken."""
        taken: list[int] = []
        self._controller.live(lambda: taken.append(self._take_labels(body)))
        return bool(taken)

    def _take_labels(self, body: bytes) -> int:
        pushed = push_labels(self._context, "an application", body)
        if pushed.refused:
            self._controller.witness.broke("no honest label is refused", f"{pushed.refusals[:3]}")
        self._controller.witness.pushes += 1
        return pushed.taken

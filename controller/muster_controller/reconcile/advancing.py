"""One step of the loop: live rollouts are decided, and everything that follows is stored with each step."""

from sqlalchemy import Engine
from sqlmodel import Session

from muster_controller.config import Settings
from muster_controller.domain.rollouts import machine as domain
from muster_controller.domain.rollouts.machine import Decision, Tick
from muster_controller.stepping import Course, Stepping, course_of
from muster_controller.store import rollouts
from muster_controller.store.baselines import Baselines
from muster_controller.store.device_facts import DeviceBook
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.facts import rollout_facts


class Advancing:
    """Carries rollouts on.

    What it last saw of each is kept: a fleet's members are read again only where somebody else made a step,
    and a device only when something new is known of it.
    """

    def __init__(self, engine: Engine, baselines: Baselines, settings: Settings) -> None:
        self._engine = engine
        self._baselines = baselines
        self._stepping = Stepping(settings)
        self._reachable_seconds = settings.reachable_seconds
        self._known: dict[int, Course] = {}
        self._book = DeviceBook()

    def models(self) -> list[str]:
        """Return the models that have a rollout which time may change, in order."""
        with Reading(self._engine) as session:
            live = rollouts.ticking(session)
        numbers = {number for fences in live.values() for number in fences}
        self._known = {number: course for number, course in self._known.items() if number in numbers}
        self._book.keep(live)
        return sorted(live)

    def advance(self, model: str, now: float) -> None:
        """Decide every rollout of a model that time may change, newest first, each in a step of its own.

        A step is stored only when no operator's command was stored since the rollout was read: then the next
        pass decides anew.
        """
        with Reading(self._engine) as session:
            fences = rollouts.ticking(session).get(model, {})
        for number, fence in fences.items():
            self._step(number, fence, now)

    def _step(self, number: int, fence: int, now: float) -> None:
        with Reading(self._engine) as session:
            course = self._known.get(number)
            if course is None or course.fence != fence:
                course = course_of(session, number)
            decision = self._decide(session, course, now)
        with Unit(self._engine) as session:
            stepped = self._stepping.take(session, course, decision, now)
        if stepped is None:
            self._known.pop(number, None)
        else:
            self._known[number] = stepped

    def _decide(self, session: Session, course: Course, now: float) -> Decision:
        facts = rollout_facts(
            session,
            course.plan,
            course.state,
            number=course.id,
            now=now,
            reachable_seconds=self._reachable_seconds,
            baselines=self._baselines,
            book=self._book,
        )
        return domain.decide(course.plan, course.state, Tick(facts))

"""The one loop in which a device decides: it takes what happened, in turn, and lets time pass in between."""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from muster_agent.update.course import Course
from muster_agent.update.steps import AnyEvent, RollBackOrdered
from muster_models.errors import StorageError
from muster_models.wire import Desired, ModelReport, Reporting, SampleOrder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Happened:
    """Something happened to a model."""

    model: str
    event: AnyEvent


@dataclass(frozen=True)
class Agreed:
    """A desired state was verified."""

    desired: Desired


@dataclass(frozen=True)
class RollBack:
    """Somebody at the device wants the version before; the answer says whether there is one."""

    model: str
    answer: Future[bool]


Item = Happened | Agreed | RollBack | None  # None: look again whether to stop


@dataclass(frozen=True)
class Outlets:
    """Where the loop's decisions go besides the actions.

    Attributes:
        report: Takes the state of every model, for the controller.
        configure: Takes how to report from now on.
        sample: Takes the orders to hand out rows that hold from now on.
        between: Called at each tick.
    """

    report: Callable[[tuple[ModelReport, ...]], None]
    configure: Callable[[Reporting], None]
    sample: Callable[[tuple[SampleOrder, ...]], None]
    between: Callable[[], None]


class Loop:
    """Decides in the thread that calls ``run``; everything else may be called from any thread."""

    def __init__(self, outlets: Outlets, *, tick_seconds: float, chance: random.Random) -> None:
        self._outlets = outlets
        self._chance = chance
        self._tick_seconds = tick_seconds
        self._inbox: queue.SimpleQueue[Item] = queue.SimpleQueue()
        # No event: whoever sets one holds its lock, and a second signal may come while the first is handled.
        self._stopping = False
        self._report_is_due = threading.Event()
        self._unsaved: Desired | None = None

    def post(self, model: str, event: AnyEvent) -> None:
        """Take an event about a model."""
        self._inbox.put(Happened(model, event))

    def agree(self, desired: Desired) -> None:
        """Take a verified desired state."""
        self._inbox.put(Agreed(desired))

    def roll_back(self, model: str, *, seconds: float) -> bool:
        """Go back to the version before, and tell whether there is one.

        Raises:
            TimeoutError: The loop did not answer within ``seconds``.
        """
        order = RollBack(model, Future())
        self._inbox.put(order)
        return order.answer.result(seconds)

    def report_soon(self) -> None:
        """Tell the controller the state of the device after the present event."""
        self._report_is_due.set()

    def stop(self) -> None:
        """End ``run`` after the present event; safe in a signal handler that interrupts itself."""
        self._stopping = True
        self._inbox.put(None)

    def run(self, course: Course) -> None:
        """Decide until ``stop``."""
        self._configure(course)
        course.start()
        next_tick = time.monotonic() + self._tick_seconds
        next_report = 0.0
        while not self._stopping:
            self._take(course, self._next(next_tick - time.monotonic()))
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + self._tick_seconds
                self._tick(course)
            if self._report_is_due.is_set() or now >= next_report:
                self._report_is_due.clear()
                # Spread, so that a fleet that was switched on at once does not report in step.
                next_report = now + course.state.reporting.heartbeat_seconds * self._chance.uniform(0.8, 1.0)
                self._outlets.report(course.reports())

    def _next(self, seconds: float) -> Item:
        try:
            return self._inbox.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None

    def _take(self, course: Course, item: Item) -> None:
        match item:
            case Happened(model, event):
                course.handle(model, event)
            case Agreed(desired):
                self._accept(course, desired)
            case RollBack(model, answer):
                now = time.monotonic()
                answer.set_result(course.handle(model, RollBackOrdered(now=now)))
            case None:
                return

    def _tick(self, course: Course) -> None:
        if self._unsaved is not None:
            self._accept(course, self._unsaved)
        course.tick()
        self._outlets.between()

    def _accept(self, course: Course, desired: Desired) -> None:
        if self._unsaved is not None and desired.sequence < self._unsaved.sequence:
            return  # a newer one waits for the disk
        waited, self._unsaved, before = self._unsaved, None, course.state.sequence
        try:
            course.accept(desired)
        except StorageError as error:
            if waited != desired:
                log.warning("desired state %d has to wait: %s", desired.sequence, error)
            self._unsaved = desired  # the next tick tries again
            return
        if course.state.sequence != before:
            names = (f"{wanted.model}@{wanted.version}" for wanted in desired.models)
            log.info("desired state %d is followed: %s", desired.sequence, ", ".join(names) or "no model")
        self._configure(course)

    def _configure(self, course: Course) -> None:
        self._outlets.configure(course.state.reporting)
        self._outlets.sample(course.state.samples)

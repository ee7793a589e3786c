"""One rollout by Muster's own code: ``decide`` sees the facts of a simulated fleet, one tick per window.

Every device follows what it is assigned when it is next heard of, in the window after the decision. The
sketches of the witnesses are real; of other devices the controller is told calls and failed calls only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from muster_controller.domain.facts import DeviceFacts, Facts, WindowFacts
from muster_controller.domain.rollouts.machine import RolloutPhase, Tick, assignments, decide
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from muster_models.errors import Reason
from muster_models.sketch.window import NO_MOMENTS, Sketch
from muster_models.wire import Phase
from rollouts.drawing import Drawn, started
from rollouts.fleet import NEW, OLD, WINDOW, Fleet, Span, baseline
from rollouts.results import Ending, Result

METHOD = "Muster"
BEFORE = 12  # windows that the fleet is seen before the rollout starts
REACHABLE = 3 * WINDOW
_DIGESTS = "a" * 64, "b" * 64  # OLD and NEW
_BACK = frozenset({RolloutPhase.ROLLED_BACK, RolloutPhase.ROLLBACK_INCOMPLETE})


def make_plan(document: Mapping[str, Any], *, seed: int) -> Plan:
    """Return a plan for the fleet of a seed, with fields of a case."""
    held: dict[str, Any] = {
        "model": "simulated", "digest": _DIGESTS[NEW], "previous": _DIGESTS[OLD], "seed": str(seed),
        "round_seconds": WINDOW, "before_seconds": BEFORE * WINDOW, "before_rounds": 6,
        "stage_deadline_seconds": 1000 * WINDOW, "rollback_deadline_seconds": 24 * WINDOW,
    }  # fmt: skip
    return parse_plan(held | dict(document))


def run(plan: Plan, fleet: Fleet, drawn: Drawn, *, windows: int, case: str, seed: int) -> Result:
    """Return what becomes of a rollout within so many windows of its start."""
    course = Course(plan, fleet, drawn)
    ending: Ending = "held"
    for index in range(BEFORE, BEFORE + windows):
        course.pass_window(index)
        if course.state.phase is RolloutPhase.COMPLETED:
            ending = "promoted"
        elif course.state.phase is not RolloutPhase.RUNNING:
            ending = "stopped"
        if ending != "held":
            break
    exposed, decided = len(course.tried), index - course.admitted_at + 1
    restored = course.watch_return(index + 1) if ending == "stopped" else None
    return Result(METHOD, case, seed, ending, decided, exposed, fleet.setting.devices, restored)


class Course:
    """A rollout, its devices and its time."""

    def __init__(self, plan: Plan, fleet: Fleet, drawn: Drawn) -> None:
        self.plan, self.fleet, self.drawn = plan, fleet, drawn
        self.names = fleet.setting.names()
        self.tried: set[int] = set()
        self.admitted_at = BEFORE
        self.now = BEFORE * WINDOW
        self.devices = {
            name: DeviceFacts(name, seen=self.now, current=plan.previous, target=plan.previous)
            for name in self.names
        }
        self._rows = {int(device): row for row, device in enumerate(fleet.tracked)}
        self._told = 0
        history = [w for index in range(BEFORE) for w in self._windows(index, fleet.window(index))]
        self.state = started(plan, dict(self.devices), self.now)
        self._decide(history)

    def pass_window(self, index: int) -> None:
        """Let one window pass: devices follow, answer, and the rollout decides on what they said."""
        span = self.fleet.window(index)
        if self.state.admitted == 0:
            self.admitted_at = index + 1
        self._follow(span)
        self.now = (index + 1) * WINDOW
        self._decide(list(self._windows(index, span)))

    def watch_return(self, index: int) -> int | None:
        """Return how many windows pass until no device that is heard of is out; None when they do not."""
        for passed in range(1, BEFORE + 1):
            self.pass_window(index + passed - 1)
            if self.state.phase in _BACK:
                return passed
        return None

    def _decide(self, windows: list[WindowFacts]) -> None:
        self._told += len(windows)
        facts = Facts(self.now, dict(self.devices), windows, self._told, reachable_seconds=REACHABLE)
        self.state = decide(self.plan, self.state, Tick(facts)).state

    def _follow(self, span: Span) -> None:
        """Let every device that is heard of do what it is told."""
        wanted = assignments(self.plan, self.state)
        for index in np.flatnonzero(span.heard):
            device = self.devices[self.names[index]]
            order = wanted.get(device.device, device.current)
            self.devices[device.device] = self._obey(int(index), replace(device, seen=self.now + 1), order)

    def _obey(self, index: int, device: DeviceFacts, order: str | None) -> DeviceFacts:
        new = order == self.plan.digest
        if order == device.current or (new and device.phase is Phase.FAILED):
            return device
        if new:
            self.tried.add(index)
        if new and self.fleet.crashes[index]:
            return replace(device, target=order, phase=Phase.FAILED, reason=Reason.LOAD_FAILED)
        return replace(device, current=order, target=order, phase=Phase.COMMITTED, reason=None)

    def _windows(self, index: int, span: Span) -> Iterator[WindowFacts]:
        """Yield what devices say: witnesses everything, others only what the version is counted by."""
        for device in np.flatnonzero(span.heard):
            running = NEW if self.devices[self.names[device]].current == self.plan.digest else OLD
            row = self._rows.get(int(device))
            if row is None and running == OLD:
                continue
            yield WindowFacts(
                self.names[device],
                _DIGESTS[running],
                index * WINDOW,
                (index + 1) * WINDOW,
                int(span.rows[device]),
                int(span.errors[running, device]),
                span.latency[row].tolist() if row is not None else (),
                _sketch(span, running, row) if row is not None else None,
                baseline() if row is not None else None,
            )


def _sketch(span: Span, running: int, row: int) -> Sketch:
    counts = span.values[running, row]
    return Sketch(baseline().digest, int(counts.sum()), (counts,), (NO_MOMENTS,))

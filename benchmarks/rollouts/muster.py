"""One rollout by Muster's own code: ``decide`` sees the facts of a simulated fleet, one tick per window.

Every device follows what it is assigned when it is next heard of, in the window after the decision. The
sketches of the witnesses are real; of other devices the controller is told calls and failed calls only.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from muster_controller.domain.facts import DeviceFacts, Facts, WindowFacts
from muster_controller.domain.fleet import Columns, Fleet
from muster_controller.domain.rollouts.machine import RolloutPhase, Tick, assignments, decide
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from muster_models.errors import Reason
from muster_models.sketch.window import NO_MOMENTS, Sketch
from muster_models.wire import Phase
from rollouts.drawing import Drawn, started
from rollouts.fleet import NEW, OLD, WINDOW, Span, baseline
from rollouts.fleet import Fleet as Simulated
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


def run(plan: Plan, fleet: Simulated, drawn: Drawn, *, windows: int, case: str, seed: int) -> Result:
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


class Said(NamedTuple):
    """What a device says of the version."""

    current: str | None
    target: str | None
    phase: Phase = Phase.IDLE
    reason: Reason | None = None


class Course:
    """A rollout, its devices and its time."""

    def __init__(self, plan: Plan, fleet: Simulated, drawn: Drawn) -> None:
        self.plan, self.fleet, self.drawn = plan, fleet, drawn
        self.names = fleet.setting.names()
        self.tried: set[int] = set()
        self.admitted_at = BEFORE
        self.now = BEFORE * WINDOW
        self._said = dict.fromkeys(self.names, Said(plan.previous, plan.previous))
        # In columns, as the controller has them: facts of a device are made where somebody looks at it.
        self._devices = Fleet(lambda told: DeviceFacts(told[0], seen=told[1], **told[2]._asdict()))
        self._hear(list(self.names))
        self._rows = {int(device): row for row, device in enumerate(fleet.tracked)}
        self._told = 0
        history = [w for index in range(BEFORE) for w in self._windows(index, fleet.window(index))]
        self.state = started(plan, self._devices, self.now)
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
        facts = Facts(self.now, self._devices, windows, self._told, reachable_seconds=REACHABLE)
        self.state = decide(self.plan, self.state, Tick(facts)).state

    def _follow(self, span: Span) -> None:
        """Let every device that is heard of do what it is told."""
        wanted = assignments(self.plan, self.state)
        heard = [(index, self.names[index]) for index in np.flatnonzero(span.heard).tolist()]
        for index, name in heard:
            said = self._said[name]
            order = wanted.get(name, said.current)
            if order != said.current:
                self._said[name] = self._obey(index, said, order)
        self._hear([name for _, name in heard], later=1.0)

    def _obey(self, index: int, said: Said, order: str | None) -> Said:
        new = order == self.plan.digest
        if new and said.phase is Phase.FAILED:
            return said
        if new:
            self.tried.add(index)
        if new and self.fleet.crashes[index]:
            return Said(said.current, order, Phase.FAILED, Reason.LOAD_FAILED)
        return Said(order, order, Phase.COMMITTED)

    def _hear(self, names: list[str], later: float = 0.0) -> None:
        seen = self.now + later
        said = [self._said[name] for name in names]
        columns = Columns(
            devices=names,
            seen=[seen] * len(names),
            current=[one.current for one in said],
            target=[one.target for one in said],
            zone=["UTC"] * len(names),
            phase=[one.phase for one in said],
            reason=[one.reason for one in said],
        )
        self._devices.take(columns, [(name, seen, one) for name, one in zip(names, said, strict=True)])

    def _windows(self, index: int, span: Span) -> Iterator[WindowFacts]:
        """Yield what devices say: witnesses everything, others only what the version is counted by."""
        for device in np.flatnonzero(span.heard).tolist():
            running = NEW if self._said[self.names[device]].current == self.plan.digest else OLD
            row = self._rows.get(device)
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

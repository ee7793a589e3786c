"""A small world that a rollout acts upon: devices that follow assignments, answer, fail and fall silent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from muster_controller.domain.facts import DeviceFacts, Facts, WindowFacts
from muster_controller.domain.rollouts.machine import Decision, Event, Start, State, Tick, assignments, decide
from muster_controller.domain.rollouts.planning.plan import Plan, parse_plan
from muster_models.errors import Reason
from muster_models.wire import Phase
from support.windows import DEVICES, Digits, window

OLD, NEW = "a" * 64, "b" * 64
Answer = Callable[[str, str, float, np.random.Generator], WindowFacts | None]


def make_plan(**changes: Any) -> Plan:
    """Return a plan of the size of the demo, with some fields replaced."""
    document = {
        "model": "digits",
        "digest": NEW,
        "previous": OLD,
        "stages": [
            {"percent": 25, "soak_seconds": 10, "minimum_rounds": 6},
            {"percent": 100, "soak_seconds": 10, "minimum_rounds": 6},
        ],
        "control": 0.25,
        "round_seconds": 1.0,
        "before_rounds": 6,
        "stage_deadline_seconds": 300.0,
        "rollback_deadline_seconds": 60.0,
    }
    return parse_plan({**document, **changes})


def answer_with(
    versions: Mapping[str, Digits], *, spread: float = 0.03, rows: tuple[int, int] = (60, 200)
) -> Answer:
    """Return how devices answer: real images, each device's instrument with a gain of its own."""
    gains: dict[str, float] = {}
    sizes: dict[str, int] = {}

    def answer(device: str, manifest: str, start: float, chance: np.random.Generator) -> WindowFacts | None:
        gain = gains.setdefault(device, round(1 + spread * chance.standard_normal(), 2))
        count = sizes.setdefault(device, int(chance.integers(*rows)))
        version = versions[manifest]
        # Calls on a busy machine are now and then slow, on every device alike.
        slow = float(np.exp(chance.normal(-1, 0.5)))
        return window(
            device,
            start,
            manifest=manifest,
            sketch=version.sketch(gain, count, chance),
            baseline=version.baseline,
            milliseconds=slow,
        )

    return answer


@dataclass
class World:
    """Devices, time and one rollout.

    Attributes:
        offline: Devices that neither hear nor say anything.
        faults: Why the new version fails on a device, by device.
        installing: Ticks that an installation takes.
        known: What facts say besides devices and windows, such as ``download_bytes``.
        log: Every state that a decision led to.
    """

    plan: Plan
    answer: Answer
    seed: int = 0
    names: tuple[str, ...] = DEVICES
    offline: set[str] = field(default_factory=set)
    faults: dict[str, Reason] = field(default_factory=dict)
    installing: int = 2
    known: dict[str, Any] = field(default_factory=dict)
    now: float = 1000.0
    state: State = field(default_factory=State)
    log: list[State] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    windows: list[WindowFacts] = field(default_factory=list)
    taken: int = 0

    def __post_init__(self) -> None:
        self.chance = np.random.default_rng(self.seed)
        self.devices = {
            name: DeviceFacts(
                name, {"site": name.rpartition("-")[0]}, seen=self.now, current=self.plan.previous
            )
            for name in self.names
        }
        self._since: dict[str, int] = {}

    def run_before(self, seconds: int) -> None:
        """Let the fleet live with the old version for a while."""
        for _ in range(seconds):
            self._live()

    def start(self) -> None:
        """Start the rollout."""
        self.order(Start("anna", "", self.facts(())))

    def tick(self, times: int = 1) -> None:
        """Let time pass, a second at a time, and the rollout decide each time."""
        for _ in range(times):
            self._live()
            fresh = self.windows[self.taken :] if self.state.started_at else []
            fresh = [w for w in fresh if w.end >= self.state.history_since]
            self.taken = len(self.windows)
            self.order(Tick(self.facts(fresh)))

    def order(self, event: Event) -> Decision:
        """Let the rollout decide on an event."""
        decision = decide(self.plan, self.state, event)
        self.state = decision.state
        self.plan = decision.plan or self.plan
        self.log.append(decision.state)
        self.decisions.append(decision)
        return decision

    def running(self, digest: str) -> set[str]:
        """Return the devices that run a version."""
        return {name for name, device in self.devices.items() if device.current == digest}

    def facts(self, windows: tuple[WindowFacts, ...] | list[WindowFacts] = ()) -> Facts:
        """Return what a decision would see now."""
        return Facts(
            self.now,
            dict(self.devices),
            tuple(windows),
            len(self.windows),
            reachable_seconds=5.0,
            **self.known,
        )

    def _live(self) -> None:
        """Pass one second: devices follow their assignments, then answer."""
        wanted = assignments(self.plan, self.state)
        for name in self.names:
            if name not in self.offline:
                self._follow(name, wanted.get(name, self.devices[name].current))
                self.devices[name] = replace(self.devices[name], seen=self.now + 1)
                self._report(name)
        self.now += 1

    def _follow(self, name: str, wanted: str | None) -> None:
        device = self.devices[name]
        if wanted == device.current and device.phase is Phase.FAILED:
            # Like the real one, it forgets what failed when something else is wanted.
            self.devices[name] = replace(device, target=wanted, phase=Phase.IDLE, reason=None)
            return
        if wanted == device.current:
            done = Phase.COMMITTED if device.target == wanted else device.phase
            self.devices[name] = replace(device, phase=done) if device.phase is Phase.PROBATION else device
            return
        if wanted is not None and device.target == wanted and device.phase is Phase.FAILED:
            return
        if device.target != wanted or device.phase is not Phase.DOWNLOADING:
            self.devices[name] = replace(device, target=wanted, phase=Phase.DOWNLOADING, reason=None)
            self._since[name] = 0
            return
        self._since[name] += 1
        if self._since[name] < self.installing:
            return
        if wanted == self.plan.digest and name in self.faults:
            self.devices[name] = replace(device, phase=Phase.FAILED, reason=self.faults[name])
        else:
            self.devices[name] = replace(device, current=wanted, phase=Phase.PROBATION)

    def _report(self, name: str) -> None:
        current = self.devices[name].current
        if current is not None:
            said = self.answer(name, current, self.now, self.chance)
            if said is not None:
                self.windows.append(said)

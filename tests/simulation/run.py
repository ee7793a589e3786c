"""One seed: a fleet is installed and updated, and may drift, while everything goes wrong; then it settles.

The story of every seed: version 1.0.0 is rolled out to all. In some seeds a site drifts once all devices are
calibrated. In most the next version comes, good or bad, and after a bad one a good one. Then the faults stop,
and everything must come to rest.
"""

import datetime as dt
import math
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from tuf.api.metadata import Metadata, Targets

from muster_controller.domain.rollouts.machine import Abort, Resume, RolloutPhase, State, Step
from muster_controller.domain.rollouts.plan import Plan, Stage
from muster_models.trust import publisher
from muster_models.wire import Shadow
from simulation.bus import Bus, Traffic
from simulation.controller import SETTINGS, Controller, director
from simulation.device import Device, Surroundings
from simulation.invariants import Witness
from simulation.outside import Catalogue, Epochs
from simulation.versions import MODEL, Kind, Version, make_version
from simulation.world import START, WINDOW_SECONDS, Weather, World, draw_weather

SITES = ("berlin", "lyon", "oslo", "porto")
FLEET = {f"{site}-{number}": site for site in SITES for number in (1, 2)}
FINAL = frozenset({RolloutPhase.COMPLETED, RolloutPhase.ROLLED_BACK, RolloutPhase.ABORTED})
FAULTY_SECONDS = 400.0  # at most; then the faults stop
SETTLING_SECONDS = 1500.0  # at most; what has not come to rest by then never does
CALIBRATION_WINDOWS = SETTINGS.drift.calibration_windows
DRIFT_SECONDS = 130.0  # in which drift must be found
REST_SECONDS = 40.0  # between two rollouts: long enough to know the time before the second
LOOK_SECONDS = 10.0
STAGES = (
    Stage(percent=25, soak_seconds=20, minimum_rounds=3),
    Stage(percent=100, soak_seconds=20, minimum_rounds=3),
)
PATIENCE_SECONDS = 20.0  # of the operator with a rollout that holds
RESUMES = 3  # before the operator gives up


@dataclass(frozen=True)
class Script:
    """What is to happen in a seed.

    Attributes:
        candidate: What the second version is like; None when there is none.
        drifting: The site at which the world changes, before the second version comes.
        shares_baseline: The good versions are judged by one baseline.
        outbox_bytes: Small ones merge windows.
        shadow: How long every version answers in shadow first; None for not.
    """

    candidate: Kind | None
    drifting: str | None
    shares_baseline: bool
    outbox_bytes: int
    shadow: Shadow | None = None


@dataclass(frozen=True)
class Alarmed:
    """An alarm that fired."""

    level: str
    subject: str
    feature: str

    def is_about(self, site: str | None) -> bool:
        """Tell whether it names a site, or a device there."""
        return site is not None and (self.subject == f"site={site}" or FLEET.get(self.subject) == site)


@dataclass(frozen=True)
class Rolled:
    """How a rollout ended.

    Attributes:
        blame: Why a good version did not complete, where that is no fault of ours; empty otherwise.
    """

    version: str
    kind: Kind
    phase: str
    reason: str
    blame: str = ""


@dataclass
class Outcome:
    """What happened in a seed."""

    seed: int
    script: Script
    weather: Weather
    digest: str = ""
    steps: int = 0
    seconds: float = 0.0
    traffic: Traffic = field(default_factory=Traffic)
    cuts: int = 0
    kills: int = 0
    absences: int = 0
    refusals: int = 0
    drifted: bool = False
    crashes: int = 0
    windows: int = 0
    committed: int = 0
    rolled_back: int = 0
    rollouts: list[Rolled] = field(default_factory=list)
    alarms: list[Alarmed] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def false_alarms(self) -> int:
        """Alarms about what did not drift."""
        return sum(not alarm.is_about(self.script.drifting) for alarm in self.alarms)

    @property
    def found_drift(self) -> bool:
        """Whether the site that drifted was named."""
        return any(alarm.is_about(self.script.drifting) for alarm in self.alarms)

    @property
    def rounds(self) -> int:
        """How many rounds of windows the fleet lived."""
        return int(self.seconds // WINDOW_SECONDS)


def draw_script(chance: Random) -> Script:
    """Return the script of a seed."""
    kinds = (Kind.GOOD, Kind.GOOD, Kind.REFUSED, Kind.CRASHES, Kind.UNSURE, Kind.ERRS)
    updates, drifts = chance.choice(
        ((True, False), (True, False), (True, False), (False, True), (True, True))
    )
    return Script(
        candidate=chance.choice(kinds) if updates else None,
        drifting=chance.choice(SITES) if drifts else None,
        shares_baseline=chance.random() < 0.5,
        outbox_bytes=chance.choice((6_000, 10**6, 10**6)),
    )


def draw_shadow(chance: Random) -> Shadow | None:
    """Return how long versions answer in shadow first, in a third of the seeds; from a stream of its own."""
    return Shadow(seconds=chance.uniform(5, 30)) if chance.random() < 1 / 3 else None


def simulate(seed: int, *, keeps_log: bool = False) -> Outcome:
    """Return what happens in a seed; the same every time."""
    with _folder() as folder:
        simulation = Simulation(seed, folder, keeps_log=keeps_log)
        try:
            return simulation.run()
        finally:
            simulation.close()


class Simulation:
    """A world with a fleet, a controller and an operator."""

    def __init__(self, seed: int, folder: Path, *, keeps_log: bool) -> None:
        chance = Random(f"{seed}/script")
        script, weather = draw_script(chance), draw_weather(chance)
        self.script = replace(script, shadow=draw_shadow(Random(f"{seed}/shadow")))
        self.world = World(seed, weather, keeps_log=keeps_log)
        self.outcome = Outcome(seed, self.script, weather)
        self.catalogue = Catalogue(_targets())
        self.witness = Witness(self.catalogue)
        self.bus = Bus(self.world)
        self.controller = Controller(self.world, self.bus, self.witness, folder=folder)
        self.controller.enrol(FLEET)
        self.drift_since: float | None = None
        shared = Surroundings(
            world=self.world,
            bus=self.bus,
            catalogue=self.catalogue,
            witness=self.witness,
            folder=folder,
            epochs=Epochs(),
            drifts=lambda site: site == self.script.drifting and self.drift_since is not None,
            is_asked=lambda: not self.operator.is_done,  # when all is done, the outboxes may run dry
            outbox_bytes=self.script.outbox_bytes,
        )
        self.devices = [Device(name, site, shared) for name, site in FLEET.items()]
        self.operator = Operator(self)
        self.world.every(LOOK_SECONDS, self._look)

    def run(self) -> Outcome:
        """Let the seed happen."""
        faulty = START + FAULTY_SECONDS
        self.world.run(faulty, lambda: self._is_broken() or self.operator.is_done)
        self._clear_up()
        until = self.world.now + SETTLING_SECONDS
        self.world.run(until, lambda: self._is_broken() or self._has_settled())
        self._judge()
        return self._tell()

    @property
    def is_to_drift(self) -> bool:
        """Whether the world is still to change somewhere."""
        return self.script.drifting is not None and self.drift_since is None

    def is_calibrated(self, version: Version) -> bool:
        """Tell whether the site that is to drift has been seen for long enough on a version."""
        seen = self.witness.windows_of(version.digest)
        members = [name for name, site in FLEET.items() if site == self.script.drifting]
        return all(seen[name] >= CALIBRATION_WINDOWS + 2 for name in members)

    def let_drift(self) -> None:
        """Let the world change where it is to change."""
        self.drift_since = self.world.now
        self.world.note(f"{self.script.drifting} drifts")

    def close(self) -> None:
        """Let go of every file."""
        for device in self.devices:
            if device.agent is not None:
                device.agent.end()
        self.controller.end()
        self.witness.close()

    def _look(self) -> None:
        # The controller may die of an order as of anything else; then the operator gives it again.
        self.controller.live(self.operator.look)

    def _is_broken(self) -> bool:
        return bool(self.witness.broken)

    def _clear_up(self) -> None:
        self.world.clear_up()
        self.controller.relieve()
        for device in self.devices:
            device.relieve()
            device.come_back()

    def _has_settled(self) -> bool:
        if not (self.operator.is_done and self.controller.is_up and self.controller.is_idle):
            return False
        return all(device.is_settled for device in self.devices) and self.witness.are_told(self.devices)

    def _judge(self) -> None:
        if self._is_broken():
            return
        if not self._has_settled():
            waits = [device.name for device in self.devices if not device.is_settled]
            self.witness.broke("everything comes to rest", f"{self.operator.story}; devices {waits}")
            return
        self.witness.settle(self.devices)
        for rolled in self.operator.ended:
            wrong = _verdict(rolled)
            if wrong:
                self.witness.broke("rollouts end as they should", wrong)

    def _tell(self) -> Outcome:
        told, fortunes = self.outcome, [device.fortunes for device in self.devices]
        told.digest, told.steps, told.log = self.world.digest, self.world.steps, self.world.log
        told.seconds = self.world.now - START
        told.traffic = self.bus.traffic
        told.cuts = sum(one.cuts for one in fortunes)
        told.kills = sum(one.kills for one in fortunes)
        told.absences = sum(one.absences for one in fortunes)
        told.refusals = sum(one.refusals for one in fortunes)
        told.drifted = self.drift_since is not None
        told.crashes = self.controller.crashes
        told.windows = self.witness.mail.windows.total()
        told.committed = self.witness.outcomes["committed"]
        told.rolled_back = self.witness.outcomes["rolled-back"]
        told.rollouts = self.operator.ended
        told.alarms = _alarms(self.controller.database)
        told.broken = self.witness.broken
        return told


class Operator:
    """Rolls versions out, one after the other, and looks after those rollouts that hold.

    Attributes:
        ended: How the rollouts ended.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.ended: list[Rolled] = []
        self._versions = self._choose(simulation.script)
        self._next: Version | None = None
        self._running: tuple[int, Plan, Version] | None = None
        self._installed: Version | None = None
        self._resumes = 0
        self._held_since: float | None = None
        self._rests_until = START + 20.0
        self.story = "nothing was rolled out"

    @staticmethod
    def _choose(script: Script) -> Iterator[Version]:
        own = not script.shares_baseline
        yield make_version("1.0.0", Kind.GOOD, release=1, own_baseline=own)
        if script.candidate is None:
            return
        yield make_version("1.1.0", script.candidate, release=2, own_baseline=own)
        if script.candidate is not Kind.GOOD:
            yield make_version("1.2.0", Kind.GOOD, release=3, own_baseline=own)

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
            self._rests_until = now + DRIFT_SECONDS

    def _begin(self) -> None:
        self._next = version = self._next or next(self._versions, None)
        if self._installed is None and version is not None and version.kind is Kind.UNSURE:
            # Lower confidence is harm only by comparison, and there is nothing to compare with.
            self._next = version = next(self._versions, None)
        if version is None:
            self._rests_until = math.inf
            return
        simulation = self._simulation
        simulation.catalogue.release(version)
        simulation.controller.release(version)
        plan = Plan(
            model=MODEL,
            digest=version.digest,
            previous=self._installed.digest if self._installed is not None else None,
            stages=STAGES[-1:] if self._installed is None else STAGES,
            before_rounds=6,
            round_seconds=WINDOW_SECONDS,
            probation_seconds=15.0,
            shadow=simulation.outcome.script.shadow,
            stage_deadline_seconds=120.0,
            rollback_deadline_seconds=60.0,
            seed=str(simulation.outcome.seed),
        )
        number = simulation.controller.start_rollout(plan)
        simulation.world.note(f"rollout {number} of {version.name} ({version.kind}) starts")
        self._running, self._next = (number, plan, version), None
        self._resumes, self._held_since = 0, None

    def _look_after(self, number: int, plan: Plan, version: Version) -> None:
        simulation, now = self._simulation, self._simulation.world.now
        state = simulation.controller.state(number)
        self.story = f"{version.name}: {state.phase} {state.step} stage {state.stage + 1}, {state.waiting}"
        if state.phase in FINAL:
            self._end(version, state)
        elif state.phase is RolloutPhase.RUNNING and state.step is Step.HOLD:
            self._held_since = self._held_since or now
            if now - self._held_since >= PATIENCE_SECONDS:
                self._held_since = None
                self._decide(number, plan, state)
        else:
            self._held_since = None

    def _decide(self, number: int, plan: Plan, state: State) -> None:
        controller, world = self._simulation.controller, self._simulation.world
        self._resumes += 1
        world.note(f"rollout {number} holds, waiting for {state.waiting}")
        if self._resumes <= RESUMES:
            controller.command(number, plan, lambda now: Resume("operator", "accepted", now))
        else:
            controller.command(number, plan, lambda now: Abort("operator", "no way on", "revert", now))

    def _blame(self, version: Version) -> str:
        """Return what may keep even a good version from completing."""
        if version.digest in self._simulation.witness.blamed:
            return "the power went during its trial"
        # A level that was learned in few rounds may be off by most of a margin; then no evidence is enough.
        return "the evidence never sufficed" if self._resumes > RESUMES else ""

    def _end(self, version: Version, state: State) -> None:
        simulation = self._simulation
        simulation.world.note(f"rollout of {version.name} is {state.phase}: {state.reason}")
        self.ended.append(Rolled(version.name, version.kind, state.phase, state.reason, self._blame(version)))
        self._running = None
        if state.phase is RolloutPhase.COMPLETED:
            self._installed = version
        self._rests_until = simulation.world.now + REST_SECONDS


def _verdict(rolled: Rolled) -> str:
    """Return what is wrong with the end of a rollout; empty when nothing is."""
    if rolled.kind is not Kind.GOOD:
        return f"{rolled.version} ({rolled.kind}) completed" if rolled.phase == "completed" else ""
    if rolled.phase == "completed" or rolled.blame:
        return ""
    return f"{rolled.version} (good) is {rolled.phase}: {rolled.reason}"


def _alarms(database: Path) -> list[Alarmed]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT level, subject, feature FROM alarm "
            "WHERE fired_at IS NOT NULL AND kind NOT IN ('silence', 'job') ORDER BY id"
        )
        return [Alarmed(*row) for row in rows]


def _targets() -> Targets:
    """Return the document that says whose desired states devices obey."""
    now = dt.datetime.fromtimestamp(START, dt.UTC)
    key = director().public_key
    document = Metadata[Targets].from_bytes(publisher.make_targets(director(), director=key, now=now))
    return document.signed


@contextmanager
def _folder() -> Iterator[Path]:
    """Return a folder in memory where there is one: databases sync often, and nothing here is to last."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="muster-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)

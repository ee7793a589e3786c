"""One seed: a fleet is installed and updated, and may drift, while everything goes wrong; then it settles.

Every story begins alike: version 1.0.0 is rolled out to all. In some a site drifts once all devices are
calibrated. In most another version comes, and in some one more. Then the faults stop, and everything must
come to rest.
"""

import datetime as dt
import functools
import gc
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tuf.api.metadata import Metadata, Targets

from muster_models.trust import publisher
from simulation import naming
from simulation.bus import Bus, Traffic
from simulation.controller import CALIBRATION_WINDOWS, Controller, content_of, director
from simulation.desk import Desk
from simulation.device import Device, Surroundings
from simulation.invariants import Witness
from simulation.labelling import Labelling
from simulation.outside import Catalogue, Epochs
from simulation.steering import Operator, Rolled
from simulation.story import CONTROLLER, FAULTY_ROUNDS, Fault, Member, Pace, Story, Trouble, draw
from simulation.versions import EXPECTED, Version, first_version
from simulation.world import START, World
from support.disk import SimulatedDisk

SETTLING_ROUNDS = 150.0  # at most; what has not come to rest by then never does
LOOK_ROUNDS = 1.0  # between two looks of the operator


@dataclass(frozen=True)
class Alarmed:
    """An alarm that fired."""

    level: str
    subject: str
    feature: str

    def is_about(self, story: Story) -> bool:
        """Tell whether it names the site that drifts, or a device there."""
        site = story.drifting
        return bool(site) and (self.subject == f"site={site}" or story.sites.get(self.subject) == site)


@dataclass
class Outcome:
    """What happened in a seed."""

    story: Story
    digest: str = ""
    steps: int = 0
    seconds: float = 0.0
    traffic: Traffic = field(default_factory=Traffic)
    cuts: int = 0
    kills: int = 0
    absences: int = 0
    refusals: int = 0
    drifted: bool = False
    owed: bool = False  # enough was judged of the drift that it must be named
    crashes: int = 0
    windows: int = 0
    committed: int = 0
    rolled_back: int = 0
    rollouts: list[Rolled] = field(default_factory=list)
    alarms: list[Alarmed] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def seed(self) -> int:
        """Names the story."""
        return self.story.seed

    @property
    def laws(self) -> set[str]:
        """The laws that were broken, without the particulars."""
        return {broken.partition(":")[0] for broken in self.broken}

    @property
    def false_alarms(self) -> int:
        """Alarms about what did not drift."""
        return sum(not alarm.is_about(self.story) for alarm in self.alarms)

    @property
    def found_drift(self) -> bool:
        """Whether the site that drifted was named."""
        return any(alarm.is_about(self.story) for alarm in self.alarms)

    @property
    def rounds(self) -> int:
        """How many rounds of windows the fleet lived."""
        return int(self.seconds // self.story.pace.window)


def simulate(seed: int, *, keeps_log: bool = False) -> Outcome:
    """Return what happens in a seed; the same every time."""
    return live(draw(seed), keeps_log=keeps_log)


def live(story: Story, *, keeps_log: bool = False) -> Outcome:
    """Return what happens in a story; the same every time."""
    with _folder() as folder, _rare_collections():
        simulation = Simulation(story, folder, keeps_log=keeps_log)
        try:
            return simulation.run()
        finally:
            simulation.close()


@dataclass(frozen=True)
class Past:
    """A fleet that has its first version, as it was left.

    Attributes:
        ended: Unix seconds.
        outboxes: Content of the files of the outboxes, by name.
        epochs: The last number of an outbox.
        broken: Invariants that did not hold even then.
    """

    ended: float
    database: bytes
    disks: dict[str, SimulatedDisk]
    outboxes: dict[str, bytes]
    witness: Witness
    epochs: int
    broken: tuple[str, ...]


@functools.lru_cache(maxsize=64)
def _past(fleet: tuple[Member, ...], pace: Pace) -> Past:
    """Return a fleet that was given its first version while nothing went wrong."""
    with _folder("past") as folder:
        simulation = Simulation(Story(0, fleet, pace=pace), folder, keeps_log=False)
        outcome = simulation.run()
        simulation.close()
        return Past(
            ended=simulation.world.now,
            database=content_of(simulation.controller.database),
            disks={device.name: device.disk for device in simulation.devices},
            outboxes={path.name: content_of(path) for path in folder.glob("*-*.sqlite")},
            witness=simulation.witness,
            epochs=simulation.epochs.last,
            broken=tuple(outcome.broken),
        )


def forget_pasts() -> None:
    """Forget how fleets came to their first version: the code that they lived by has changed."""
    _past.cache_clear()


class Simulation:
    """A world with a fleet, a controller and an operator."""

    def __init__(self, story: Story, folder: Path, *, keeps_log: bool) -> None:
        past = _past(story.first, story.pace) if story.installed else None
        start = START if past is None else (past.ended // story.pace.window + 1) * story.pace.window
        self.story = story
        self.pace = story.pace
        self.world = World(story.seed, story.weather, story.pace, start=start, keeps_log=keeps_log)
        self.outcome = Outcome(story)
        self.catalogue = Catalogue(_targets())
        self.witness = Witness(self.catalogue, story)
        self.bus = Bus(self.world)
        self.controller = Controller(
            self.world,
            self.bus,
            self.witness,
            folder=folder,
            recomputes=story.recomputes,
            found=past.database if past is not None else None,
        )
        self.desk = Desk(self.controller)
        self.labelling = Labelling(self.world, story, self.desk.push)
        self.witness.rollouts.truth = self.labelling.truth
        self.epochs = Epochs(past.epochs if past is not None else 0)
        if past is None:
            self.controller.enrol(story.sites)
        else:
            self._take_up(past, folder)
        self.drift_since: float | None = None
        shared = Surroundings(
            story=story,
            world=self.world,
            bus=self.bus,
            catalogue=self.catalogue,
            witness=self.witness,
            folder=folder,
            epochs=self.epochs,
            drifts=lambda site: site == story.drifting and self.drift_since is not None,
            is_asked=lambda: not self.operator.is_done,  # when all is done, the outboxes may run dry
            labelling=self.labelling,
        )
        self.devices = [
            Device(member, shared, past.disks[member.name].clone() if past is not None else None)
            for member in story.first
        ]
        self._shared = shared
        for member in story.fleet:
            if member.joins:
                self.world.after(member.joins, functools.partial(self._join, member))
        self.operator = Operator(self, first_version() if past is not None else None)
        for fault in story.faults:
            self.world.after(fault.at, functools.partial(self._suffer, fault))
        self.world.every(LOOK_ROUNDS * story.pace.window, self._look)

    def _take_up(self, past: Past, folder: Path) -> None:
        self.witness.remember(past.witness)
        self.witness.broken.extend(past.broken)
        self.catalogue.release(first_version())
        self.controller.hold(first_version())
        for name, content in past.outboxes.items():
            (folder / name).write_bytes(content)

    def run(self) -> Outcome:
        """Let the story happen."""
        faulty = self.world.start + FAULTY_ROUNDS * self.pace.window
        self.world.run(faulty, lambda: self._is_broken() or self.operator.is_done)
        self._clear_up()
        until = self.world.now + SETTLING_ROUNDS * self.pace.window
        self.world.run(until, lambda: self._is_broken() or self._has_settled())
        self._judge()
        return self._tell()

    @property
    def is_to_drift(self) -> bool:
        """Whether the world is still to change somewhere."""
        return bool(self.story.drifting) and self.drift_since is None

    def is_calibrated(self, version: Version) -> bool:
        """Tell whether the site that is to drift has been seen for long enough on a version."""
        seen = self.witness.windows_of(version.digest)
        members = [name for name, site in self.story.sites.items() if site == self.story.drifting]
        return all(seen[name] >= CALIBRATION_WINDOWS + 2 for name in members)

    def let_drift(self) -> None:
        """Let the world change where it is to change."""
        self.drift_since = self.world.now
        self.world.note(f"{self.story.drifting} drifts")

    def close(self) -> None:
        """Let go of every file."""
        for device in self.devices:
            if device.agent is not None:
                device.agent.end()
        self.controller.close()
        self.witness.close()

    def _suffer(self, fault: Fault) -> None:
        """Let one thing go wrong, unless the faults are over."""
        if self.is_clear:
            return
        if fault.kind is Trouble.FORGET:
            self._forget()
        elif fault.kind is Trouble.PAUSE:
            self.controller.live(lambda: self.operator.pause(fault.size))
        elif fault.kind is Trouble.STOP:
            self.controller.live(lambda: self.operator.stop(fault.size))
        elif fault.who == CONTROLLER:
            self.controller.suffer(fault)
        for device in self.devices:
            if fault.who in {device.name, device.site}:
                device.suffer(fault)

    def _join(self, member: Member) -> None:
        """Enrol a device that was not there from the start, once the controller can be asked."""
        if not self.controller.is_up:
            self.world.after(LOOK_ROUNDS * self.pace.window, functools.partial(self._join, member))
            return
        self.controller.join(member.name, member.site)
        self.world.note(f"{member.name} joins")
        self.devices.append(Device(member, self._shared, None))

    def _forget(self) -> None:
        """Let the broker lose its sessions, and everybody begin one anew."""
        self.bus.forget()
        self.controller.forget()
        for device in self.devices:
            self.world.after(self.world.stream(f"{device.name}/again").uniform(0, 5), device.connect)

    def _look(self) -> None:
        # The controller may die of an order as of anything else; then the operator gives it again.
        self.controller.live(self.operator.look)

    def _is_broken(self) -> bool:
        return bool(self.witness.broken)

    def _clear_up(self) -> None:
        self.is_clear = True
        self.world.clear_up()
        self.controller.relieve()
        for device in self.devices:
            device.relieve()
            device.come_back()

    is_clear = False  # nothing goes wrong any more

    def _has_settled(self) -> bool:
        if not (self.operator.is_done and self.controller.is_up and self.controller.is_idle):
            return False
        if self.labelling.waiting:
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
        if self.drift_since is not None and not self._has_named_drift() and self._owes_its_name():
            self.witness.broke("a drift that is promised is named", f"at {self.story.drifting}")
        for rolled in self.operator.ended:
            if wrong := self._verdict(rolled):
                self.witness.broke("rollouts end as they should", wrong)

    def _has_named_drift(self) -> bool:
        return any(alarm.is_about(self.story) for alarm in _alarms(self.controller.database))

    def _owes_its_name(self) -> bool:
        """Tell whether so much was judged of the drift that it must be named."""
        assert self.drift_since is not None
        return naming.is_promised(
            self.controller.database,
            self.story,
            first_version().digest,
            since=self.drift_since,
            until=self.world.now,
        )

    def _verdict(self, rolled: Rolled) -> str:
        """Return what is wrong with the end of a rollout; empty when nothing is."""
        expected, name = EXPECTED[rolled.kind], f"{rolled.version} ({rolled.kind})"
        if rolled.phase == "completed":
            is_fine = expected.completes or expected.reveals
            return "" if is_fine else f"{name} completed"
        is_blameless = not expected.completes or rolled.blame
        return "" if is_blameless else f"{name} is {rolled.phase}: {rolled.reason}"

    def _tell(self) -> Outcome:
        told, fortunes = self.outcome, [device.fortunes for device in self.devices]
        told.digest, told.steps, told.log = self.world.digest, self.world.steps, self.world.log
        told.seconds = self.world.now - self.world.start
        told.traffic = self.bus.traffic
        told.cuts = sum(one.cuts for one in fortunes)
        told.kills = sum(one.kills for one in fortunes)
        told.absences = sum(one.absences for one in fortunes)
        told.refusals = sum(one.refusals for one in fortunes)
        told.drifted = self.drift_since is not None
        told.owed = told.drifted and not told.broken and self._owes_its_name()
        told.crashes = self.controller.crashes
        told.windows = self.witness.mail.windows.total()
        told.committed = self.witness.outcomes["committed"]
        told.rolled_back = self.witness.outcomes["rolled-back"]
        told.rollouts = self.operator.ended
        told.alarms = _alarms(self.controller.database)
        told.broken = self.witness.broken
        return told


def _alarms(database: Path) -> list[Alarmed]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT level, subject, feature FROM alarm "
            "WHERE fired_at IS NOT NULL AND kind NOT IN ('silence', 'job') ORDER BY id"
        )
        return [Alarmed(*row) for row in rows]


@functools.cache
def _targets() -> Targets:
    """Return the document that says whose desired states devices obey."""
    now = dt.datetime.fromtimestamp(START, dt.UTC)
    key = director().public_key
    document = Metadata[Targets].from_bytes(publisher.make_targets(director(), director=key, now=now))
    return document.signed


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for garbage more rarely: many short-lived objects, and few of them in circles."""
    before = gc.get_threshold()
    gc.set_threshold(20_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@functools.cache
def _place() -> tempfile.TemporaryDirectory[str]:
    """Return the folder of this process, in memory where that is possible: nothing here is to last."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="muster-", dir=memory if memory.is_dir() else None)


@contextmanager
def _folder(name: str = "fleet") -> Iterator[Path]:
    """Return a folder of this process, empty: what lies at the same path is opened faster."""
    folder = Path(_place().name) / name
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)

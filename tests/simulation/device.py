"""A simulated device: the real agent without threads, processes and sockets, on a disk that tears.

Real are the store, the update machine and its course, the executor and the installer, the downloader, the
notices and the outbox. What stands for the rest is in ``outside``; the link is here, as short as it can be:
it sends in order, again from the watermark when that does not move, and greets now and then.
"""

import errno
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from muster_agent.machine import Machine
from muster_agent.measure.outbox import Outbox, WindowPart
from muster_agent.notices import Notice, Notices
from muster_agent.store import Store
from muster_agent.update.course import Course
from muster_agent.update.download import Downloader
from muster_agent.update.executor import Executor
from muster_agent.update.installer import Installer, Parts
from muster_agent.update.steps import AnyEvent, ShadowFailed, WorkerFailed
from muster_agent.update.updater import MAX_CRASHES
from muster_models import topics, wire
from muster_models.errors import MessageError, Reason, StorageError, TrustError
from simulation.bus import Bus
from simulation.invariants import Witness
from simulation.mailbox import Mailbox
from simulation.outside import (
    Answering,
    Catalogue,
    SimulatedFetcher,
    SimulatedLanes,
    SimulatedRecordings,
    SimulatedRunner,
    SimulatedVerifier,
)
from simulation.versions import MODEL, Version
from simulation.world import WINDOW_SECONDS, Action, World
from support.disk import Fault, PowerCut, SimulatedDisk

TICK_SECONDS = 5.0
HEARTBEAT_SECONDS = 60.0
HELLO_SECONDS = 45.0
RESEND_SECONDS = 12.0
BATCH = 10
BOOT_SECONDS = 8.0
SPREAD_SECONDS = 4.0
MACHINE = Machine("0.1.0", {"onnx": "1"}, "x86_64", 10**9, "UTC")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What all devices share.

    Attributes:
        folder: For what does not lie on the simulated disk.
        drifts: Tells whether the world has changed at a site.
        is_asked: Tells whether anybody wants predictions.
        outbox_bytes: How much waits before windows are merged.
    """

    world: World
    bus: Bus
    catalogue: Catalogue
    witness: Witness
    folder: Path
    epochs: Callable[[], int]
    drifts: Callable[[str], bool]
    is_asked: Callable[[], bool]
    outbox_bytes: int


@dataclass
class Fortunes:
    """What a device went through."""

    cuts: int = 0
    kills: int = 0
    absences: int = 0
    refusals: int = 0
    refused: int = 0


class Device:
    """A machine with a disk, which may be without power or without network."""

    def __init__(self, name: str, site: str, shared: Surroundings) -> None:
        self.name = name
        self.site = site
        self.shared = shared
        self.world = shared.world
        self.disk = SimulatedDisk()
        self.is_online = True
        self.agent: Agent | None = None
        self.fortunes = Fortunes()
        self._chance = shared.world.stream(name)
        self.skew = self._chance.uniform(-1.5, 1.5)
        self.offset = self._chance.gauss(0, 0.1)
        self.rows = np.random.default_rng(self._chance.randrange(2**32))
        self._cut_after: int | None = None  # transactions of the outbox
        shared.bus.attach_device(name, self._take)
        self._suffer()

    def _suffer(self) -> None:
        world, chance = self.world, self._chance
        world.after(chance.uniform(0, 3), self.boot)
        world.now_and_then(lambda weather: weather.cut, chance, self._plan_cut)
        world.now_and_then(lambda weather: weather.away, chance, self._go_away)
        world.now_and_then(lambda weather: weather.refusal, chance, self._refuse)
        world.now_and_then(lambda weather: weather.worker, chance, self._lose_worker)

    # Power

    def boot(self) -> None:
        """Start the agent, unless it runs."""
        if self.agent is not None:
            return
        if self.world.weather.cut < math.inf and self._chance.random() < 0.2:
            self.disk.fault = Fault(self.disk.calls + self._chance.randint(1, 20))
        self._guard(self._start)

    def _start(self) -> None:
        try:
            self.agent = Agent(self)
        except StorageError as error:
            self.world.note(f"{self.name} does not start: {error}")
            self.world.after(self._chance.expovariate(1 / BOOT_SECONDS), self.boot)
        else:
            self.agent.start()

    def lose_power(self) -> None:
        """Stop everything now, and start again after a while."""
        is_kill = self._chance.random() < 0.2
        self.fortunes.kills += is_kill
        self.fortunes.cuts += not is_kill
        self.world.note(f"{self.name} {'is killed' if is_kill else 'loses power'}")
        self._end()
        if is_kill:
            self.disk.kill()
        else:
            self.disk.cut_power(self._chance)
        self._cut_after = None
        self.world.after(self._chance.expovariate(1 / BOOT_SECONDS), self.boot)

    def _end(self) -> None:
        if self.agent is not None:
            self.agent.end()
        self.agent = None

    def _plan_cut(self) -> None:
        """Let the power go now, or at one of the next calls to the disk or transactions of the outbox."""
        match self._chance.randrange(4):
            case 0:
                self._guard(_cut)
            case 1:
                self._cut_after = self._chance.randint(1, 12)
            case _:
                self.disk.fault = Fault(self.disk.calls + self._chance.randint(1, 40))

    def is_cut(self) -> bool:
        """Tell whether the power goes at this transaction."""
        if self._cut_after is None:
            return False
        self._cut_after -= 1
        return self._cut_after <= 0

    def _refuse(self) -> None:
        """Let the disk be full, or broken, for some seconds."""
        self.fortunes.refusals += 1
        error = self._chance.choice((errno.ENOSPC, errno.EIO, errno.EROFS))
        fault = Fault(self.disk.calls + 1, error=error, lasts=True)
        self.disk.fault = fault
        self.world.note(f"the disk of {self.name} refuses ({errno.errorcode[error]})")
        self.world.after(self._chance.uniform(1, 20), lambda: self._repair(fault))

    def _repair(self, fault: Fault) -> None:
        if self.disk.fault is fault:
            self.disk.fault = None

    def relieve(self) -> None:
        """End whatever is still to go wrong."""
        self._cut_after = None
        self.disk.fault = None

    def _lose_worker(self) -> None:
        if self.agent is not None:
            self.agent.lose_worker()

    def live(self, agent: "Agent", action: Action) -> None:
        """Do something as a part of one life of the agent; nothing when that is over."""
        if self.agent is agent:
            self._guard(action)

    def _guard(self, action: Action) -> None:
        try:
            action()
        except PowerCut:
            self.lose_power()
        self.shared.witness.look_at(self)

    # Network

    def _go_away(self) -> None:
        if not self.is_online:
            return
        self.is_online = False
        self.fortunes.absences += 1
        self.world.note(f"{self.name} is offline")
        self.world.after(self._chance.uniform(5, 120), self.come_back)

    def come_back(self) -> None:
        """Have a network again."""
        if not self.is_online:
            self.is_online = True
            self.world.note(f"{self.name} is online")
            if self.agent is not None:
                agent = self.agent
                self.live(agent, agent.connect)

    def _take(self, topic: str, payload: bytes) -> None:
        if self.is_online and self.agent is not None:
            agent = self.agent
            self.live(agent, lambda: agent.take(topic, payload))

    @property
    def sequence(self) -> int:
        """Number of the newest desired state that was accepted; 0 for none, and while nothing runs."""
        return self.agent.course.state.sequence if self.agent is not None else 0

    @property
    def is_settled(self) -> bool:
        """Whether the device is well, has nothing to do, and nothing left to say."""
        agent = self.agent
        if agent is None or agent.outbox.status().waiting:
            return False
        models = agent.course.state.models.values()
        if any(model.candidate is not None or model.revive_at is not None for model in models):
            return False
        wanted = {model.wanted.manifest for model in models if model.wanted is not None}
        return wanted == {model.current.manifest for model in models if model.current is not None}

    def wall(self) -> float:
        """Return Unix seconds by the device's own clock."""
        return self.world.now + self.skew


def _cut() -> None:
    raise PowerCut


@dataclass
class _Sending:
    """Where sending stands."""

    upto: int = 0
    moved_at: float = 0.0
    is_planned: bool = False


class Agent:
    """One life of the agent's process."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._sending = _Sending()
        self._unsaved: wire.Desired | None = None
        self._report_is_due = False
        shared = device.shared
        self._world = shared.world
        self._born = self._world.now
        self._luck = self._world.stream(f"{device.name}/{self._world.steps}")
        self.store = Store(device.disk)
        self._fetcher = SimulatedFetcher(
            shared.world, shared.catalogue, self._luck, is_online=lambda: device.is_online
        )
        self.recordings = SimulatedRecordings(
            shared.catalogue,
            wall=device.wall,
            emit=self._emit,
            chance=device.rows,
            offset=device.offset,
            drifts=lambda: shared.drifts(device.site),
            is_asked=shared.is_asked,
            beside=self._beside,
        )
        outbox = Outbox(
            shared.folder / f"{device.name}.sqlite",
            device=device.name,
            max_bytes=shared.outbox_bytes,
            max_age=86_400.0,
            merge=self.recordings.merge,
            clock=device.wall,
            draw=shared.epochs,
        )
        self.outbox = Mailbox(outbox, device.name, witness=shared.witness, is_cut=device.is_cut)
        self.notices = Notices(self.outbox, wake=self._send_soon, clock=self.clock)
        self.runner = SimulatedRunner(
            shared.catalogue, activated=self._activated, dies=self._die_soon, fails=self._fail_soon
        )
        self._verifier = SimulatedVerifier(shared.catalogue, device.name, wall=device.wall)
        self._executor = Executor(
            Installer(self._parts()),
            lanes=SimulatedLanes(self._world, self._live, self._luck),
            notices=self.notices,
            post=self._post,
            report=self._report_soon,
            collect=self._collect,
        )
        self.course = Course(
            self.store,
            carry_out=self._executor.carry_out,
            clock=self.clock,
            chance=self._luck,
            spread_seconds=SPREAD_SECONDS,
        )
        shared.witness.watch_saves(device, self.store, self.course)

    def _parts(self) -> Parts:
        shared = self.device.shared
        return Parts(
            verifier=self._verifier,
            store=self.store,
            downloader=Downloader("sim:", self._fetcher, self.store, chance=self._luck, pause=0.0),
            runner=self.runner,
            recordings=self.recordings,
            machine=MACHINE,
            scratch=shared.folder / self.device.name,
            clock=self.clock,
            chance=self._luck,
        )

    def clock(self) -> float:
        """Return seconds since the start, as a clock does that says nothing after a reboot."""
        return self._world.now - self._born

    # Life

    def start(self) -> None:
        """Take up where the agent was."""
        self.course.start()
        wall = self.device.wall()
        self._later(TICK_SECONDS * self._luck.random(), self._tick)
        self._later(WINDOW_SECONDS - wall % WINDOW_SECONDS, self._end_window)
        self._later(HEARTBEAT_SECONDS * self._luck.random(), self._heartbeat)
        self._later(RESEND_SECONDS * self._luck.random(), self._look_at_watermark)
        self._later(self._luck.uniform(0, 2), self.connect)
        self._later(HELLO_SECONDS * self._luck.uniform(0.5, 1.5), self._greet_again)

    def end(self) -> None:
        """Be gone, without a word to anybody."""
        self.outbox.close()

    def _live(self, action: Action) -> None:
        self.device.live(self, action)

    def _later(self, seconds: float, action: Action) -> None:
        self._world.after(seconds, lambda: self._live(action))

    def _tick(self) -> None:
        self._later(TICK_SECONDS, self._tick)
        if self._unsaved is not None:
            self._accept(self._unsaved)
        self.course.tick()
        self.notices.retry()
        self._after_event()

    def _end_window(self) -> None:
        self._later(WINDOW_SECONDS, self._end_window)
        self.recordings.turn(MODEL)

    def _heartbeat(self) -> None:
        self._later(HEARTBEAT_SECONDS, self._heartbeat)
        self._report_is_due = True
        self._after_event()

    def _post(self, model: str, event: AnyEvent) -> None:
        """Take an event a little later, when the loop gets to it."""
        self._later(self._luck.expovariate(1 / 0.02), lambda: self._handle(model, event))

    def _handle(self, model: str, event: AnyEvent) -> None:
        before = self.course.state.models.get(model)
        if self.course.handle(model, event):
            after = self.course.state.models.get(model)
            if before is None or after is None or before.phase is not after.phase:
                reason = f" ({after.reason})" if after and after.reason else ""
                self._world.note(f"{self.device.name} {after.phase if after else None}{reason}")
        self._after_event()

    def _after_event(self) -> None:
        if self._report_is_due:
            self._report_is_due = False
            self.outbox.add_report(self.course.reports())
            self._send_soon()

    def _report_soon(self) -> None:
        self._report_is_due = True

    def _collect(self) -> None:
        try:
            self.store.collect()
        except StorageError as error:
            _log.debug("old files are left over: %s", error)

    # Models

    def _activated(self, version: Version) -> None:
        self.device.shared.witness.activated(self.device, version)
        self._world.note(f"{self.device.name} answers with {version.name}")

    def _die_soon(self, answering: Answering) -> None:
        self._later(self._luck.uniform(0.5, 4), lambda: self._die(answering))

    def _beside(self, model: str, digest: str) -> str | None:
        return self.runner.beside(model, digest)

    def _fail_soon(self, version: Version) -> None:
        self._later(self._luck.uniform(0.5, 4), lambda: self._fail_in_shadow(version))

    def _fail_in_shadow(self, version: Version) -> None:
        held = self.runner.in_shadow.get(MODEL)
        if held is not None and held[0] is version:
            self.device.shared.witness.failed_in_shadow(self.device, version)
            self._handle(MODEL, ShadowFailed(digest=version.digest, reason=Reason.CRASHED, now=self.clock()))

    def lose_worker(self) -> None:
        """Let a worker die that proved itself."""
        answering = self.runner.answering.get(MODEL)
        model = self.course.state.models.get(MODEL)
        # A crash loop says something about a version, and these deaths are nobody's fault.
        is_last = model is not None and model.crashes >= MAX_CRASHES - 1
        if answering is not None and answering.proven and not (is_last or self._is_on_trial(answering)):
            self._world.note(f"a worker of {self.device.name} dies")
            self._live(lambda: self._die(answering))

    def _is_on_trial(self, answering: Answering) -> bool:
        model = self.course.state.models.get(MODEL)
        candidate = model.candidate if model is not None else None
        return candidate is not None and candidate.manifest == answering.version.digest

    def _die(self, answering: Answering) -> None:
        if self.runner.answering.get(MODEL) is answering:
            answering.alive = False
            event = WorkerFailed(
                digest=answering.version.digest,
                reason=Reason.CRASHED,
                now=self.clock(),
                jitter=self._luck.random(),
            )
            self._handle(MODEL, event)

    def _emit(self, part: WindowPart) -> None:
        self.outbox.add_window(part)
        self._send_soon()

    # Link

    def connect(self) -> None:
        """Begin a session: greet, and send from the watermark on."""
        if self.device.is_online:
            self._greet()
            self._sending.upto = 0
            self._send_soon()

    def take(self, topic: str, payload: bytes) -> None:
        """Take what came down."""
        try:
            if topic == topics.down(self.device.name, "stored"):
                self.outbox.stored(wire.decode_stored(payload))
                self._sending.moved_at = self._world.now
            else:
                self._open(payload)
        except MessageError:
            self.device.fortunes.refused += 1
        self._after_event()

    def _open(self, envelope: bytes) -> None:
        try:
            desired = self._verifier.desired(envelope, held=self.course.state.sequence)
        except TrustError as error:
            self.device.fortunes.refused += 1
            self.notices.tell_rarely(Notice("refused", reason=error.reason, detail=str(error)))
        else:
            self._accept(desired)

    def _accept(self, desired: wire.Desired) -> None:
        self._unsaved = None
        try:
            self.course.accept(desired)
        except StorageError:
            self._unsaved = desired

    def _greet_again(self) -> None:
        self._later(HELLO_SECONDS * self._luck.uniform(0.5, 1.5), self._greet_again)
        if self.device.is_online:
            self._greet()

    def _greet(self) -> None:
        hello = wire.Hello(
            device=self.device.name,
            desired=self.course.state.sequence,
            agent=MACHINE.agent,
            runtimes={str(kind): name for kind, name in MACHINE.runtimes.items()},
            hardware=MACHINE.hardware,
            memory_bytes=MACHINE.memory_bytes,
            disk_free_bytes=self.device.disk.free_bytes(),
            time_zone=MACHINE.time_zone,
            isolation="inline",
            models=self.course.reports(),
            outbox=self.outbox.status(),
        )
        self.device.shared.bus.up(topics.up(self.device.name, "hello"), wire.encode(hello))

    def _look_at_watermark(self) -> None:
        self._later(RESEND_SECONDS, self._look_at_watermark)
        is_stuck = self._world.now - self._sending.moved_at > RESEND_SECONDS
        if is_stuck and self._sending.upto:
            self._sending.upto = 0
            self._send_soon()

    def _send_soon(self) -> None:
        if not self._sending.is_planned:
            self._sending.is_planned = True
            self._later(self._luck.uniform(0, 0.5), self._send)

    def _send(self) -> None:
        sending = self._sending
        sending.is_planned = False
        if not self.device.is_online:
            return
        messages = self.outbox.batch(sending.upto, BATCH)
        for sequence, kind, payload in messages:
            self.device.shared.bus.up(topics.up(self.device.name, kind), payload)
            sending.upto = sequence
        if len(messages) == BATCH:
            self._send_soon()

"""One life of the process of a simulated agent: the real parts, put together without threads and sockets.

The link is here, as short as it can be: it sends in order, again from the watermark when that does not move,
and greets now and then.
"""

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from muster_agent.measure.outbox import Outbox, WindowPart
from muster_agent.measure.recorder import LATEST_SHARE
from muster_agent.notices import Notice, Notices
from muster_agent.store import Store
from muster_agent.update.course import Course
from muster_agent.update.download import Downloader
from muster_agent.update.executor import Executor
from muster_agent.update.installer import Installer, Parts
from muster_agent.update.state import ModelState
from muster_agent.update.steps import AnyEvent, ShadowFailed, WorkerFailed
from muster_agent.update.updater import MAX_CRASHES
from muster_models import topics, wire
from muster_models.errors import MessageError, Reason, StorageError, TrustError
from simulation.mailbox import Mailbox
from simulation.measuring import RecordedCalls, Scene, SimulatedRecordings
from simulation.outside import (
    Answering,
    SimulatedFetcher,
    SimulatedLanes,
    SimulatedRunner,
    SimulatedVerifier,
)
from simulation.versions import MODEL, Version
from simulation.world import Action

if TYPE_CHECKING:
    from simulation.device import Device

BATCH = 10
SPREAD_SECONDS = 4.0

_log = logging.getLogger(__name__)


@dataclass
class _Sending:
    """Where sending stands."""

    upto: int = 0
    moved_at: float = 0.0
    is_planned: bool = False
    is_watched: bool = False


class Agent:
    """One life of the agent's process."""

    def __init__(self, device: "Device") -> None:
        self.device = device
        self._sending = _Sending()
        self._unsaved: wire.Desired | None = None
        self._report_is_due = False
        shared = device.shared
        self._world = shared.world
        self._pace = shared.world.pace
        self._born = self._world.now
        self._look_at = math.inf
        self._luck = self._world.stream(f"{device.name}/{device.lives}")
        self.store = Store(device.disk)
        self._fetcher = SimulatedFetcher(
            shared.world, shared.catalogue, self._luck, is_online=lambda: device.is_online
        )
        self.recordings = self._record()
        outbox = Outbox(
            shared.folder / f"{device.name}.sqlite",
            device=device.name,
            max_bytes=shared.story.outbox_bytes,
            max_age=86_400.0,
            merge=self.recordings.merge,
            clock=device.wall,
            draw=shared.epochs,
        )
        self.outbox = Mailbox(outbox, device.name, witness=shared.witness, is_cut=device.is_cut)
        self.notices = Notices(self.outbox, wake=self._send_soon, clock=self.clock)
        self.runner = SimulatedRunner(
            shared.catalogue,
            now=lambda: self._world.now,
            activated=self._activated,
            dies=self._die_some_time,
            fails=self._fail_soon,
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

    def _record(self) -> SimulatedRecordings:
        device, shared = self.device, self.device.shared
        scene = Scene(
            world=self._world,
            catalogue=shared.catalogue,
            member=device.member,
            rows=device.rows,
            wall=device.wall,
            drifts=lambda: shared.drifts(device.site),
            is_asked=shared.is_asked,
            is_sick=device.site == shared.story.sick,
            counts=shared.story.terms.counts,
            labelling=shared.labelling,
            answering=lambda: self.runner.answering.get(MODEL),
            beside=self._beside,
        )
        if shared.story.recorder:
            return RecordedCalls(scene, emit=self._emit, chance=self._luck)
        return SimulatedRecordings(scene, emit=self._emit)

    def _parts(self) -> Parts:
        shared = self.device.shared
        return Parts(
            verifier=self._verifier,
            store=self.store,
            downloader=Downloader("sim:", self._fetcher, self.store, chance=self._luck, pause=0.0),
            runner=self.runner,
            recordings=self.recordings,
            machine=self.device.machine,
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
        self._later(self._to_next_window(), self._end_window)
        self._later(self._pace.heartbeat * self._luck.random(), self._heartbeat)
        self._later(self._luck.uniform(0, 2), self.connect)
        self._later(self._pace.hello * self._luck.uniform(0.5, 1.5), self._greet_again)
        self._plan_look()

    def end(self) -> None:
        """Be gone, without a word to anybody."""
        self.outbox.close()

    def _live(self, action: Action) -> None:
        self.device.live(self, action)

    def _later(self, seconds: float, action: Action) -> None:
        self._world.after(seconds, lambda: self._live(action))

    def _plan_look(self) -> None:
        """Look at the deadlines when the first of them passes, as an agent does that looks all the time."""
        due = min(map(_due, self.course.state.models.values()), default=math.inf)
        if self._has_to_try_again():
            due = min(due, self.clock())
        # An agent looks at fixed steps from its start on.
        steps = math.inf if due == math.inf else math.floor(max(due, self.clock()) / self._pace.look) + 1
        if self._born + steps * self._pace.look < self._look_at:
            self._look_at = self._born + steps * self._pace.look
            self._later(self._look_at - self._world.now, self._tick)

    def _has_to_try_again(self) -> bool:
        """Tell whether the disk refused something."""
        course, notices = self.course, self.notices
        return bool(
            self._unsaved or course._postponed or course._is_unsaved or notices._backlog or notices._lost
        )

    def _tick(self) -> None:
        if self._world.now < self._look_at:
            return  # an earlier look has been planned since, and was made
        self._look_at = math.inf
        if self._unsaved is not None:
            self._accept(self._unsaved)
        self.course.tick()
        self.notices.retry()
        self._after_event()

    def _to_next_window(self) -> float:
        """Return the seconds until a window ends by the clock of the device, and a moment more."""
        length = self._pace.window
        return length - self.device.wall() % length + LATEST_SHARE * length * self._luck.random()

    def _end_window(self) -> None:
        self._later(self._to_next_window(), self._end_window)
        self.recordings.turn(MODEL)

    def _heartbeat(self) -> None:
        self._later(self._pace.heartbeat, self._heartbeat)
        self._report_is_due = self._report_is_due or self.device.shared.is_asked()
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
            reports = self.course.reports()
            self.outbox.add_report(reports)
            self._send_soon()
        self._plan_look()

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

    def _die_some_time(self, answering: Answering) -> None:
        death = answering.version.death
        if death is None:
            self._later(self._luck.uniform(0.5, 4), lambda: self._die(answering))
        else:
            first, last, reason = death
            seconds = self._pace.window * self._luck.uniform(first, last)
            self._later(seconds, lambda: self._die(answering, reason))

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

    def _die(self, answering: Answering, reason: Reason = Reason.CRASHED) -> None:
        if self.runner.answering.get(MODEL) is answering:
            answering.alive = False
            if answering.version.death is not None:
                answering.died = self._world.now
            event = WorkerFailed(
                digest=answering.version.digest,
                reason=reason,
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
        self._later(self._pace.hello * self._luck.uniform(0.5, 1.5), self._greet_again)
        if self.device.is_online:
            self._greet()

    def _greet(self) -> None:
        machine = self.device.machine
        hello = wire.Hello(
            device=self.device.name,
            desired=self.course.state.sequence,
            agent=machine.agent,
            runtimes={str(kind): name for kind, name in machine.runtimes.items()},
            hardware=machine.hardware,
            memory_bytes=machine.memory_bytes,
            disk_free_bytes=self.device.disk.free_bytes(),
            time_zone=machine.time_zone,
            isolation="inline",
            models=self.course.reports(),
            outbox=self.outbox.status(),
        )
        self.device.shared.witness.said(hello)
        self.device.shared.bus.up(topics.up(self.device.name, "hello"), wire.encode(hello))

    def _look_at_watermark(self) -> None:
        """Send again what the controller does not say is stored."""
        sending = self._sending
        sending.is_watched = False
        if sending.upto and self._world.now - sending.moved_at >= self._pace.resend:
            sending.upto = 0
            self._send_soon()
        elif sending.upto and self.outbox.status().waiting:
            self._watch()

    def _watch(self) -> None:
        if not self._sending.is_watched:
            self._sending.is_watched = True
            self._later(self._pace.resend * self._luck.uniform(0.5, 1.5), self._look_at_watermark)

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
        if messages:
            self._watch()
        if len(messages) == BATCH:
            self._send_soon()


def _due(model: ModelState) -> float:
    """Return when something of a model is due by itself."""
    return min(
        model.deadline if model.deadline is not None else math.inf,
        model.revive_at if model.revive_at is not None else math.inf,
    )

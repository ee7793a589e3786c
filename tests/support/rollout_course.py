"""A course of several rollouts, lived through the controller's own code, one instant after the other.

The world outside the controller (devices, the receiver of webhooks, the operator, the clock) is a file of its
own that a kill of the controller does not touch. Within an instant devices act, what they say is taken in,
the operator orders, and the loop passes until a pass changes nothing: so an instant that is lived in two
lives ends as one that was lived in one.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from sqlalchemy import Connection, Engine, event
from sqlmodel import select

from muster_controller import intake
from muster_controller.config import WebhookSettings
from muster_controller.delivery.courier import Courier
from muster_controller.delivery.http_post import Answer, Place
from muster_controller.reconcile.loop import Outside, Reconcile
from muster_controller.service import people
from muster_controller.service.opening import Opened
from muster_controller.store import assignments
from muster_controller.store.alarm_tables import Delivery
from muster_controller.store.engine import Reading, Unit, open_database
from muster_controller.store.tables import AuditEntry, DesiredState
from muster_models import topics, wire
from muster_models.errors import Reason
from muster_models.sketch.baseline import Baseline
from muster_models.wire import Phase
from support.controller import window_of
from support.office import START, Office, make_test_baseline, open_office
from support.receiver import webhook
from support.rollout_content import content
from support.rollout_orders import ANNA, BEN, CARL, ORDERS, Order

DEVICES = tuple(f"{site}-{number}" for site in ("berlin", "lyon") for number in (1, 2))
SECONDS = 10.0  # from one instant to the next, and the length of a window
PASSES = 12  # of the loop, in which an instant must come to rest
FAILING = "1.2.0"  # the version that no device can install
VERSIONS = ("1.0.0", "1.1.0", FAILING, "1.3.0")
# What a pass of the loop may still change when nothing new comes in.
MOVING = ("rollout", "rollout_member", "assignment", "desiredstate", "untold", "evidence", "delivery")
RECEIVER = "https://desk.example/hooks"
Step = Callable[[], None]
Manner = Literal["careful", "careless", "doubled"]


class Machine(msgspec.Struct):
    """One device.

    Attributes:
        current: Digest of what it runs.
        held: Sequence of the newest desired state that it was told.
        sequence: Of the last message that it made.
        waiting: Messages that the controller has not said to have stored.
    """

    current: str
    target: str
    held: int = 0
    sequence: int = 0
    phase: Phase = Phase.COMMITTED
    waiting: list[bytes] = []


class World(msgspec.Struct):
    """What a kill of the controller does not touch.

    Attributes:
        digests: Of the versions, by name.
        has_acted: The devices have acted in this instant.
        told: SHA-256 of the desired states that devices were sent, by device and sequence.
        heard: SHA-256 of what the receiver of webhooks got, by the id of the message.
    """

    digests: dict[str, str]
    machines: dict[str, Machine]
    instant: int = 0
    has_acted: bool = False
    told: dict[str, str] = {}
    heard: dict[str, str] = {}

    @property
    def now(self) -> float:
        """Unix seconds."""
        return START + SECONDS * (self.instant + 1)


@dataclass(frozen=True)
class Site:
    """A controller that was founded for the course, and where its world is kept.

    Attributes:
        baseline: Of all versions.
    """

    opened: Opened
    world: Path
    baseline: Baseline

    @property
    def receiver(self) -> WebhookSettings:
        """The one that is told of rollouts."""
        return webhook(self.world.parent, RECEIVER)


def make_site(folder: Path) -> tuple[Site, Office]:
    """Found a controller with every version and device, and the world around it at its first instant."""
    office = open_office(folder / "controller", webhooks=(webhook(folder, RECEIVER),))
    office.install()
    digests = {name: office.release(name).version.digest for name in VERSIONS}
    office.enrol(*DEVICES)
    for one in (BEN, CARL):
        people.add(office.context, ANNA, one.name, roles=one.roles)
    first = digests[VERSIONS[0]]
    with office.context.unit() as session:
        given = dict.fromkeys(DEVICES, first)
        assignments.assign(session, "digits", given, rollout=0, probation_seconds=1.0, now=START)
    world = World(digests, {name: Machine(first, first) for name in DEVICES})
    write(folder / "world", world)
    return Site(office.opened, folder / "world", make_test_baseline()), office


def read(path: Path) -> World:
    """Return the world as it was last written."""
    return msgspec.msgpack.decode(path.read_bytes(), type=World)


def write(path: Path, world: World) -> None:
    """Keep the world."""
    work = path.with_suffix(".new")
    work.write_bytes(msgspec.msgpack.encode(world))
    work.replace(path)


def live(site: Site, place: Path | str, step: Step, *, manner: Manner = "careful") -> None:
    """Live one instant, or what is left of it, with the database at ``place``.

    Args:
        step: Called before every statement, before every commit, and before and after whatever goes out.
        manner: ``careless`` commits after every statement; ``doubled`` are two loops at once, each with
            connections of its own.
    """
    life = _Life(site, place, step, manner)
    try:
        life.live()
    finally:
        life.close()


class _Life:
    """One life of a controller; it ends with the instant, or where ``step`` ends it."""

    def __init__(self, site: Site, place: Path | str, step: Step, manner: Manner) -> None:
        self._site = site
        self._step = step
        self._lock = threading.RLock()  # the world is one, however many loops there are
        self._engine = _stepping(open_database(place), step)
        if manner == "careless":
            event.listen(self._engine, "after_cursor_execute", _commit)
        second = [_stepping(open_database(place), step)] if manner == "doubled" else []
        self._engines = [self._engine, *second]
        self._witness = open_database(place)
        self._world = read(site.world)
        context = site.opened.context
        self._context = replace(context, engine=self._engine, clock=lambda: self._world.now)
        self._loops = [self._make_loop(engine) for engine in self._engines]
        self._courier = Courier(
            self._engine,
            context.folder,
            site.receiver,
            source="/muster",
            clock=lambda: self._world.now,
            luck=lambda: 0.0,
            send=self._send,
        )

    def _make_loop(self, engine: Engine) -> Reconcile:
        opened = self._site.opened
        return Reconcile(
            engine,
            opened.baselines,
            opened.context.settings,
            director=opened.director,
            outside=Outside(self._publish, lambda _revoked: None, lambda _now: None),
            clock=lambda: self._world.now,
        )

    def close(self) -> None:
        """Release the database."""
        for engine in (*self._engines, self._witness):
            engine.dispose()

    def live(self) -> None:
        """Live what is left of the instant, and go to the next."""
        world = self._world
        if not world.has_acted:
            for name, machine in world.machines.items():
                _act(name, machine, world, self._site.baseline)
            world.has_acted = True
            self._keep()
        self._take_in()
        for order in ORDERS.get(world.instant, ()):
            if not self._was_given(order):
                order.give(self._context)
        self._settle()
        world.instant, world.has_acted = world.instant + 1, False
        self._keep()

    def _take_in(self) -> None:
        """Store what devices say, and let them forget it."""
        said = [
            (name, payload) for name, machine in self._world.machines.items() for payload in machine.waiting
        ]
        taken = [intake.read(_topic(name, payload), payload) for name, payload in said]
        with Unit(self._engine) as session:
            stored = intake.store(session, taken, baselines=self._site.opened.baselines, now=self._world.now)
        self._step()
        for (device, _), upto in stored.marks.items():
            machine = self._world.machines[device]
            assert upto == machine.sequence
            machine.waiting = []
        self._keep()

    def _was_given(self, order: Order) -> bool:
        """Tell what an operator sees who got no answer: whether the order is in the audit trail."""
        with Reading(self._witness) as session:
            found = select(AuditEntry).where(
                AuditEntry.action == order.action, AuditEntry.reason == order.reason
            )
            return session.exec(found).first() is not None

    def _settle(self) -> None:
        """Let the loop and the courier work until there is nothing left to do in this instant."""
        before: object = None
        for _ in range(PASSES):
            self._pass()
            while self._courier.deliver():
                pass
            after = content(self._witness, MOVING)
            if after == before:
                return
            before = after
        raise AssertionError(f"instant {self._world.instant} does not come to rest in {PASSES} passes")

    def _pass(self) -> None:
        """Let every loop make one pass, all at once."""
        if len(self._loops) == 1:
            self._tick(self._loops[0])
            return
        with ThreadPoolExecutor(len(self._loops)) as pool:
            for done in [pool.submit(self._tick, loop) for loop in self._loops]:
                done.result()

    def _tick(self, loop: Reconcile) -> None:
        loop.tick(self._world.now)
        loop._telling.send(self._world.now)  # writes down what was acknowledged
        assert loop.last is not None
        assert loop.last.faults == 0

    def _publish(self, topic: str, payload: bytes, sent: Callable[[], None] | None = None) -> bool:
        """Be the broker and the device behind it."""
        self._step()
        with self._lock:
            self._hear(topic, payload)
        self._step()
        if sent is not None:
            sent()
        return True

    def _hear(self, topic: str, payload: bytes) -> None:
        told = _desired(payload)
        assert topic == topics.down(told.device, "desired")
        with Reading(self._witness) as session:
            row = session.get(DesiredState, told.device)
        assert row is not None
        assert (row.sequence, row.envelope) == (told.sequence, payload), "sent, but not what is stored"
        digest = hashlib.sha256(payload).hexdigest()
        known = self._world.told.setdefault(f"{told.device} {told.sequence}", digest)
        assert known == digest, "one number for two desired states"
        machine = self._world.machines[told.device]
        if told.sequence > machine.held and told.models:
            machine.held, machine.target = told.sequence, told.models[0].manifest
        self._keep()

    def _send(self, place: Place, body: bytes, headers: Mapping[str, str], *, now: float) -> Answer:
        """Be the receiver of webhooks."""
        self._step()
        assert place.url == RECEIVER
        number = headers["webhook-id"]
        with Reading(self._witness) as session:
            row = session.exec(select(Delivery).where(Delivery.message == number)).one()
            assert (row.state, row.tries > 0) == ("waiting", True), "sent, but not written down before"
        digest = hashlib.sha256(body).hexdigest()
        assert self._world.heard.setdefault(number, digest) == digest, f"one message, two contents, at {now}"
        self._keep()
        self._step()
        return Answer(204)

    def _keep(self) -> None:
        write(self._site.world, self._world)


def _commit(connection: Connection, *_: object) -> None:
    driver: Any = connection.connection.driver_connection
    driver.commit()


def _stepping(engine: Engine, step: Step) -> Engine:
    event.listen(engine, "before_cursor_execute", lambda *_: step())
    event.listen(engine, "commit", lambda _connection: step())
    event.listen(engine, "rollback", lambda _connection: step())
    return engine


def _act(name: str, machine: Machine, world: World, baseline: Baseline) -> None:
    """Let a device follow what it was told, and say how it is."""
    is_failing = machine.target == world.digests[FAILING]
    if machine.target != machine.current and not is_failing:
        machine.current = machine.target
    machine.phase = Phase.FAILED if is_failing else Phase.COMMITTED
    version = next(version for version, digest in world.digests.items() if digest == machine.current)
    report = wire.ModelReport(
        model="digits",
        phase=machine.phase,
        current=wire.SlotReport(machine.current, version),
        target=machine.target,
        reason=Reason.WRONG_OUTPUT if is_failing else None,
        tries=int(is_failing),
    )
    end = world.now
    machine.sequence += 1
    said: list[wire.Uplink] = [wire.Report(name, 1, machine.sequence, end, (report,))]
    machine.sequence += 1
    seed = int(hashlib.sha256(f"{name}{end}".encode()).hexdigest()[:8], 16)
    values = np.random.default_rng(seed).normal(size=(60, 1))
    fields: dict[str, Any] = {"device": name, "sequence": machine.sequence, "manifest": machine.current}
    said.append(window_of(values, baseline, start=end - SECONDS, end=end, **fields))
    machine.waiting = [*machine.waiting, *map(wire.encode, said)]


def _topic(device: str, payload: bytes) -> str:
    return topics.up(device, intake.KINDS[type(wire.decode_uplink(payload))])


def _desired(payload: bytes) -> wire.Desired:
    envelope = msgspec.json.decode(payload)
    return wire.decode_desired(msgspec.json.decode(f'"{envelope["payload"]}"', type=bytes))

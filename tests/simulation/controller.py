"""A simulated controller: the real ingest, loop, domain and database, without threads, broker and HTTP.

It may die before and after every commit and at every message that it sends; then all that it held in memory
is gone, the broker hands over again what was not acknowledged, and another one starts on the same database.
"""

import contextlib
import functools
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Signer
from sqlalchemy import Engine, event

from muster_controller.config import DriftSettings, Settings
from muster_controller.domain.facts import Facts
from muster_controller.domain.rollouts import machine as domain
from muster_controller.domain.rollouts.plan import Plan
from muster_controller.ingest import Ingest
from muster_controller.pki import Issued
from muster_controller.reconcile.loop import Outside, Reconcile
from muster_controller.reconcile.telling import DAY_SECONDS
from muster_controller.store import enrolment, rollouts, versions
from muster_controller.store.baselines import Baselines
from muster_controller.store.blobs import Blobs
from muster_controller.store.engine import Reading, Unit, migrate, open_database
from muster_controller.store.facts import device_facts
from muster_models.trust.director import _parse, sign_desired
from muster_models.wire import Desired, DesiredModel, Reporting, decode_desired
from simulation.bus import Bus
from simulation.invariants import Witness
from simulation.versions import MODEL, Version
from simulation.world import WINDOW_SECONDS, Action, World

TICK_SECONDS = 20.0
GATHER_SECONDS = 10.0
DOWN_SECONDS = 8.0
DESIRED_SECONDS = 240.0  # renewed after half of it
RUN_LENGTH = 2000.0
SETTINGS = Settings(
    reachable_seconds=90.0,
    desired_days=DESIRED_SECONDS / DAY_SECONDS,
    reporting=Reporting(window_seconds=WINDOW_SECONDS, heartbeat_seconds=60.0),
    drift=DriftSettings(calibration_windows=10, run_length=RUN_LENGTH),
)


class Crash(BaseException):
    """The controller's process is gone."""


def director() -> Signer:
    """Return the key that devices obey: the same in every simulation."""
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(b"director" * 4))


def stranger() -> Signer:
    """Return a key that they do not."""
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(b"stranger" * 4))


@functools.cache
def _empty_database() -> bytes:
    """Return a database with every table and no row, made once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.sqlite"
        engine = open_database(path)
        migrate(engine)
        engine.dispose()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


@dataclass
class Waiting:
    """A message that the broker keeps until it is acknowledged."""

    topic: str
    payload: bytes
    is_taken: bool = False


class Controller:
    """The controller and, as far as it keeps messages, the broker beside it."""

    def __init__(self, world: World, bus: Bus, witness: Witness, *, folder: Path) -> None:
        self.world = world
        self.bus = bus
        self.witness = witness
        self.folder = folder
        self.crashes = 0
        self.restarts = 0
        self._luck = world.stream("controller")
        self._queue: list[Waiting] = []
        self._dies_after: int | None = None
        self._envelopes: dict[str, list[bytes]] = {}
        self._blobs = Blobs(folder / "blobs")
        self._baselines = Baselines(self._blobs)
        self.database.write_bytes(_empty_database())
        witness.read(self.database)
        self.engine: Engine | None = None
        bus.attach_controller(self._arrive, self._tempt)
        world.every(TICK_SECONDS, lambda: self.live(self._tick))
        self._gather_again()
        world.now_and_then(lambda weather: weather.crash, self._luck, self._plan_crash)
        self.start()

    @property
    def database(self) -> Path:
        """Where the database lies."""
        return self.folder / "controller.sqlite"

    # Life

    def start(self) -> None:
        """Begin on whatever the database holds."""
        engine = open_database(self.database)
        event.listen(engine, "begin", lambda _connection: self._step())
        event.listen(engine, "commit", lambda _connection: self._step())
        self.engine = engine
        self._ingest = Ingest(
            engine,
            self._baselines,
            clock=lambda: self.world.now,
            publish=self._tell_stored,
            greeted=self._greeted,
        )
        self._reconcile = Reconcile(
            engine,
            self._baselines,
            SETTINGS,
            director=director(),
            outside=Outside(
                publish=self._tell_desired, refuse=lambda _devices: None, renew=lambda _now: None
            ),
            clock=lambda: self.world.now,
        )
        for waiting in self._queue:
            waiting.is_taken = False

    def end(self) -> None:
        """Let go of the database."""
        if self.engine is not None:
            self.engine.dispose()
            self.engine = None

    def live(self, action: Action) -> None:
        """Do something, unless the process is gone; it may go meanwhile."""
        if self.engine is None:
            return
        try:
            action()
        except Crash:
            self.crashes += 1
            self.world.note("the controller dies")
            self._dies_after = None
            self.end()
            self.world.after(self._luck.expovariate(1 / DOWN_SECONDS), self._restart)
        self.witness.look_at_controller()

    def _restart(self) -> None:
        self.restarts += 1
        self.world.note("the controller starts")
        self.start()

    def _plan_crash(self) -> None:
        self._dies_after = self._luck.randint(1, 15)

    def relieve(self) -> None:
        """End whatever is still to go wrong."""
        self._dies_after = None

    def _step(self) -> None:
        """Pass a place at which the process may die: around commits, and at every message."""
        if self._dies_after is not None:
            self._dies_after -= 1
            if self._dies_after <= 0:
                raise Crash

    # Messages

    def _arrive(self, topic: str, payload: bytes) -> None:
        self._queue.append(Waiting(topic, payload))

    def _gather_again(self) -> None:
        self.world.after(GATHER_SECONDS * self._luck.uniform(0.2, 1.8), self._gather_again)
        self.live(self._gather)

    def _gather(self) -> None:
        """Store what has come in, as the thread of ``Ingest`` does."""
        for waiting in [one for one in self._queue if not one.is_taken]:
            waiting.is_taken = True
            self._ingest.handle(waiting.topic, waiting.payload, functools.partial(self._forget, waiting))
        batch, self._ingest._waiting = self._ingest._waiting, []
        if batch:
            self._ingest._process(batch)
        self._follow_up()

    def _forget(self, waiting: Waiting) -> None:
        self._step()
        self._queue.remove(waiting)
        self._step()

    def _tell_stored(self, topic: str, payload: bytes) -> None:
        self._step()
        self.bus.down(topic, payload)
        self._step()

    def _tell_desired(self, topic: str, payload: bytes, sent: Action | None = None) -> bool:
        self._step()
        desired = decode_desired(_parse(payload).payload)
        self.witness.told(desired.device, desired.sequence)
        self._envelopes.setdefault(desired.device, []).append(payload)
        self.bus.down(topic, payload)
        if sent is not None:
            engine = self.engine
            self.world.after(
                self._luck.uniform(0, 0.5), lambda: self.live(sent) if self.engine is engine else None
            )
        self._step()
        return True

    # The loop

    def _tick(self) -> None:
        self._reconcile.tick(self.world.now)
        if self._reconcile.last is not None and self._reconcile.last.faults:
            self.witness.broke("the loop works", f"{self._reconcile.last.faults} steps failed")
        self._follow_up()

    def _greeted(self) -> None:
        self._reconcile.send_soon()

    def _follow_up(self) -> None:
        """Do what the loop was woken for."""
        loop = self._reconcile
        if loop._is_send_wanted:
            loop._is_send_wanted = False
            loop._guard("sending", loop._send, self.world.now)

    # Operators

    def enrol(self, sites: Mapping[str, str]) -> None:
        """Enrol devices, with their sites."""
        with self._unit() as session:
            for device, site in sites.items():
                permit = enrolment.Permit(device, {"site": site})
                enrolment.enrol(session, permit, Issued("", "1", int(self.world.now) + 10**8), self.world.now)

    def release(self, version: Version) -> None:
        """Take a released version."""
        for sha256, content in version.blobs.items():
            self._blobs.put(sha256, [content])
        with self._unit() as session:
            versions.add(session, version.verified, self.world.now)

    def start_rollout(self, plan: Plan) -> int:
        """Start a rollout and return its number."""
        with self._unit() as session:
            devices = device_facts(session, plan.model)
            facts = Facts(self.world.now, devices, reachable_seconds=SETTINGS.reachable_seconds)
            decision = domain.decide(plan, domain.State(), domain.Start("operator", "", facts))
            assert decision.refused is None, decision.refused
            return rollouts.add(
                session,
                plan.model,
                plan.digest,
                previous=plan.previous,
                phase=decision.state.phase,
                plan=msgspec.to_builtins(plan),
                state=domain.to_json(decision.state),
                by="operator",
                now=self.world.now,
            )

    def command(self, number: int, plan: Plan, order: Callable[[float], domain.Event]) -> bool:
        """Give an order about a rollout; tell whether it fitted."""
        with self._unit() as session:
            stored = rollouts.get(session, number)
            decision = domain.decide(plan, domain.from_json(stored.state), order(self.world.now))
            if decision.refused is None:
                rollouts.save(
                    session,
                    number,
                    phase=decision.state.phase,
                    state=domain.to_json(decision.state),
                    now=self.world.now,
                )
        return decision.refused is None

    def state(self, number: int) -> domain.State:
        """Return where a rollout is."""
        assert self.engine is not None
        with Reading(self.engine) as session:
            return domain.from_json(rollouts.get(session, number).state)

    @property
    def is_idle(self) -> bool:
        """Whether everything that came in is stored."""
        return not self._queue

    @property
    def is_up(self) -> bool:
        """Whether the process runs."""
        return self.engine is not None

    def _unit(self) -> Unit:
        assert self.engine is not None
        return Unit(self.engine)

    # Strangers

    def _tempt(self, device: str) -> bytes:
        """Return what a stranger sends to a device: old, for another, forged, or no message at all."""
        chance = self._luck
        others = [name for name in self._envelopes if name != device]
        match chance.randrange(4):
            case 0 if self._envelopes.get(device):
                return chance.choice(self._envelopes[device])
            case 1 if others:
                return self._envelopes[chance.choice(others)][-1]
            case 2:
                evil = DesiredModel(MODEL, "6.6.6", "6" * 64)
                now = self.world.now
                return sign_desired(Desired(device, 10**6, now, now + 10**6, (evil,)), stranger())
            case _:
                return chance.randbytes(40)

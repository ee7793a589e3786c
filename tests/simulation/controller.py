"""A simulated controller: the real ingest, loop, domain and database, without threads, broker and HTTP.

It may die before and after every commit and at every message that it sends; then all that it held in memory
is gone, the broker hands over again what was not acknowledged, and another one starts on the same database.
"""

import contextlib
import functools
import math
import sqlite3
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Signer
from sqlalchemy import Connection, Engine, event

from muster_controller.config import DriftSettings, Settings
from muster_controller.ingest import Ingest
from muster_controller.pki import Issued
from muster_controller.reconcile.loop import Outside, Reconcile
from muster_controller.reconcile.telling import DAY_SECONDS
from muster_controller.store import enrolment
from muster_controller.store.baselines import Baselines
from muster_controller.store.blobs import Blobs
from muster_controller.store.engine import Unit, migrate, open_database
from muster_models.trust.director import _parse, sign_desired
from muster_models.wire import Desired, DesiredModel, Reporting, decode_desired
from simulation.bus import Bus
from simulation.invariants import Witness
from simulation.second_opinion import SecondOpinion
from simulation.story import Fault, Pace, Trouble
from simulation.versions import MODEL, Version
from simulation.world import Action, World

DOWN_SECONDS = 8.0
RUN_LENGTH = 2000.0
CALIBRATION_WINDOWS = 10
IDLE_WINDOWS = 12.0  # after which the loop makes a pass although nothing has changed


class Crash(BaseException):
    """The controller's process is gone."""


def director() -> Signer:
    """Return the key that devices obey: the same in every simulation."""
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(b"director" * 4))


def stranger() -> Signer:
    """Return a key that they do not."""
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(b"stranger" * 4))


def settings(pace: Pace) -> Settings:
    """Return the settings of a controller whose fleet has a pace."""
    return Settings(
        reachable_seconds=max(9 * pace.window, 1.5 * pace.heartbeat),
        desired_days=24 * pace.window / DAY_SECONDS,  # renewed after half of it
        reporting=Reporting(window_seconds=pace.window, heartbeat_seconds=pace.heartbeat),
        drift=DriftSettings(calibration_windows=CALIBRATION_WINDOWS, run_length=RUN_LENGTH),
    )


@functools.cache
def _opened(path: Path) -> Engine:
    """Return the engine of a place, one for all databases that ever lie there: it keeps what it compiled."""
    return open_database(path)


@functools.cache
def _empty_database() -> bytes:
    """Return a database with every table and no row, made once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.sqlite"
        engine = open_database(path)
        migrate(engine)
        engine.dispose()
        return content_of(path)


def content_of(path: Path) -> bytes:
    """Return a database that nobody has open."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


@dataclass(eq=False)
class Waiting:
    """A message that the broker keeps until it is acknowledged."""

    topic: str
    payload: bytes
    is_taken: bool = False


class Controller:
    """The controller and, as far as it keeps messages, the broker beside it."""

    def __init__(
        self,
        world: World,
        bus: Bus,
        witness: Witness,
        *,
        folder: Path,
        recomputes: bool,
        found: bytes | None,
    ) -> None:
        self.world = world
        self.bus = bus
        self.witness = witness
        self.folder = folder
        self.crashes = 0
        self.restarts = 0
        self._luck = world.stream("controller")
        self._queue: list[Waiting] = []
        self._dies_after: int | None = None
        self._passed_at = -math.inf
        self._passed_with = (-1, -1, -1)
        self._envelopes: dict[str, list[bytes]] = {}
        self._blobs = Blobs(folder / "blobs")
        self._baselines = Baselines(self._blobs)
        self.settings = settings(world.pace)
        self.skew = 0.0
        self.database.write_bytes(found or _empty_database())
        witness.read(self.database)
        self.engine: Engine | None = None
        self._opinion = self._ask_another() if recomputes else None
        bus.attach_controller(self._arrive, self._tempt)
        world.every(world.pace.tick, lambda: self.live(self._tick))
        self._gather_again()
        self.start()

    @property
    def database(self) -> Path:
        """Where the database lies."""
        return self.folder / "controller.sqlite"

    # Life

    def start(self) -> None:
        """Begin on whatever the database holds."""
        self.engine = engine = _opened(self.database)
        event.listen(engine, "begin", self._passed)
        event.listen(engine, "commit", self._passed)
        self._ingest = Ingest(
            engine,
            self._baselines,
            clock=self.clock,
            publish=self._tell_stored,
            greeted=self._greeted,
        )
        self._reconcile = Reconcile(
            engine,
            self._baselines,
            self.settings,
            director=director(),
            outside=Outside(
                publish=self._tell_desired, refuse=lambda _devices: None, renew=lambda _now: None
            ),
            clock=self.clock,
        )
        for waiting in self._queue:
            waiting.is_taken = False

    def _ask_another(self) -> SecondOpinion:
        return SecondOpinion(
            self.folder,
            settings=self.settings,
            baselines=self._baselines,
            director=director(),
            broke=self.witness.broke,
        )

    def end(self) -> None:
        """Let go of the database."""
        if self.engine is not None:
            event.remove(self.engine, "begin", self._passed)
            event.remove(self.engine, "commit", self._passed)
            self.engine.dispose()
            self.engine = None

    def close(self) -> None:
        """Let go of every file."""
        self.end()
        if self._opinion is not None:
            self._opinion.close()

    def clock(self) -> float:
        """Return Unix seconds by the controller's own clock."""
        return self.world.now + self.skew

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
        self.witness.look_at_controller(self.clock())

    def _restart(self) -> None:
        self.restarts += 1
        self.world.note("the controller starts")
        self.start()

    def suffer(self, fault: Fault) -> None:
        """Let something go wrong with the controller, or the broker beside it."""
        match fault.kind:
            case Trouble.CRASH:
                self._dies_after = int(fault.size)
            case Trouble.CLOCK:
                self.skew += fault.size
                self.world.note(f"the clock of the controller jumps by {fault.size:+g} s")
            case _:
                self.forget()

    def forget(self) -> None:
        """Let the broker lose what it held; the controller begins a session anew."""
        self.world.note("the broker forgets")
        self._queue.clear()
        if self.engine is not None:
            self._reconcile.online()

    def relieve(self) -> None:
        """End whatever is still to go wrong, and set the clock right."""
        self._dies_after = None
        self.skew = 0.0

    def _passed(self, _connection: Connection) -> None:
        self._step()

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
        self.world.after(self.world.pace.gather * self._luck.uniform(0.2, 1.8), self._gather_again)
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
        if waiting in self._queue:  # the broker may have forgotten it
            self._queue.remove(waiting)
        self._step()

    def _tell_stored(self, topic: str, payload: bytes) -> None:
        self._step()
        self.bus.down(topic, payload)
        self._step()

    def _tell_desired(self, topic: str, payload: bytes, sent: Action | None = None) -> bool:
        self._step()
        desired = decode_desired(_parse(payload).payload)
        stops = any(one.stop for one in desired.models)
        self.witness.told(desired.device, desired.sequence, stops=stops)
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
        """Make a pass of the loop, unless there is nothing that could be new to it."""
        now = self.clock()
        is_idle = self.world.now - self._passed_at >= IDLE_WINDOWS * self.world.pace.window
        news = self.witness.news
        if news == self._passed_with and not is_idle and not self.witness.rollouts.is_due(now):
            return
        opinion = self._opinion.decide(self.database, now) if self._opinion is not None else None
        self._reconcile.tick(now)
        self._passed_at, self._passed_with = self.world.now, news
        if self._opinion is not None and opinion is not None:
            self._opinion.compare(self.database, opinion)
        if self._reconcile.last is not None and self._reconcile.last.faults:
            self.witness.broke("the loop works", f"{self._reconcile.last.faults} steps failed")
        self.witness.passed(now)
        self._follow_up()

    def wake(self) -> None:
        """Make a pass soon, because a person has decided something."""
        self.world.after(0.5, lambda: self.live(self._tick))

    def _greeted(self) -> None:
        self._reconcile.send_soon()

    def _follow_up(self) -> None:
        """Do what the loop was woken for."""
        loop = self._reconcile
        if loop._is_send_wanted:
            loop._is_send_wanted = False
            loop._guard("sending", loop._send, self.clock())

    # Operators

    def enrol(self, sites: Mapping[str, str]) -> None:
        """Enrol devices, with their sites."""
        with self.unit() as session:
            for device, site in sites.items():
                permit = enrolment.Permit(device, {"site": site})
                enrolment.enrol(session, permit, Issued("", "1", int(self.world.now) + 10**8), self.world.now)

    def join(self, device: str, site: str) -> None:
        """Enrol one more device; nothing goes wrong meanwhile, because a device is enrolled once."""
        due, self._dies_after = self._dies_after, None
        self.enrol({device: site})
        self._dies_after = due

    def hold(self, version: Version) -> None:
        """Have the files of a version."""
        for sha256, content in version.blobs.items():
            self._blobs.put(sha256, [content])

    @property
    def is_idle(self) -> bool:
        """Whether everything that came in is stored."""
        return not self._queue

    @property
    def is_up(self) -> bool:
        """Whether the process runs."""
        return self.engine is not None

    def unit(self) -> Unit:
        """Begin a transaction that may write."""
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

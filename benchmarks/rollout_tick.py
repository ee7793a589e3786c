"""What one pass of the loop costs with 100,000 devices in one rollout, against the same changes among 1,000.

Every pass, two hundred devices report that they run the version, and the witnesses send their windows; the
rest of the fleet gives a sign of life every five minutes. CPU time of one core: what a pass waits for the
disk depends on the disk.
"""

import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from figure import at_most, below, publish
from ingest_rate import LATENCY
from securesystemslib.signer import CryptoSigner
from sqlalchemy import Engine, insert

from muster_controller import intake
from muster_controller.config import Settings
from muster_controller.domain.rollouts import machine as domain
from muster_controller.domain.rollouts.draw import CONTROL
from muster_controller.domain.rollouts.planning.plan import Plan, Stage
from muster_controller.reconcile.loop import Outside, Reconcile
from muster_controller.stepping import Stepping, course_of
from muster_controller.store import assignments, devices, untold, versions
from muster_controller.store.baselines import Baselines
from muster_controller.store.blobs import Blobs
from muster_controller.store.engine import Reading, Unit, migrate, open_database, table
from muster_controller.store.facts import start_facts
from muster_controller.store.tables import Certificate, Device, Running
from muster_models import topics, wire
from muster_models.sketch.codec import encode
from support.controller import NOW, device_report, release_of
from support.windows import Digits

FLEETS = (100_000, 1_000)
REPORTING = 200  # devices that report in a pass
PASSES = 120
WARM = 20  # passes before the first that counts
ROUND = 20.0  # seconds between two passes, and the length of a round
GOAL_SECONDS = 1.0
MOST_SECONDS = 3.0
HEARTBEAT = 15  # passes between two signs of life of a device
BEFORE = 4  # passes in which all run the old version
MOST_MIB = 1024.0
GOAL_RATIO = 3.0
ROWS = 300


@dataclass
class Fleet:
    """A controller's rooms without a broker, and the devices as rows."""

    engine: Engine
    baselines: Baselines
    loop: Reconcile
    names: list[str]
    old: str
    new: str
    baseline: str
    sketches: list[bytes]
    witnesses: list[str] = field(default_factory=list)
    control: set[str] = field(default_factory=set)
    due: list[str] = field(default_factory=list)  # to report that they run the version
    updated: set[str] = field(default_factory=set)
    now: float = NOW
    sequence: int = 0

    def is_telling(self) -> bool:
        """Tell whether devices wait to be told of the version."""
        with Reading(self.engine) as session:
            return bool(untold.first(session, 1))


def found(folder: Path, size: int) -> Fleet:
    """Make a fleet on which one version runs, and start the rollout of the next one."""
    digits = Digits("1.0.0")
    engine = open_database(folder / "database.sqlite")
    migrate(engine)
    blobs = Blobs(folder / "blobs")
    blobs.put(digits.baseline.digest, [digits.baseline.encode()])
    old = release_of(digits.baseline, version="1.0.0", release=1)
    new = release_of(digits.baseline, version="1.1.0", release=2)
    names = [f"device-{number:06d}" for number in range(size)]
    with Unit(engine) as session:
        for release in (old, new):
            versions.add(session, release, NOW)
        session.execute(insert(table(Device)), [_device(name) for name in names])
        session.execute(insert(table(Certificate)), [_certificate(name) for name in names])
        session.execute(insert(table(Running)), [_running(name, old.digest) for name in names])
        digests = dict.fromkeys(names, old.digest)
        assignments.assign(session, "digits", digests, rollout=0, probation_seconds=1.0, now=NOW)
    chance = np.random.default_rng(1)
    sketches = [encode(digits.sketch(1.0, ROWS, chance), digits.baseline) for _ in range(64)]
    settings = Settings()
    baselines = Baselines(blobs)
    loop = Reconcile(
        engine,
        baselines,
        settings,
        director=CryptoSigner.generate_ed25519(),
        outside=Outside(_take, lambda _: None, lambda _: None),
        clock=lambda: NOW,
    )
    fleet = Fleet(engine, baselines, loop, names, old.digest, new.digest, digits.baseline.digest, sketches)
    _begin(fleet, settings)
    return fleet


def _take(topic: str, payload: bytes, sent: Callable[[], None] | None = None) -> bool:  # noqa: ARG001
    if sent is not None:
        sent()
    return True


def _device(name: str) -> dict[str, object]:
    at = int(NOW * 1000)
    return {
        "id": name,
        "labels": {"site": f"site-{name[-2:]}"},
        "hardware": "", "agent": "", "runtimes": {}, "isolation": "", "time_zone": "UTC",
        "memory_bytes": 0, "disk_free_bytes": 0,
        "enrolled_at": at, "certificate_serial": name, "certificate_expires": at + 10**10,
        "last_seen": at, "outbox_waiting": 0, "outbox_merged": 0, "outbox_dropped": 0, "desired_held": 0,
    }  # fmt: skip


def _certificate(name: str) -> dict[str, object]:
    return {"device": name, "serial": name, "expires_at": int(NOW * 1000) + 10**10}


def _running(name: str, digest: str) -> dict[str, object]:
    return {
        "device": name, "model": "digits", "current": digest, "target": digest, "phase": "committed",
        "detail": "", "tries": 0, "stopped": False, "at": int(NOW * 1000), "epoch": 0, "sequence": 0,
    }  # fmt: skip


def _begin(fleet: Fleet, settings: Settings) -> None:
    """Start a rollout that gives the version to three quarters of the fleet at once, and judges it long."""
    plan = Plan(
        model="digits",
        digest=fleet.new,
        previous=fleet.old,
        stages=(Stage(percent=100, soak_seconds=1e6, minimum_rounds=10**6),),
        before_rounds=2,
        round_seconds=ROUND,
        stage_deadline_seconds=1e7,
    )
    with Unit(fleet.engine) as session:
        facts = start_facts(
            session,
            plan.model,
            plan.digest,
            number=None,
            now=NOW,
            reachable_seconds=settings.reachable_seconds,
        )
        decision = domain.decide(plan, domain.State(), domain.Start("operator", "", facts))
        Stepping(settings).begin(session, plan, decision, by="operator", now=NOW)
    members = decision.state.members
    fleet.witnesses = list(decision.state.witnesses)
    fleet.control = {name for name in fleet.witnesses if members[name].arm == CONTROL}
    fleet.due = [name for name in fleet.names if members[name].arm != CONTROL]


def run(fleet: Fleet, passes: int) -> Iterator[float]:
    """Let time pass; yield the seconds of each pass of the loop."""
    for _ in range(passes):
        fleet.now += ROUND
        fleet.sequence += 1
        if fleet.sequence > BEFORE:
            updated, fleet.due = fleet.due[:REPORTING], fleet.due[REPORTING:]
            fleet.updated.update(updated)
            say(fleet, [_report(fleet, name) for name in updated])
        say(fleet, [_window(fleet, name) for name in fleet.witnesses])
        with Unit(fleet.engine) as session:
            devices.saw(session, fleet.names[fleet.sequence % HEARTBEAT :: HEARTBEAT], fleet.now)
        began = time.process_time()
        fleet.loop.tick(fleet.now)
        yield time.process_time() - began
        assert fleet.loop.last is not None
        assert fleet.loop.last.faults == 0


def say(fleet: Fleet, messages: list[wire.Uplink]) -> None:
    """Store what devices send, as ingest does."""
    read = [intake.read(topics.up(one.device, intake.KINDS[type(one)]), wire.encode(one)) for one in messages]
    with Unit(fleet.engine) as session:
        intake.store(session, read, baselines=fleet.baselines, now=fleet.now)


def _report(fleet: Fleet, name: str) -> wire.Report:
    report = device_report(fleet.new, "1.1.0")
    return wire.Report(device=name, epoch=1, sequence=fleet.sequence * 2, at=fleet.now, models=(report,))


def _window(fleet: Fleet, name: str) -> wire.Window:
    is_new = name in fleet.updated and name not in fleet.control
    return wire.Window(
        device=name,
        epoch=1,
        sequence=fleet.sequence * 2 + 1,
        model="digits",
        manifest=fleet.new if is_new else fleet.old,
        baseline=fleet.baseline,
        start=fleet.now - ROUND,
        end=fleet.now,
        calls=ROWS,
        errors=0,
        latency=LATENCY,
        sketch=fleet.sketches[(fleet.sequence * 7 + len(name)) % len(fleet.sketches)],
    )


def measure(size: int) -> tuple[list[float], float]:
    """Return the seconds of each pass over a fleet of a size, all of it told, and of the longest before.

    That is the first after a start, or the one that gives three quarters of the fleet the version.
    """
    with TemporaryDirectory() as scratch:
        fleet = found(Path(scratch), size)
        longest = max(run(fleet, WARM))
        while fleet.is_telling():
            fleet.loop.tick(fleet.now)
        seconds = list(run(fleet, PASSES))
        with Reading(fleet.engine) as session:
            state = course_of(session, 1).state
        fleet.engine.dispose()
    closed = sum(entry.kind == "round" for entry in state.ledger.journal)
    if state.admitted == 0 or not state.ledger.trials or closed < PASSES // 2:
        raise SystemExit(f"the rollout should be under way and compared, it waits for {state.waiting}")
    return seconds, longest


def main() -> None:
    """Measure both fleets, and print the figures."""
    (large, longest), (small, beside) = (measure(size) for size in FLEETS)
    worst = [statistics.quantiles(seconds, n=100)[98] for seconds in (large, small)]
    middle = [statistics.median(seconds) for seconds in (large, small)]
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peer = f"{FLEETS[1]:,} devices"
    publish(
        below(
            "one pass, 100,000 devices in a rollout, p99",
            ours=worst[0],
            peer=(peer, worst[1]),
            unit="s",
            most=GOAL_SECONDS,
        ),
        at_most("the same, median", ours=middle[0], peer=(peer, middle[1]), unit="s", ratio=GOAL_RATIO),
        below(
            "the longest pass at the start, and that gives all of them the version",
            ours=longest,
            peer=(peer, beside),
            unit="s",
            most=MOST_SECONDS,
        ),
        below("memory at most, whole process", ours=held, peer=("goal", MOST_MIB), unit="MiB", most=MOST_MIB),
    )


if __name__ == "__main__":
    main()

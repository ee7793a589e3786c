"""Windows a core stores durably: a batch in one transaction, against a merge and a commit per message.

CPU time is what is counted, so that the figure holds for any disk; both sides force every commit to it.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from figure import at_least, publish
from sqlalchemy import Engine
from sqlmodel import Session

from muster_controller import intake
from muster_controller.ingest import Pace
from muster_controller.pki import Issued
from muster_controller.store import enrolment, versions
from muster_controller.store.baselines import Baselines
from muster_controller.store.blobs import Blobs
from muster_controller.store.engine import Unit, migrate, open_database
from muster_controller.store.tables import WindowRecord
from muster_models import topics, wire
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.codec import decode, encode
from muster_models.trust.verified import VerifiedManifest
from support.controller import NOW, release_of
from support.windows import Digits

DEVICES = 250
WINDOWS = 40  # of each device
NAIVE = 500  # messages that the peer stores
ROWS = 300  # calls in a window
KINDS = 200  # different sketches
LATENCY = (0, ROWS, *[0] * (len(wire.LATENCY_EDGES_MS) - 1))
GOAL = 10_000
Payload = tuple[str, bytes]


@dataclass(frozen=True)
class Ground:
    """A database with one released version and enrolled devices."""

    engine: Engine
    baselines: Baselines
    baseline: Baseline
    release: VerifiedManifest


def lay_ground(folder: Path, baseline: Baseline) -> Ground:
    """Make one."""
    folder.mkdir()
    engine = open_database(folder / "database.sqlite")
    migrate(engine)
    blobs = Blobs(folder / "blobs")
    blobs.put(baseline.digest, [baseline.encode()])
    release = release_of(baseline)
    with Unit(engine) as session:
        versions.add(session, release, NOW)
        for number in range(DEVICES):
            permit = enrolment.Permit(f"device-{number}", {"site": "berlin"})
            enrolment.enrol(session, permit, Issued("", str(number), int(NOW) + 86_400), NOW)
    return Ground(engine, Baselines(blobs), baseline, release)


def messages(ground: Ground, sketches: Sequence[bytes]) -> Iterator[Payload]:
    """Yield what the devices send, one window of each in turn, as topic and payload."""
    for sequence in range(1, WINDOWS + 1):
        for number in range(DEVICES):
            window = wire.Window(
                device=f"device-{number}",
                epoch=1,
                sequence=sequence,
                model=ground.release.manifest.model,
                manifest=ground.release.digest,
                baseline=ground.baseline.digest,
                start=NOW + 10.0 * sequence,
                end=NOW + 10.0 * (sequence + 1),
                calls=ROWS,
                errors=0,
                latency=LATENCY,
                sketch=sketches[(sequence * DEVICES + number) % len(sketches)],
            )
            yield topics.up(window.device, "window"), wire.encode(window)


def store_batches(ground: Ground, payloads: Sequence[Payload]) -> None:
    """Store as the controller's ingest does."""
    size = Pace().size
    for start in range(0, len(payloads), size):
        taken = [intake.read(topic, payload) for topic, payload in payloads[start : start + size]]
        with Unit(ground.engine) as session:
            intake.store(session, taken, baselines=ground.baselines, now=NOW)


def store_singly(ground: Ground, payloads: Sequence[Payload]) -> None:
    """Store as a callback per message does: parse, check the sketch, merge the row, commit.

    It does less than ours: it keeps no watermark and knows no refusals.
    """
    for _, payload in payloads:
        window = wire.decode_uplink(payload)
        assert isinstance(window, wire.Window)
        rows = decode(window.sketch, ground.baseline).rows
        with Session(ground.engine) as session:
            session.merge(_record(window, rows))
            session.commit()


def _record(window: wire.Window, rows: int) -> WindowRecord:
    return WindowRecord(
        device=window.device,
        model=window.model,
        digest=window.manifest,
        baseline=window.baseline,
        start=int(window.start * 1000),
        end=int(window.end * 1000),
        rows=rows,
        calls=window.calls,
        errors=window.errors,
        latency=list(window.latency),
        sketch=window.sketch,
        parts=window.parts,
        received_at=int(NOW * 1000),
    )


def main() -> None:
    """Measure, and print one figure."""
    digits = Digits("1.1.0")
    chance = np.random.default_rng(1)
    sketches = [encode(digits.sketch(1.0, ROWS, chance), digits.baseline) for _ in range(KINDS)]
    rates = {}
    with TemporaryDirectory() as scratch:
        for store, count in ((store_batches, DEVICES * WINDOWS), (store_singly, NAIVE)):
            ground = lay_ground(Path(scratch) / store.__name__, digits.baseline)
            payloads = list(messages(ground, sketches))[:count]
            store(ground, payloads[:1])  # what is made once
            started = time.process_time()
            store(ground, payloads[1:])
            rates[store] = (count - 1) / (time.process_time() - started)
            ground.engine.dispose()
    publish(
        at_least(
            f"ingest, windows of {len(digits.baseline.columns)} columns per second of CPU",
            ours=rates[store_batches],
            peer=("SQLModel merge and commit per message", rates[store_singly]),
            unit="/s",
            least=GOAL,
        )
    )


if __name__ == "__main__":
    main()

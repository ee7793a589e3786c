"""A controller's database, files and certificates, as a test of one of its rooms needs them."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray
from sqlalchemy import Engine

from muster_controller.pki import Authority, Issued
from muster_controller.store import enrolment, versions
from muster_controller.store.baselines import Baselines
from muster_controller.store.blobs import Blobs
from muster_controller.store.engine import Unit, migrate, open_database
from muster_models import wire
from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.codec import encode
from muster_models.sketch.features import CLASS, CONFIDENCE, Column
from muster_models.sketch.window import sketch_rows
from muster_models.trust.verified import VerifiedManifest
from support import databases
from support.manifests import file_entry, make_manifest
from support.verified import seal

COLUMNS: dict[str, Column] = {"brightness": "numeric", CONFIDENCE: "confidence", CLASS: "class"}
NOW = 1_750_000_000.0  # Unix seconds: a moment of the year 2025


@dataclass(frozen=True)
class Ground:
    """What every room of the controller stands on.

    Attributes:
        release: A released version of ``digits`` on ``baseline``.
    """

    folder: Path
    engine: Engine
    blobs: Blobs
    baselines: Baselines
    baseline: Baseline
    release: VerifiedManifest


def lay_ground(folder: Path, *devices: str) -> Ground:
    """Make a database with one released version and some enrolled devices."""
    engine = open_database(databases.place_with_tables(folder))
    migrate(engine)
    blobs = Blobs(folder / "blobs")
    baseline = make_baseline(draw_rows(500, seed=0), COLUMNS, classes=10)
    blobs.put(baseline.digest, [baseline.encode()])
    release = release_of(baseline)
    with Unit(engine) as session:
        versions.add(session, release, NOW)
    ground = Ground(folder, engine, blobs, Baselines(blobs), baseline, release)
    for device in devices:
        enrol(ground, device)
    return ground


def draw_rows(rows: int, *, seed: int) -> NDArray[np.float64]:
    """Return what a device sees and answers: brightness, confidence, class."""
    chance = np.random.default_rng(seed)
    columns = (chance.normal(size=rows), chance.uniform(0.5, 1.0, rows), chance.integers(0, 10, rows))
    return np.column_stack(columns)


def release_of(baseline: Baseline, **changes: object) -> VerifiedManifest:
    """Return a verified version of ``digits`` that is judged by ``baseline``."""
    files = (
        file_entry("model.onnx", "model"),
        file_entry("baseline.bin", "baseline", sha256=baseline.digest, length=len(baseline.encode())),
        file_entry("golden.bin", "golden"),
    )
    return seal(make_manifest(files=files, **changes))


def enrol(ground: Ground, device: str, labels: Mapping[str, str] | None = None) -> None:
    """Enrol a device in the database; its certificate is a made-up one."""
    permit = enrolment.Permit(device, labels or {"site": device.rpartition("-")[0]})
    with Unit(ground.engine) as session:
        enrolment.enrol(session, permit, Issued("", "1", int(NOW) + 86_400), NOW)


def make_window(ground: Ground, device: str, sequence: int, **changes: object) -> wire.Window:
    """Return a window of 100 rows, ten seconds after the one before."""
    values: dict[str, object] = {
        "device": device,
        "sequence": sequence,
        "manifest": ground.release.digest,
        "start": NOW + 10.0 * sequence,
        "end": NOW + 10.0 * sequence + 10.0,
    }
    return window_of(draw_rows(100, seed=sequence), ground.baseline, **(values | changes))


def window_of(rows: NDArray[np.float64], baseline: Baseline, /, **fields: object) -> wire.Window:
    """Return the window of ``digits`` in which each of these rows was one call, all equally fast."""
    values: dict[str, object] = {
        "epoch": 1,
        "sequence": 1,
        "model": "digits",
        "baseline": baseline.digest,
        "calls": len(rows),
        "errors": 0,
        "latency": (0, len(rows), *[0] * (len(wire.LATENCY_EDGES_MS) - 1)),
        "sketch": encode(sketch_rows(rows, baseline), baseline),
    }
    return wire.Window(**(values | fields))  # type: ignore[arg-type]  # by name


def make_hello(device: str, **changes: object) -> wire.Hello:
    """Return the greeting of a device that runs nothing."""
    values: dict[str, object] = {
        "device": device,
        "desired": 0,
        "agent": "0.1.0",
        "runtimes": {"onnx": "1.32.0"},
        "hardware": "x86_64",
        "memory_bytes": 10**9,
        "disk_free_bytes": 10**9,
        "time_zone": "UTC",
        "isolation": "landlock",
        "models": (),
        "outbox": wire.OutboxStatus(1, 0, 0, 0),
    }
    return wire.Hello(**(values | changes))  # type: ignore[arg-type]  # by name


def device_report(digest: str, version: str = "1.0.0", **changes: object) -> wire.ModelReport:
    """Return what a device says of ``digits`` when it runs a version."""
    values: dict[str, object] = {
        "model": "digits",
        "phase": wire.Phase.COMMITTED,
        "current": wire.SlotReport(digest, version),
        "target": digest,
    }
    return wire.ModelReport(**(values | changes))  # type: ignore[arg-type]  # by name


def make_authority(folder: Path) -> Authority:
    """Make a CA with the controller's own certificates."""
    authority = Authority.create(folder / "pki", dt.datetime.now(dt.UTC))
    authority.ensure_own([], dt.datetime.now(dt.UTC))
    return authority


def request_certificate(name: str = "whatever") -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """Return a new key and a certificate request for it that asks for ``name``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return key, request.public_bytes(serialization.Encoding.PEM)


def issue_device(authority: Authority, device: str, folder: Path) -> Path:
    """Write ``ca.pem``, ``<device>.pem`` and ``<device>.key`` of a device and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    key, csr = request_certificate(device)
    issued = authority.issue_device(device, csr, dt.datetime.now(dt.UTC))
    (folder / "ca.pem").write_text(authority.pem)
    (folder / f"{device}.pem").write_text(issued.pem)
    (folder / f"{device}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder

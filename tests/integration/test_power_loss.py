"""Everything that writes on a device is struck at its calls to the disk, and docs/power-loss.md must hold.

The strikes are real: a shim below the C library kills the process, tears a write, or refuses. What only a
power cut does (it loses what was not synced) is for the simulated disk in tests/property/test_store_crashes.
"""

import base64
import datetime as dt
import errno
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from muster_agent.config import Folder
from muster_agent.enroll import enrol, parse_token, renew
from muster_controller.pki import Authority
from muster_models.trust import publisher
from support import device_side, invariants, shim
from support.device_writers import COURSES
from support.invariants import Told
from support.repository import NOW, SignedRepository, make_signer
from support.shim import COUNT, KILL, REFUSE, TEAR, Run, ShimProcess, Strike

DEVICE = "press-1"
SECRET = "s3cret-s3cret-s3cret"
ROOT = json.dumps({"signed": {"_type": "root", "version": 1}, "signatures": []})
STRIKES = {
    "kill": Strike(KILL),
    "torn write": Strike(TEAR),
    "disk full once": Strike(REFUSE, error=errno.ENOSPC),
    "disk full": Strike(REFUSE, error=errno.ENOSPC, lasts=True),
    "input/output error": Strike(REFUSE, error=errno.EIO),
    "read-only": Strike(REFUSE, error=errno.EROFS, lasts=True),
}
MEMORY = Path("/dev/shm")  # a folder of its own is made there
SAMPLE = 10  # points of each strike in each course, where time is short


@dataclass
class Writer:
    """One course, the folder it begins with, and what must hold when it was struck.

    Attributes:
        template: The folder of the device before; None for a new one.
        check: Fails where a rule is broken; given the folder and what the course was told.
        shown: Public keys that were sent to the controller, where that is of account.
    """

    course: str
    check: Callable[[Path, Told], None]
    template: Path | None = None
    arguments: dict[str, str] = field(default_factory=dict)
    shown: set[bytes] = field(default_factory=set)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimProcess]:
    with shim.started(tmp_path_factory.mktemp("shim")) as process:
        yield process


@pytest.fixture
def scene() -> Iterator[Path]:
    """Hand out a folder in memory: a process that is killed leaves the same there, ten times as fast."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Writer]]:
    folder = tmp_path_factory.mktemp("writers")
    authority = Authority.create(folder / "pki", dt.datetime.now(dt.UTC))
    with device_side.serving(authority) as side:
        made = [
            Writer("outbox", invariants.outbox_holds),
            Writer("store", invariants.store_holds),
            _trust(folder),
            _enrolment(side),
            _renewal(side, folder / "enrolled"),
        ]
        yield {writer.course: writer for writer in made}


def _trust(folder: Path) -> Writer:
    repository = SignedRepository(folder / "repository")
    repository.release(version="0.9.0", release=1)
    first = repository.release(version="1.0.0", release=2)
    before = folder / "trusting"
    repository.client(before / "trust").manifest("digits", "1.0.0", first.digest)
    old = repository.roots[:2]
    repository.roots = [make_signer() for _ in range(3)]
    signers = [*old, *repository.roots[:2]]
    root = publisher.rotate_root(
        repository.document("root"), repository.root_keys(), signers=signers, now=NOW
    )
    repository.controller.accept("root", root, NOW)
    second = repository.release(version="2.0.0", release=3)
    repository.withdraw("digits", "0.9.0", floor=2)

    def check(device: Path, told: Told) -> None:
        client = repository.client(device / "trust")
        invariants.trust_holds(client, told, runs=first, wanted=second, since=NOW.timestamp())
        assert client.floor("digits") == 2
        invariants.trust_has_no_garbage(device / "trust", roots=2)

    arguments = {
        "repository": str(repository.folder),
        "root": base64.b64encode(repository.root).decode(),
        "digest": second.digest,
    }
    return Writer("trust", check, before, arguments)


def _enrolment(side: device_side.DeviceSide) -> Writer:
    token = f"mst1.{DEVICE}.{SECRET}.{side.authority.fingerprint}"

    def check(device: Path, told: Told) -> None:
        folder = Folder(device)
        assert folder.settings.exists() or not told["enrolled"]
        if not folder.settings.exists():
            enrol(side.url, parse_token(token), folder)
        invariants.identity_holds(folder)
        invariants.identity_has_no_garbage(folder)
        invariants.one_key_was_shown(folder, writer.shown)

    writer = Writer("enrolment", check, arguments={"url": side.url, "token": token})

    def answer(body: dict[str, Any], _peer: str | None) -> device_side.Answer:
        writer.shown.add(_public_key(body["csr"]))
        content = {
            "device": DEVICE,
            "certificate": device_side.sign(side.authority, DEVICE, body["csr"]),
            "ca": side.authority.pem,
            "root": ROOT,
            "mqtt": {"host": "127.0.0.1", "port": 8883},
            "repository": "https://127.0.0.1:8421/repository/",
        }
        return 200, json.dumps(content).encode()

    side.handlers["/enrol"] = answer
    return writer


def _public_key(request: str) -> bytes:
    key = x509.load_pem_x509_csr(request.encode()).public_key()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _renewal(side: device_side.DeviceSide, enrolled: Path) -> Writer:
    token = f"mst1.{DEVICE}.{SECRET}.{side.authority.fingerprint}"
    settings = enrol(side.url, parse_token(token), Folder(enrolled))
    certificate = (enrolled / "identity/device.pem").read_bytes()
    side.handlers["/renew"] = lambda body, peer: (
        200,
        json.dumps({"certificate": device_side.sign(side.authority, str(peer), body["csr"])}).encode(),
    )

    def check(device: Path, told: Told) -> None:
        folder = Folder(device)
        invariants.identity_holds(folder)
        if told["renewed"]:
            assert (folder.identity / "device.pem").read_bytes() != certificate
        renew(settings, folder)
        invariants.identity_holds(folder)
        invariants.identity_has_no_garbage(folder)

    return Writer("renewal", check, enrolled)


def strike(process: ShimProcess, writer: Writer, scene: Path, what: Strike) -> shim.Outcome:
    """Run a course with one strike in a folder of its own, and check what is left."""
    device = scene / "device"
    if writer.template is None:
        device.mkdir(parents=True)
    else:
        shutil.copytree(writer.template, device, symlinks=True)
    writer.shown.clear()
    told = scene / "told"
    outcome = process.run(Run(writer.course, str(device), str(told), writer.arguments, what))

    assert outcome.status in {0, shim.REFUSED, -9}, outcome.error
    try:
        writer.check(device, invariants.read_told(told))
    except Exception as error:
        error.add_note(f"{writer.course}: {what}, {outcome}, files {sorted(invariants.files_below(device))}")
        raise
    shutil.rmtree(scene)
    return outcome


def calls_of(process: ShimProcess, writer: Writer, scene: Path, mode: int) -> int:
    """Return how many places for a strike a course has."""
    never = Strike(mode, call=1 << 30)
    outcome = strike(process, writer, scene, never)
    assert outcome.status == 0
    return outcome.calls


def strikes(
    process: ShimProcess, writer: Writer, scene: Path, what: Strike, choose: Callable[[int], Sequence[int]]
) -> int:
    """Strike a course at chosen calls; return how many."""
    calls = calls_of(process, writer, scene / "unharmed", TEAR if what.mode == TEAR else COUNT)
    points = choose(calls)
    for point in points:
        at = Strike(what.mode, point, what.error, what.lasts)
        outcome = strike(process, writer, scene / str(point), at)
        assert outcome.status != 0 or what.mode == REFUSE, "the process was not struck"
    return len(points)


@pytest.mark.parametrize("what", STRIKES.values(), ids=STRIKES)
@pytest.mark.parametrize("course", COURSES)
def test_a_strike_at_some_calls_breaks_no_rule(
    process: ShimProcess, writers: dict[str, Writer], scene: Path, course: str, what: Strike
) -> None:
    chance = Random(f"{course}/{what}")

    def some(calls: int) -> list[int]:
        return sorted(chance.sample(range(1, calls + 1), min(calls, SAMPLE)))

    assert strikes(process, writers[course], scene, what, some) >= 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("what", STRIKES.values(), ids=STRIKES)
@pytest.mark.parametrize("course", COURSES)
def test_a_strike_at_any_call_breaks_no_rule(
    process: ShimProcess, writers: dict[str, Writer], scene: Path, course: str, what: Strike
) -> None:
    strikes(process, writers[course], scene, what, _all)


@pytest.mark.parametrize("what", [STRIKES["kill"], STRIKES["torn write"], STRIKES["disk full once"]])
def test_a_writer_that_is_wrong_on_purpose_is_found(
    process: ShimProcess, tmp_path: Path, what: Strike
) -> None:
    (tmp_path / "before").mkdir()
    (tmp_path / "before/file").write_bytes(b"old" * 100)

    def check(device: Path, _told: Told) -> None:
        assert (device / "file").read_bytes() in {b"old" * 100, b"new" * 100}

    with pytest.raises(AssertionError, match="in place"):
        strikes(process, Writer("in place", check, tmp_path / "before"), tmp_path, what, _all)


def _all(calls: int) -> Sequence[int]:
    return range(1, calls + 1)


def test_there_are_more_than_a_thousand_points(
    process: ShimProcess, writers: dict[str, Writer], scene: Path
) -> None:
    points = sum(
        calls_of(process, writer, scene / course / str(mode), mode) * count
        for course, writer in writers.items()
        for mode, count in ((COUNT, 5), (TEAR, 1))
    )

    assert len(STRIKES) == 6
    assert points >= 1000

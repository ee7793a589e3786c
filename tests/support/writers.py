"""What writes on a device, with the folder that it begins with and what must hold whatever becomes of it."""

import base64
import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from muster_agent.config import Folder
from muster_agent.enroll import enrol, parse_token, renew
from muster_controller.pki import Authority
from muster_models.trust import publisher
from support import device_side, invariants
from support.device_writers import COURSES
from support.invariants import Told
from support.repository import NOW, SignedRepository, make_signer

DEVICE = "press-1"
NAMES = (*COURSES, "trust anew")
SECRET = "s3cret-s3cret-s3cret"
ROOT = json.dumps({"signed": {"_type": "root", "version": 1}, "signatures": []})


@dataclass
class Writer:
    """One course, the folder it begins with, and what must hold when it was struck.

    Attributes:
        template: The folder of the device before; None for a new one.
        check: Fails where a rule is broken; given the folder and what the course was told.
        shown: Public keys that were sent to the controller, where that is of account, with the moment in
            nanoseconds of the monotonic clock.
    """

    course: str
    check: Callable[[Path, Told], None]
    template: Path | None = None
    arguments: dict[str, str] = field(default_factory=dict)
    shown: dict[bytes, int] = field(default_factory=dict)


@contextmanager
def writers_of_a_device(folder: Path) -> Iterator[dict[str, Writer]]:
    """Prepare every writer, by its name; below ``folder`` lies what they begin with."""
    authority = Authority.create(folder / "pki", dt.datetime.now(dt.UTC))
    with device_side.serving(authority) as side:
        known, anew = _trust(folder)
        made = {
            "outbox": Writer("outbox", invariants.outbox_holds),
            "store": Writer("store", invariants.store_holds),
            "trust": known,
            "trust anew": anew,
            "enrolment": _enrolment(side),
            "renewal": _renewal(side, folder / "enrolled"),
        }
        yield made


def _trust(folder: Path) -> tuple[Writer, Writer]:
    """Return what a device does that trusts already, and one that has never seen the repository."""
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

    def check_anew(device: Path, told: Told) -> None:
        client = repository.client(device / "trust")
        invariants.floors_hold(client, told)
        invariants.trust_goes_on(client, second)
        invariants.trust_has_no_garbage(device / "trust", roots=2)

    return Writer("trust", check, before, arguments), Writer("trust", check_anew, None, arguments)


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
        writer.shown.setdefault(_public_key(body["csr"]), time.monotonic_ns())
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

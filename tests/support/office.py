"""A controller as operators and devices meet it: a founded folder, both HTTP applications, offline keys."""

import base64
import contextlib
import datetime as dt
import hashlib
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from securesystemslib.signer import Signer

from muster_controller.api.app import PREFIX, make_api
from muster_controller.config import Folder, Settings
from muster_controller.founding import found
from muster_controller.pki import Issued
from muster_controller.service import publishing
from muster_controller.service.context import Context
from muster_controller.service.opening import Opened, open_folder
from muster_controller.service.publishing import Submission
from muster_controller.store import devices as devices_store
from muster_controller.store import enrolment, running, windows
from muster_controller.store.views.models import VersionDetail
from muster_models import toml_file, wire
from muster_models.golden import Golden, Vector, encode_golden
from muster_models.manifest import FileRole, Manifest, encode
from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.tensors import pack
from muster_models.trust import publisher
from muster_models.trust.keys import public_key
from muster_models.trust.roles import model_role
from muster_models.wire import Phase
from support import databases
from support.controller import window_of
from support.manifests import file_entry, make_manifest
from support.repository import make_signer

with warnings.catch_warnings():
    # It prefers a fork of httpx that is not here.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

OPERATOR = "operator"
START = 1_800_000_000.0  # Unix seconds: a moment of the year 2027


def armour(document: bytes) -> str:
    return base64.b64encode(document).decode()


@dataclass
class Clock:
    """Time that stands until a test moves it."""

    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Draft:
    """A version that is signed but not handed over yet."""

    manifest: Manifest
    document: bytes
    role: bytes
    targets: bytes | None
    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.document).hexdigest()

    @property
    def body(self) -> dict[str, str]:
        """What the API takes."""
        targets = {} if self.targets is None else {"targets": armour(self.targets)}
        return {"manifest": armour(self.document), "role": armour(self.role), **targets}


@dataclass
class Office:
    """One controller without its broker and its loop.

    Args:
        root, targets: The offline keys.
        release_keys: The offline key of each model.
    """

    opened: Opened
    clock: Clock
    root: Signer = field(default_factory=make_signer)
    targets: Signer = field(default_factory=make_signer)
    release_keys: dict[str, Signer] = field(default_factory=dict)
    baseline: Baseline = field(default_factory=lambda: make_test_baseline())  # noqa: PLW0108 - defined below

    @property
    def context(self) -> Context:
        return self.opened.context

    @property
    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.clock.now, dt.UTC)

    def offline_documents(self) -> tuple[bytes, bytes]:
        """Return a root and targets that name this controller's online keys."""
        online = self.context.online
        root = publisher.make_root(
            [self.root],
            1,
            targets=self.targets.public_key,
            snapshot=public_key(online.snapshot.encode()),
            timestamp=public_key(online.timestamp.encode()),
            now=self.now,
        )
        director = public_key(online.director.encode())
        return root, publisher.make_targets(self.targets, director=director, now=self.now)

    def install(self) -> None:
        """Begin the signed repository."""
        root, targets = self.offline_documents()
        publishing.install(self.context, OPERATOR, root=root, targets=targets)

    def draft(
        self,
        version: str = "1.0.0",
        *,
        release: int | None = None,
        signer: Signer | None = None,
        **changes: Any,
    ) -> Draft:
        """Build and sign a version; ``changes`` replace fields of the manifest."""
        model = str(changes.get("model", "digits"))
        files: dict[FileRole, bytes] = {
            "model": f"the model of {version}".encode(),
            "baseline": self.baseline.encode(),
            "golden": make_test_golden(),
        }
        entries = tuple(
            file_entry(f"{role}.bin", role, sha256=digest_of(content), length=len(content))
            for role, content in files.items()
        )
        role = self.context.repository.current(model_role(model))
        held = self.context.repository.listed(model)
        manifest = make_manifest(
            **{
                "version": version,
                "release": len(held) + 1 if release is None else release,
                "files": entries,
                **changes,
            }
        )
        document = encode(manifest)
        self.release_keys.setdefault(model, make_signer())
        targets = self._delegate(model)
        keys = [signer or self.release_keys[model]]
        signed = publisher.release(role, document, signers=keys, now=self.now)
        return Draft(
            manifest, document, signed, targets, {digest_of(content): content for content in files.values()}
        )

    def release(self, version: str = "1.0.0", **changes: Any) -> VersionDetail:
        """Publish a version as the API would."""
        draft = self.draft(version, **changes)
        for sha256, content in draft.files.items():
            self.context.blobs.put(sha256, [content])
        submission = Submission(draft.document, draft.role, draft.targets)
        return publishing.release(self.context, OPERATOR, submission)

    def enrol(self, *devices: str, **labels: str) -> None:
        """Put devices into the database, seen just now; their site is the first part of their name."""
        with self.context.unit() as session:
            for device in devices:
                permit = enrolment.Permit(device, labels or {"site": device.rpartition("-")[0]})
                enrolment.enrol(
                    session, permit, Issued("", "1", int(self.clock.now) + 86_400), self.clock.now
                )
            devices_store.saw(session, devices, self.clock.now)

    def report(self, device: str, **fields: Any) -> None:
        """Let a device report of ``digits``; ``current`` and ``target`` are digests."""
        current = fields.pop("current", None)
        slot = None if current is None else wire.SlotReport(current, "1.0.0")
        values: dict[str, Any] = {"model": "digits", "phase": Phase.COMMITTED, "current": slot, **fields}
        with self.context.unit() as session:
            stamp = running.Stamp(device, 1, int(self.clock.now), self.clock.now)
            running.Book(session, [device]).apply(stamp, wire.ModelReport(**values))

    def add_window(
        self, device: str, digest: str, *, end: float, shift: float = 0.0, rows: int = 200
    ) -> None:
        """Store a window of normal values whose mean is moved by ``shift``."""
        seed = int(hashlib.sha256(f"{device}{end}".encode()).hexdigest()[:8], 16)
        values = np.random.default_rng(seed).normal(shift, 1.0, size=(rows, 1))
        window = window_of(values, self.baseline, device=device, manifest=digest, start=end - 10, end=end)
        with self.context.unit() as session:
            windows.add(session, [(window, rows)], self.clock.now)

    def _delegate(self, model: str) -> bytes | None:
        """Return targets with a role for the model; None where it has one."""
        present = self.context.repository.current("targets")
        assert present is not None
        if f'"{model_role(model)}"'.encode() in present:
            return None
        keys = [self.release_keys[model].public_key]
        return publisher.add_model(present, model, keys=keys, threshold=1, signer=self.targets, now=self.now)


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_test_baseline() -> Baseline:
    return make_baseline(np.random.default_rng(1).normal(size=(500, 1)), {"brightness": "numeric"})


def make_test_golden() -> bytes:
    inputs = pack({"image": np.zeros((1, 64), dtype=np.float32)})
    outputs = pack({"probabilities": np.full((1, 10), 0.1, dtype=np.float32)})
    return encode_golden(Golden((Vector(inputs, outputs),), 1e-3, 1e-3))


def open_office(folder: Path, *, clock: Clock | None = None, **settings: Any) -> Office:
    """Found a controller in ``folder`` and open it."""
    held = clock or Clock()
    wanted = Settings(**{"database": databases.setting(folder), **settings})
    made = _found(folder, wanted, held.now)
    return Office(open_folder(made, wanted, clock=held), held)


# Mode and content of each file of a folder that was founded at START, once there was one.
_founded: dict[str, tuple[int, bytes]] = {}


def _found(folder: Path, wanted: Settings, now: float) -> Folder:
    """Found a controller; an ordinary one by a copy of the first one, which is five times as fast."""
    if wanted.database or wanted.names != Settings().names or now != START:
        return found(folder, wanted, dt.datetime.fromtimestamp(now, dt.UTC))
    if not _founded:
        found(folder, wanted, dt.datetime.fromtimestamp(now, dt.UTC))
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                _founded[str(path.relative_to(folder))] = path.stat().st_mode & 0o777, path.read_bytes()
        return Folder(folder)
    for name, (mode, content) in _founded.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    made = Folder(folder)
    made.settings.write_bytes(toml_file.render(wanted).encode())
    return made


class Client:
    """The API as a program calls it, with the operator's token."""

    def __init__(self, office: Office) -> None:
        self.app = make_api(office.context, office.opened.token)
        self.token = office.opened.token
        # Errors that no route foresaw must come back as answers, as they do in the server.
        self._http = TestClient(self.app, raise_server_exceptions=False)

    def ask(self, method: str, path: str, *, token: str | None = None, **content: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        answer: httpx.Response = self._http.request(method, f"{PREFIX}{path}", headers=headers, **content)
        return answer

    def ask_without_token(self, method: str, path: str) -> httpx.Response:
        answer: httpx.Response = self._http.request(method, f"{PREFIX}{path}")
        return answer

    def get(self, path: str, **query: Any) -> Any:
        answer = self.ask("GET", path, params=query)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, status: int = 200) -> Any:
        answer = self.ask("POST", path, json=body or {})
        assert answer.status_code == status, answer.text
        return answer.json()

    def refusal(self, method: str, path: str, *, status: int, **content: Any) -> dict[str, str]:
        answer = self.ask(method, path, **content)
        assert answer.status_code == status, answer.text
        error: dict[str, str] = answer.json()["error"]
        return error

    def upload(self, files: Mapping[str, bytes]) -> None:
        for sha256, content in files.items():
            answer = self.ask("PUT", f"/blobs/{sha256}", content=content)
            assert answer.status_code == httpx.codes.NO_CONTENT, answer.text


@contextlib.contextmanager
def serving(server: uvicorn.Server, listener: socket.socket) -> Iterator[None]:
    """Run a server in a thread until the block ends."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def names_of(items: Sequence[Mapping[str, Any]], key: str = "id") -> list[Any]:
    return [item[key] for item in items]

"""A fleet of one: an honest signed repository behind a server that an attacker holds, and one real device.

The attacker answers any path as he likes (``serve``) and, with stolen online keys, publishes documents that
the controller would refuse (``publish``). When he leaves, the honest files are there again.
"""

import datetime as dt
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from adversary.device import Device
from muster_models.manifest import digest
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.features import column_kinds
from muster_models.trust import publisher
from muster_models.trust.fetcher import Limits
from muster_models.trust.repository import Repository
from muster_models.trust.roles import Facts, facts_of, model_role, stamp
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import DesiredModel
from support.controller import Ground, draw_rows, lay_ground
from support.http_server import LoopbackServer, Route, fixed, serving
from support.manifests import make_manifest
from support.repository import NOW, SignedRepository, make_signer

DAY = dt.timedelta(days=1)
TOP = ("timestamp", "snapshot", "targets")
HASTY = Limits(
    silence=0.25, patience=0.25, minimum_rate=100_000.0
)  # slow servers are caught in a test's time


def contents(version: str) -> dict[str, bytes]:
    """Return the files of a version of a model."""
    manifest = make_manifest()
    kinds = column_kinds(manifest.features, manifest.prediction)
    rows = draw_rows(200, seed=sum(version.encode()))
    return {
        "model.onnx": f"the model of {version} ".encode() * 40,
        "baseline.bin": make_baseline(rows, kinds, classes=10).encode(),
        "golden.bin": f"the tests of {version} ".encode() * 40,
    }


@functools.cache
def _prepared() -> SignedRepository:
    """Make one repository for all scenarios: ``digits`` 1.0.0 and 1.1.0, ``weather`` 1.0.0."""
    folder = Path(tempfile.mkdtemp(prefix="adversary-"))
    repository = SignedRepository(folder)
    repository.release(contents("1.0.0"))
    repository.release(contents("1.1.0"), version="1.1.0", release=2)
    repository.release(contents("weather"), model="weather")
    return repository


class World:
    """Everything that one scenario may touch.

    Args:
        folder: Of this scenario alone.

    Attributes:
        repository: The honest publisher and controller, with every key.
        server: What the device believes to be the repository.
        conceded: Digests that an asserted limit lets in.
        device_time: The device's clock in Unix seconds; None for a right one.
    """

    def __init__(self, folder: Path, server: LoopbackServer, routes: dict[str, Route]) -> None:
        self.folder = folder
        self.server = server
        self.routes = routes
        self.repository = _copied(folder / "repository")
        server.folder = self.repository.folder
        self.conceded: set[str] = set()
        self.genuine: set[str] = set()
        self.device_time: float | None = None
        self._others: list[Device] = []
        self.old = self.listed("1.0.0")
        self.new = self.listed("1.1.0")
        self.weather = self.listed("1.0.0", "weather")

    # The honest side

    def listed(self, version: str, model: str = "digits") -> VerifiedManifest:
        """Return a version that was released."""
        sha256 = self.repository.controller.listed(model)[version]
        document = (self.repository.folder / "blobs" / sha256).read_bytes()
        self.genuine.add(sha256)
        return self.repository.controller.verify(document)

    def release(self, version: str, **changes: Any) -> VerifiedManifest:
        """Release another version of ``digits``, honestly."""
        verified = self.repository.release(contents(version), version=version, **changes)
        self.genuine.add(verified.digest)
        return verified

    def order(self, version: VerifiedManifest, **changes: Any) -> DesiredModel:
        """Return what a desired state says to ask for a version."""
        manifest = version.manifest
        return DesiredModel(manifest.model, manifest.version, version.digest, **changes)

    def pass_days(self, days: float, *, renew: bool = False) -> None:
        """Let time pass for everybody; the controller signs again what it can, or does not."""
        self.repository.now += days * DAY
        if renew:
            self.repository.controller.renew(self.repository.now)

    def replace_online_keys(self) -> None:
        """Let the root keys name a new timestamp and a new snapshot key, as after a theft."""
        repository = self.repository
        repository.timestamp_key, repository.snapshot_key = make_signer(), make_signer()
        root = publisher.rotate_root(
            repository.document("root"),
            repository.root_keys(),
            signers=repository.roots[:2],
            now=repository.now,
        )
        version = Metadata.from_bytes(root).signed.version
        (repository.metadata / f"{version}.root.json").write_bytes(root)
        repository.controller = Repository(
            repository.folder, repository.snapshot_key, repository.timestamp_key
        )
        assert repository.controller.renew(repository.now)

    def replace_release_key(self) -> None:
        """Let the targets key give ``digits`` another release key, which signs the present releases again."""
        repository = self.repository
        repository.release_keys["digits"] = [make_signer()]
        targets = publisher.change_keys(
            repository.document("targets"),
            "model-digits",
            keys=[signer.public_key for signer in repository.release_keys["digits"]],
            threshold=1,
            signer=repository.targets_key,
            now=repository.now,
        )
        role = publisher.renew(
            repository.document("model-digits"),
            signers=repository.release_keys["digits"],
            now=repository.now,
        )
        repository.controller.accept_all({"targets": targets, "model-digits": role}, repository.now)

    # The device

    @cached_property
    def device(self) -> Device:
        """The device, which runs ``digits`` 1.0.0 and has 1.1.0 before it."""
        device = self.new_device("device")
        assert device.install(self.order(self.old)) is None
        self.server.requests.clear()
        return device

    def new_device(self, name: str = "another", *, limits: Limits | None = None) -> Device:
        """Return a device that was just enrolled, or one that starts again on the same disk."""
        device = Device(
            self.folder / name,
            root=self.repository.root,
            base_url=self.url,
            clock=self.clock,
            elapsed=self.repository.time,
            limits=limits,
        )
        self._others.append(device)
        return device

    def restart(self, *, limits: Limits | None = None) -> Device:
        """Return the device after its process was started again."""
        self.device.close()
        return self.new_device("device", limits=limits)

    def clock(self) -> float:
        return self.repository.time() if self.device_time is None else self.device_time

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def update(self) -> object:
        """Let the device install 1.1.0, the way of nearly every scenario; return why it does not."""
        return self.device.install(self.order(self.new))

    # The attacker

    def serve(self, path: str, answer: bytes | Route) -> None:
        """Answer for a path below the repository, once the device runs what it runs."""
        assert self.device is not None
        self.routes[f"/{path}"] = fixed(200, answer) if isinstance(answer, bytes) else answer

    def path(self, role: str) -> str:
        """Return where devices look for the present document of a role."""
        if role == "timestamp":
            return "metadata/timestamp.json"
        return f"metadata/{self.version(role)}.{role}.json"

    def version(self, role: str) -> int:
        return int(Metadata.from_bytes(self.repository.document(role)).signed.version)

    def forge(
        self,
        role: str,
        change: Callable[[Any], object] = lambda _signed: None,
        *,
        signers: Sequence[Signer] = (),
        bump: bool = True,
    ) -> bytes:
        """Return the present document of a role with a change, signed by these keys alone."""
        metadata: Metadata[Any] = Metadata.from_bytes(self.repository.document(role))
        if bump:
            metadata.signed.version += 1
        change(metadata.signed)
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def publish(
        self,
        documents: Mapping[str, bytes],
        *,
        change_snapshot: Callable[[Snapshot], object] = lambda _: None,
        change_timestamp: Callable[[Timestamp], object] = lambda _: None,
    ) -> None:
        """Serve documents under a new snapshot and timestamp, with stolen online keys."""
        repository = self.repository
        snapshot = Metadata[Snapshot].from_bytes(repository.document("snapshot"))
        timestamp = Metadata[Timestamp].from_bytes(repository.document("timestamp"))
        for role, document in documents.items():
            version = json.loads(document)["signed"]["version"]
            snapshot.signed.meta[f"{role}.json"] = MetaFile(version)
            self.serve(f"metadata/{version}.{role}.json", document)
        snapshot.signed.version += 1
        issued = int(repository.time())
        stamp(snapshot.signed, Facts("snapshot", issued))
        change_snapshot(snapshot.signed)
        snapshot.sign(repository.snapshot_key)
        self.serve(f"metadata/{snapshot.signed.version}.snapshot.json", snapshot.to_bytes())
        timestamp.signed.version += 1
        timestamp.signed.snapshot_meta.version = snapshot.signed.version
        stamp(timestamp.signed, Facts("timestamp", issued))
        change_timestamp(timestamp.signed)
        timestamp.sign(repository.timestamp_key)
        self.serve("metadata/timestamp.json", timestamp.to_bytes())

    def forge_release(
        self, document: bytes, *, signers: Sequence[Signer], model: str = "digits", version: str = "6.6.6"
    ) -> tuple[bytes, DesiredModel]:
        """Return a role document that lists any bytes as ``model@version``, and an order for it."""

        def add(signed: Targets) -> None:
            path = f"models/{model}/{version}/manifest.json"
            custom = {"custom": {"release": 6}}
            hashes = {"sha256": digest(document)}
            entry = {"length": len(document), "hashes": hashes, **custom}
            signed.targets[path] = type(next(iter(signed.targets.values()))).from_dict(entry, path)
            facts = facts_of(signed, model_role(model))
            stamp(signed, Facts(facts.role, int(self.repository.time()), facts.floor, 6))

        self.serve(f"blobs/{digest(document)}", document)
        role = self.forge(model_role(model), add, signers=signers)
        return role, DesiredModel(model, version, digest(document))

    def leave(self) -> None:
        """Let the attacker go: the honest repository answers again."""
        self.routes.clear()
        self.device_time = None

    # The controller

    @cached_property
    def ground(self) -> Ground:
        """A controller's database in which ``berlin-1`` and ``oslo-1`` are enrolled."""
        return lay_ground(_made(self.folder / "controller"), "berlin-1", "oslo-1")

    # The end

    @property
    def has_device(self) -> bool:
        return "device" in vars(self)

    def check_store(self) -> None:
        """Assert that nothing but what was signed lies complete on any disk."""
        for device in self._others:
            for path in (device.folder / "store/blobs").glob("[0-9a-f]" * 64):
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
            held = {path.name for path in (device.folder / "store/manifests").glob("[0-9a-f]" * 64)}
            assert held <= self.genuine | self.conceded, "a version that nobody released was let in"

    def close(self) -> None:
        for device in self._others:
            device.close()
        if "ground" in vars(self):
            self.ground.engine.dispose()


@contextmanager
def playing(folder: Path) -> Iterator[World]:
    """Run a world for the length of one scenario."""
    routes: dict[str, Route] = {}
    with serving(routes, folder=folder) as server:
        server.routes = routes
        world = World(folder, server, routes)
        try:
            yield world
        finally:
            world.close()


def _copied(folder: Path) -> SignedRepository:
    """Return the prepared repository in a folder of its own; keys are shared, files are not."""
    prepared = _prepared()
    shutil.copytree(prepared.folder, folder)
    copy = object.__new__(SignedRepository)
    vars(copy).update(vars(prepared))
    copy.folder, copy.now = folder, NOW
    copy.release_keys = dict(prepared.release_keys)
    copy.roots = list(prepared.roots)
    copy.controller = Repository(folder, copy.snapshot_key, copy.timestamp_key)
    return copy


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder

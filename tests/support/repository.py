"""A whole signed repository in a folder: keys, root, targets, models, releases, and the static files of them.

Everything is the real code; only the network is replaced, by ``FolderFetcher``. The knobs that a thief would
turn (other keys, other bytes) are the public signers and the folder itself.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api import exceptions as tuf

from muster_models.errors import TransferError
from muster_models.manifest import FileEntry, Manifest, digest, encode
from muster_models.trust import publisher
from muster_models.trust.client import TrustClient
from muster_models.trust.director import sign_desired
from muster_models.trust.glance import Changed, RepositoryFetcher
from muster_models.trust.publisher import RootKeys
from muster_models.trust.repository import Repository
from muster_models.trust.roles import model_role
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Desired, DesiredModel
from support.manifests import make_manifest

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
BASE_URL = "http://repository.test"
DEVICE = "berlin-1"
FILES = {"model.onnx": b"a model", "baseline.bin": b"a baseline", "golden.bin": b"golden vectors"}
ROLES = {"model.onnx": "model", "baseline.bin": "baseline", "golden.bin": "golden"}


def make_signer() -> Signer:
    return CryptoSigner.generate_ed25519()


class FolderFetcher(RepositoryFetcher):
    """Serves ``BASE_URL`` from a folder.

    Attributes:
        requests: Paths below the base URL, in order.
        online: False makes every request fail.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.online = True

    def fetch_changed(self, url: str, *, tag: str | None, limit: int) -> Changed | None:
        """Answer as the controller does."""
        assert limit > 0
        try:
            content = b"".join(self._fetch(url))
        except tuf.DownloadError as error:
            raise TransferError(str(error)) from error
        found = f'"{digest(content)[:32]}"'
        return None if found == tag else Changed(content, found)

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(f"{BASE_URL}/")
        self.requests.append(path)
        if not self.online:
            raise tuf.DownloadError("no network")
        try:
            return iter([(self.folder / path).read_bytes()])
        except FileNotFoundError as error:
            raise tuf.DownloadHTTPError(path, 404) from error


class SignedRepository:
    """One repository with a 2-of-3 root, and one release key per model unless others are given.

    Args:
        folder: Becomes the static layout: ``metadata/`` and ``blobs/``.

    Attributes:
        now: The controller's and the publisher's time; move it to make things expire.
        release_keys: The signers of each model.
    """

    def __init__(self, folder: Path, *, now: dt.datetime = NOW) -> None:
        self.folder = folder
        self.now = now
        self.roots = [make_signer() for _ in range(3)]
        self.targets_key = make_signer()
        self.snapshot_key = make_signer()
        self.timestamp_key = make_signer()
        self.director_key = make_signer()
        self.release_keys: dict[str, list[Signer]] = {}
        self.controller = Repository(folder, self.snapshot_key, self.timestamp_key)
        self.controller.install(self._first_root(), self._first_targets(), now)

    @property
    def root(self) -> bytes:
        """What a device pins."""
        return self.controller.root_v1

    def time(self) -> float:
        """Return ``now`` as Unix seconds."""
        return self.now.timestamp()

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata"

    def document(self, role: str) -> bytes:
        """Return the present document of a role, which must exist."""
        document = self.controller.current(role)
        assert document is not None
        return document

    def root_keys(self) -> RootKeys:
        """Return what the next root should say, from the signers as they stand now."""
        return RootKeys(
            [signer.public_key for signer in self.roots],
            2,
            self.targets_key.public_key,
            self.snapshot_key.public_key,
            self.timestamp_key.public_key,
        )

    def add_model(self, model: str, *, signers: Sequence[Signer] | None = None, threshold: int = 1) -> None:
        keys = list(signers) if signers is not None else [make_signer()]
        targets = publisher.add_model(
            self.document("targets"),
            model,
            keys=[signer.public_key for signer in keys],
            threshold=threshold,
            signer=self.targets_key,
            now=self.now,
        )
        self.controller.accept("targets", targets, self.now)
        self.release_keys[model] = keys

    def manifest(self, files: Mapping[str, bytes] = FILES, **changes: object) -> Manifest:
        """Return a manifest whose file entries describe ``files``, named as in ``FILES``."""
        entries = [
            {"name": name, "role": ROLES[name], "sha256": digest(content), "length": len(content)}
            for name, content in files.items()
        ]
        return make_manifest(files=msgspec.convert(entries, tuple[FileEntry, ...]), **changes)

    def release(
        self,
        files: Mapping[str, bytes] = FILES,
        *,
        manifest: Manifest | None = None,
        signers: Sequence[Signer] | None = None,
        **changes: object,
    ) -> VerifiedManifest:
        """Release a version and write its files; ``changes`` replace fields of the manifest."""
        made = manifest if manifest is not None else self.manifest(files, **changes)
        document = encode(made)
        if made.model not in self.release_keys:
            self.add_model(made.model)
        keys = signers if signers is not None else self.release_keys[made.model]
        role = publisher.release(
            self.controller.current(model_role(made.model)), document, signers=keys, now=self.now
        )
        verified = self.controller.verify_release(role, document)
        for content in (document, *files.values()):
            self.put_blob(content)
        self.controller.accept(model_role(made.model), role, self.now)
        return verified

    def withdraw(self, model: str, version: str, *, floor: int | None = None) -> None:
        role = publisher.withdraw(
            self.document(model_role(model)),
            version,
            floor=floor,
            signers=self.release_keys[model],
            now=self.now,
        )
        self.controller.accept(model_role(model), role, self.now)

    def put_blob(self, content: bytes) -> Path:
        path = self.folder / "blobs" / hashlib.sha256(content).hexdigest()
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def fetcher(self) -> FolderFetcher:
        return FolderFetcher(self.folder)

    def client(
        self,
        folder: Path,
        *,
        fetcher: RepositoryFetcher | None = None,
        clock: Callable[[], float] | None = None,
        base_url: str = BASE_URL,
    ) -> TrustClient:
        """Return a device's client whose state lives in ``folder``; its clock is ``time`` by default."""
        return TrustClient(
            folder,
            root=self.root,
            base_url=base_url,
            fetcher=fetcher or self.fetcher(),
            clock=clock or self.time,
        )

    def desired(
        self, *versions: VerifiedManifest, device: str = DEVICE, sequence: int = 1, days: float = 30
    ) -> Desired:
        """Return desired state for ``versions``, issued now."""
        issued = self.now.timestamp()
        models = tuple(DesiredModel(v.manifest.model, v.manifest.version, v.digest) for v in versions)
        return Desired(device, sequence, issued, issued + days * 86_400, models)

    def envelope(self, desired: Desired, *, signer: Signer | None = None) -> bytes:
        return sign_desired(desired, signer or self.director_key)

    def _first_root(self) -> bytes:
        return publisher.make_root(
            self.roots,
            2,
            targets=self.targets_key.public_key,
            snapshot=self.snapshot_key.public_key,
            timestamp=self.timestamp_key.public_key,
            now=self.now,
        )

    def _first_targets(self) -> bytes:
        return publisher.make_targets(self.targets_key, director=self.director_key.public_key, now=self.now)

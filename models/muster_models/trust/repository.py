"""The controller's side of the signed repository: checks what publishers send, signs snapshot and timestamp.

It holds no key that could release a version. What it writes are static files that any cache may serve.
"""

import contextlib
import datetime as dt
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp

from muster_models.durable import replace
from muster_models.errors import ConflictError, NotFoundError, Reason, StorageError, TrustError
from muster_models.manifest import digest, parse
from muster_models.trust import listing, roles
from muster_models.trust.anchor import verify_role, verify_roots, verify_top
from muster_models.trust.roles import LIFETIMES, MODEL_PREFIX, Facts, facts_of, model_role
from muster_models.trust.signatures import verify
from muster_models.trust.state import State, follow, verify_state
from muster_models.trust.verified import VerifiedManifest

S = TypeVar("S", Snapshot, Timestamp)
Spare = Sequence[Mapping[str, Signer]]
DAY = dt.timedelta(days=1)


class Repository:
    """One repository in one folder. Safe to use from several threads of one process.

    Args:
        folder: Owned by this repository.
        snapshot: The key that signs which documents belong together.
        timestamp: The key that signs which snapshot is the newest.
        spare: Asked for further keys of this controller, as ``snapshot`` and ``timestamp``, that a later root
            may name instead.

    Attributes:
        metadata: The folder to serve as ``<base>/metadata``; files in it are never removed.
    """

    def __init__(
        self, folder: Path, snapshot: Signer, timestamp: Signer, *, spare: Callable[[], Spare] = lambda: ()
    ) -> None:
        self.metadata = folder / "metadata"
        self._signers: Mapping[str, Signer] = {"snapshot": snapshot, "timestamp": timestamp}
        self._spare = spare
        self._lock = threading.Lock()
        self._state: State | None = None
        self._online: dict[str, Metadata[Snapshot] | Metadata[Timestamp]] = {}
        if self.is_installed:
            self._load()

    @property
    def is_installed(self) -> bool:
        """Whether root and targets were installed."""
        return (self.metadata / "timestamp.json").exists()

    @property
    def root_v1(self) -> bytes:
        """The first root document: the one that devices pin.

        Raises:
            NotFoundError: Nothing is installed.
        """
        self._installed()
        return self._read("1.root.json")

    def install(self, root: bytes, targets: bytes, now: dt.datetime) -> None:
        """Begin a repository with the publisher's first root and targets.

        Raises:
            ConflictError: There is one already.
            TrustError: A signature is missing, something expired, or root names other keys than this
                controller's for snapshot and timestamp.
        """
        with self._lock:
            if self.is_installed:
                raise ConflictError(
                    "a repository is installed already; send the next root or targets instead"
                )
            first = verify_roots(root, [])
            if first.version != 1:
                raise TrustError(Reason.REPLAYED, f"expected root version 1, got {first.version}")
            state = verify_state(first, {"root": root, "targets": targets})
            self._signers = self._named(first)
            _check_unexpired(state, now)
            self._publish(state, ("root", "targets"), now)

    def accept(self, role: str, document: bytes, now: dt.datetime) -> None:
        """Replace the document of ``root``, ``targets`` or ``model-<name>``; see ``accept_all``."""
        self.accept_all({role: document}, now)

    def accept_all(self, documents: Mapping[str, bytes], now: dt.datetime) -> None:
        """Replace the documents of several roles at once, as when a model's keys change with its role.

        Raises:
            NotFoundError: Nothing is installed.
            TrustError: See ``state.follow``; then nothing has changed.
            StorageError: The disk refused; devices still see the old state.
        """
        with self._lock:
            state = follow(self._installed(), documents, now)
            self._signers = self._named(state.root)
            self._publish(state, documents, now)

    def renew(self, now: dt.datetime) -> bool:
        """Sign again what is due: the timestamp daily, the snapshot at half its life.

        Returns:
            Whether anything was written.
        """
        with self._lock:
            if self._state is None:
                return False
            if self._is_due("snapshot", LIFETIMES["snapshot"] / 2, now):
                self._publish(self._state, (), now)
                return True
            if self._is_due("timestamp", LIFETIMES["timestamp"] - DAY, now):
                self._write_timestamp(self._online["snapshot"].signed.version, now)
                return True
            return False

    def current(self, role: str) -> bytes | None:
        """Return the present document of a role, or None if there is none."""
        if self._state is None:
            return None
        if role in self._online:
            return self._online[role].to_bytes()
        return self._state.documents.get(role)

    def expiries(self) -> dict[str, dt.datetime]:
        """Return when each role expires, so that people can be told in time to sign again."""
        if self._state is None:
            return {}
        offline: dict[str, Signed] = {
            "root": self._state.root,
            "targets": self._state.targets,
            **self._state.models,
        }
        online = {role: metadata.signed for role, metadata in self._online.items()}
        return {role: signed.expires for role, signed in (offline | online).items()}

    def holders(self, role: str) -> list[str]:
        """Return the ids of the keys that hold a delegated role, such as the director's."""
        delegations = None if self._state is None else self._state.targets.delegations
        held = {} if delegations is None else delegations.roles or {}
        return list(held[role].keyids) if role in held else []

    def models(self) -> list[str]:
        """Return the names of models that have a release, sorted."""
        return [] if self._state is None else sorted(_model(role) for role in self._state.models)

    def floor(self, model: str) -> int:
        """Return the lowest release of ``model`` that may run; 0 when nothing was withdrawn so far."""
        role = self._role(model)
        return 0 if role is None else facts_of(role, model_role(model)).floor

    def listed(self, model: str) -> dict[str, str]:
        """Return SHA-256 of the manifest of every listed version of ``model``."""
        role = self._role(model)
        return {} if role is None else {e.version: e.digest for e in listing.versions(role, model).values()}

    def verify(self, manifest_document: bytes) -> VerifiedManifest:
        """Return the manifest if its version is listed and not below the floor.

        Raises:
            TrustError: It is not.
            ManifestError: Not a manifest.
        """
        manifest = parse(manifest_document)
        role = self._role(manifest.model)
        if role is None:
            raise TrustError(Reason.NOT_LISTED, f"{manifest.name}: the model has no release")
        return _sealed(role, manifest_document)

    def verify_release(
        self, role_document: bytes, manifest_document: bytes, *, targets: bytes | None = None
    ) -> VerifiedManifest:
        """Return the manifest if the model's role document that came with it lists it; nothing is stored.

        Args:
            targets: The targets document that came with them, when it gives the model its role.

        Raises:
            TrustError: The role document is not signed by the model's keys, or does not list the manifest.
            ManifestError: Not a manifest.
            NotFoundError: Nothing is installed.
        """
        state = self._installed()
        top = state.targets if targets is None else verify_top(state.root, targets)
        role = model_role(parse(manifest_document).model)
        return _sealed(verify_role(top, role, role_document), manifest_document)

    def _installed(self) -> State:
        if self._state is None:
            raise NotFoundError("no repository is installed: send the first root and targets")
        return self._state

    def _role(self, model: str) -> Targets | None:
        return None if self._state is None else self._state.models.get(model_role(model))

    def _named(self, root: Root) -> Mapping[str, Signer]:
        """Return the keys of this controller that a root names for snapshot and timestamp."""
        generations = (self._signers, *self._spare())
        chosen: dict[str, Signer] = {}
        for role, present in self._signers.items():
            given = root.roles[role]
            for signers in generations:
                if given.keyids == [signers[role].public_key.keyid] and given.threshold == 1:
                    chosen[role] = signers[role]
            if role not in chosen:
                raise TrustError(
                    Reason.WRONG_KEY,
                    f"root must give {role} to this controller's key {present.public_key.keyid[:8]} alone, "
                    f"got {[keyid[:8] for keyid in given.keyids]}",
                )
        return chosen

    # Reading and writing. A file is complete before a newer one names it; timestamp.json comes last.

    def _load(self) -> None:
        timestamp = roles.parse(Timestamp, self._read("timestamp.json"), role="timestamp")
        name = f"{timestamp.signed.snapshot_meta.version}.snapshot.json"
        snapshot = roles.parse(Snapshot, self._read(name), role="snapshot")
        documents = {
            file.removesuffix(".json"): self._read(f"{meta.version}.{file}")
            for file, meta in snapshot.signed.meta.items()
        }
        chain = [self._read("1.root.json")]
        while (self.metadata / f"{len(chain) + 1}.root.json").exists():
            chain.append(self._read(f"{len(chain) + 1}.root.json"))
        root = verify_roots(chain[0], chain[1:])
        documents["root"] = chain[-1]
        try:
            self._state = verify_state(root, documents)
        except TrustError:
            # A root with another targets key was written just before a power cut, after what belongs to it.
            self._state = verify_state(root, self._newer(documents))
        self._online = {"snapshot": snapshot, "timestamp": timestamp}
        with contextlib.suppress(TrustError):  # keys that no root names yet serve from the next root on
            self._signers = self._named(root)

    def _newer(self, documents: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return each document in the version that was written after the one the snapshot names."""
        newer = dict(documents)
        for role, document in documents.items():
            held: Metadata[Targets] = Metadata.from_bytes(document)
            path = self.metadata / f"{held.signed.version + 1}.{role}.json"
            if path.exists():
                newer[role] = path.read_bytes()
        return newer

    def _read(self, name: str) -> bytes:
        try:
            return (self.metadata / name).read_bytes()
        except OSError as error:
            raise StorageError(f"{self.metadata / name}: {error.strerror}") from error

    def _publish(
        self, state: State, changed: Mapping[str, bytes] | tuple[str, ...], now: dt.datetime
    ) -> None:
        for role in sorted(changed, key="root".__eq__):  # a root last: see _load
            signed = state.signed(role)
            if signed is not None:
                replace(self.metadata / f"{signed.version}.{role}.json", state.documents[role])
        snapshot = self._sign(Snapshot(self._next("snapshot"), meta=_meta(state)), now)
        replace(self.metadata / f"{snapshot.signed.version}.snapshot.json", snapshot.to_bytes())
        self._write_timestamp(snapshot.signed.version, now)
        self._online["snapshot"] = snapshot
        self._state = state

    def _write_timestamp(self, snapshot: int, now: dt.datetime) -> None:
        timestamp = self._sign(Timestamp(self._next("timestamp"), snapshot_meta=MetaFile(snapshot)), now)
        replace(self.metadata / "timestamp.json", timestamp.to_bytes())
        self._online["timestamp"] = timestamp

    def _sign(self, signed: S, now: dt.datetime) -> Metadata[S]:
        roles.stamp(signed, Facts(signed.type, int(now.timestamp())))
        metadata = Metadata(signed)
        metadata.sign(self._signers[signed.type])
        return metadata

    def _next(self, role: str) -> int:
        return self._online[role].signed.version + 1 if role in self._online else 1

    def _is_due(self, role: str, left: dt.timedelta, now: dt.datetime) -> bool:
        metadata = self._online[role]
        if metadata.signed.expires - now < left:
            return True
        if isinstance(metadata.signed, Snapshot) and metadata.signed.meta != _meta(self._installed()):
            return True
        try:  # a root that changed the key may have been written just before a power cut
            root = self._installed().root
            verify(root, role, payload=metadata.signed_bytes, signatures=metadata.signatures)
        except TrustError:
            return True
        return False


def _meta(state: State) -> dict[str, MetaFile]:
    offline = {"targets": state.targets, **state.models}
    return {f"{role}.json": MetaFile(signed.version) for role, signed in offline.items()}


def _check_unexpired(state: State, now: dt.datetime) -> None:
    for role, signed in (("root", state.root), ("targets", state.targets)):
        if signed.is_expired(now):
            raise TrustError(Reason.EXPIRED, f"{role} expired at {signed.expires.isoformat()}")


def _sealed(role: Targets, document: bytes) -> VerifiedManifest:
    manifest = parse(document)
    entry = listing.find(role, manifest.model, version=manifest.version, digest_=digest(document), floor=0)
    return listing.seal(entry, document)


def _model(role: str) -> str:
    return role.removeprefix(MODEL_PREFIX)

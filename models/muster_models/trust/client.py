"""The device's side of the signed repository: what is listed, what may run, and whom to obey.

Not thread-safe: one owner per folder.
"""

import contextlib
import datetime as dt
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from tuf.api.metadata import Root, Signed, Targets
from tuf.ngclient import Updater

from muster_models.durable import make_folder
from muster_models.errors import MusterError, Reason, StorageError, TrustError
from muster_models.manifest import digest, is_valid_model_name, parse
from muster_models.trust import cache, director, listing, memory
from muster_models.trust.anchor import Anchor, Former, first_expired, verify_documents, verify_roots
from muster_models.trust.diagnosis import LastBody, explain
from muster_models.trust.glance import Glance, RepositoryFetcher
from muster_models.trust.listing import Listed
from muster_models.trust.refusals import refusals
from muster_models.trust.roles import MODEL_PREFIX, facts_of, model_role, target_path
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Desired

_log = logging.getLogger(__name__)
_SOON = 86_400.0  # seconds before something expires in which only a full look will do
_ANY_VERSION = "0.0.0"  # python-tuf loads a role by looking a path up in it; the path need not exist


class TrustClient:
    """Keeps verified metadata in one folder and answers every question of trust on a device.

    Args:
        folder: Owned by this client.
        root: The pinned root document that enrolment brought.
        base_url: ``<base>/metadata`` and ``<base>/blobs`` lie below it.
        clock: Unix seconds; may be wrong on a device, see ``time_floor``.

    Raises:
        TrustError: The pinned root is damaged: the device must be enrolled again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        root: bytes,
        base_url: str,
        fetcher: RepositoryFetcher,
        clock: Callable[[], float],
    ) -> None:
        self._cache = folder / "cache"
        self._path = folder / "memory"
        self._pinned = root
        self._base = base_url.rstrip("/")
        self._fetcher = LastBody(fetcher)
        self._glance = Glance(fetcher, f"{self._base}/metadata/timestamp.json")
        self._clock = clock
        self._updater: Updater | None = None
        self._refused: dict[str, MusterError] = {}
        self._manifests: dict[str, bytes] = {}
        pinned = verify_roots(root, ())
        self._memory = memory.at_least(memory.load(self._path), facts_of(pinned, "root").issued)
        self._anchor = self._verify_memory()

    @property
    def time_floor(self) -> float:
        """Unix seconds before which no instant is believed, whatever the clock says."""
        return self._memory.time_floor

    def floor(self, model: str) -> int:
        """Return the lowest release of ``model`` that may run, by the newest signed word."""
        return self._memory.floors.get(model, 0)

    def refresh(self) -> None:
        """Fetch what is new in the repository: top roles, and the role of every model asked for so far.

        Trouble with one model's role does not raise: it is logged, and raised when that model is asked for.

        Raises:
            TrustError: The top roles are unsigned, older than ones already seen, expired, or tampered with.
            TransferError: They could not be fetched.
            StorageError: The disk refused.
        """
        with refusals("repository"):
            if not self._cache.is_dir():
                make_folder(self._cache.parent)  # the memory lies there, and must not be lost with its folder
                make_folder(self._cache)
            cache.restore(self._cache, self._memory.documents)
        updater = self._new_updater()
        with self._explained(None, None):
            updater.refresh()
        known = self._known_roles()
        top = self._verify_cache(())
        refused: dict[str, MusterError] = {}
        for role in known:
            try:
                self._load(updater, top, role)
            except MusterError as error:
                _log.warning("%s", error)
                refused[role] = error
        refused = {**self._adopt(known), **refused}
        self._updater, self._refused = updater, refused

    def is_unchanged(self) -> bool:
        """Ask with one request of a few hundred bytes whether the timestamp is still the one verified last.

        Nothing that is answered is believed beyond that: no root is looked for, so the caller must still
        ``refresh`` from time to time. False where only a full look will do: nothing was fetched yet by this
        process, a role was refused, something expires within a day, or there was no clear answer.
        """
        held, anchor = self._memory.documents, self._anchor
        if self._updater is None or self._refused or held is None or anchor is None:
            return False
        return anchor.expired(self._now() + _SOON) is None and self._glance.is_still(held.timestamp)

    def manifest(self, model: str, version: str, digest_: str) -> VerifiedManifest:
        """Return a version that may be installed now: listed, unexpired, not below the floor.

        Uses the newest metadata fetched so far and looks again before it refuses; refresh first to see a
        withdrawal at once.

        Args:
            digest_: SHA-256 of the manifest, as desired state names it.

        Raises:
            TrustError: Why it may not be installed.
            TransferError: The repository cannot be reached.
            ManifestError: It is listed, and is not a manifest.
        """
        if not is_valid_model_name(model):
            raise TrustError(Reason.NOT_LISTED, f"{model[:64]!r} is no name of a model")
        fresh = self._updater is None
        if fresh:
            self.refresh()
        try:
            entry = self._installable(model, version, digest_=digest_)
        except MusterError:
            if fresh:
                raise
            self.refresh()
            entry = self._installable(model, version, digest_=digest_)
        verified = listing.seal(entry, self._manifests.get(entry.digest) or self._download(entry))
        self._manifests = {verified.digest: verified.document}  # a download that is tried again asks again
        return verified

    def reverify(self, document: bytes) -> VerifiedManifest:
        """Return an installed version that may still run, without the network; expired metadata is enough.

        Raises:
            TrustError: No longer listed, below the floor, or nothing that was verified lists it.
            ManifestError: Not a manifest.
        """
        manifest = parse(document)
        role = _role_of(self._require_anchor(), model_role(manifest.model))
        floor = self.floor(manifest.model)
        entry = listing.find(
            role, manifest.model, version=manifest.version, digest_=digest(document), floor=floor
        )
        return listing.seal(entry, document)

    def desired(self, envelope: bytes, *, device: str, after: int) -> Desired:
        """Return the desired state in an envelope if this device must obey it.

        Args:
            after: Sequence of the newest desired state that was accepted; 0 for none.

        Raises:
            TrustError: See ``director.open_envelope``; EXPIRED also when the director's delegation expired.
            TransferError: Nothing was verified yet and the repository cannot be reached.
        """
        if self._anchor is None:
            self.refresh()
        anchor = self._require_anchor()
        now = self._now()
        expired = first_expired((("root", anchor.root), ("targets", anchor.targets)), now)
        if expired is not None:
            raise expired
        desired = director.open_envelope(envelope, anchor.targets, device=device, after=after, now=now)
        # A stop order must not wait for a disk. Without this the floor is no lower than it was before.
        with contextlib.suppress(StorageError):
            self._raise_time(offline=(), online=(desired.issued,))
        return desired

    # What has been verified.

    def _now(self) -> float:
        return max(self._clock(), self.time_floor)

    def _verify_memory(self) -> Anchor | None:
        if self._memory.documents is None:
            return None
        try:
            return verify_documents(self._pinned, self._memory.documents)
        except TrustError as error:
            # The device was enrolled again elsewhere: floors and time stay, the rest is not of this root.
            _log.warning("what was verified before does not follow from the pinned root: %s", error)
            self._memory = msgspec.structs.replace(self._memory, documents=None)
            return None

    def _require_anchor(self) -> Anchor:
        if self._anchor is None:
            raise TrustError(Reason.UNSIGNED, "this device has verified nothing yet: refresh first")
        return self._anchor

    def _known_roles(self) -> tuple[str, ...]:
        return () if self._memory.documents is None else tuple(self._memory.documents.models)

    def _verify_cache(self, wanted: Iterable[str]) -> Anchor:
        with refusals("cache"):
            return verify_documents(self._pinned, cache.documents(self._cache, wanted))

    def _adopt(self, wanted: Iterable[str]) -> Mapping[str, TrustError]:
        """Make what the cache now holds the state that is believed, first on disk, then in memory.

        Returns:
            Why models' roles do not hold. A mirror that withholds a role which new keys signed, or a thief of
            the online keys who serves another model's, could else keep what runs from starting again.
        """
        with refusals("cache"):
            documents = cache.documents(self._cache, wanted)
        anchor = verify_documents(self._pinned, documents)
        if anchor.refused:
            documents = msgspec.structs.replace(documents, former=self._former(anchor.refused))
            anchor = verify_documents(self._pinned, documents)
        floors = dict(self._memory.floors)
        for role, targets in anchor.models.items():
            model = role.removeprefix(MODEL_PREFIX)
            floors[model] = max(floors.get(model, 0), facts_of(targets, role).floor)
        self._save(msgspec.structs.replace(self._memory, documents=documents, floors=floors))
        self._anchor = anchor
        offline: dict[str, Signed] = {"root": anchor.root, "targets": anchor.targets, **anchor.models}
        online: dict[str, Signed] = {"timestamp": anchor.timestamp, "snapshot": anchor.snapshot}
        self._raise_time(offline=_issued(offline), online=_issued(online))
        return anchor.refused

    def _former(self, refused: Iterable[str]) -> dict[str, Former]:
        """Return the last documents of roles that held."""
        held = self._memory.documents
        if held is None or self._anchor is None:
            return {}
        formers = dict(held.former)
        for role in self._anchor.models.keys() - self._anchor.refused.keys():
            formers[role] = Former(held.targets, held.models[role])
        return {role: former for role, former in formers.items() if role in refused}

    def _raise_time(self, *, offline: Iterable[float], online: Iterable[float]) -> None:
        floor = memory.raise_time(self.time_floor, self._clock(), offline=offline, online=online)
        self._save(msgspec.structs.replace(self._memory, time_floor=floor))

    def _save(self, changed: memory.Memory) -> None:
        if changed != self._memory:
            memory.save(self._path, changed)
            self._memory = changed

    # Fetching.

    def _new_updater(self) -> Updater:
        with refusals("root"):
            # The pinned bytes, always: a power cut may take python-tuf's own root.json.
            updater = Updater(
                str(self._cache), f"{self._base}/metadata/", fetcher=self._fetcher, bootstrap=self._pinned
            )
        # There is no public way in 7.0.1; a test sees that the attribute is still read. Without it, a clock
        # that was set back would make expired metadata valid.
        moment = dt.datetime.fromtimestamp(self._now(), dt.UTC)
        updater._trusted_set.reference_time = moment  # noqa: SLF001
        return updater

    @contextmanager
    def _explained(self, role: str | None, delegator: Targets | None) -> Iterator[None]:
        try:
            with refusals(role or "repository"):
                yield
        except TrustError as error:
            if error.reason is not Reason.UNSIGNED:
                raise
            better = explain(self._fetcher.body, delegator or self._newest_root(), role)
            if better is None:
                raise
            raise better from error

    def _newest_root(self) -> Root:
        with refusals("cache"):
            return verify_roots(self._pinned, cache.roots(self._cache))

    def _load(self, updater: Updater, anchor: Anchor, role: str) -> None:
        if f"{role}.json" not in anchor.snapshot.meta:
            raise TrustError(Reason.NOT_LISTED, f"{role}: the repository holds no such role")
        path = target_path(role.removeprefix(MODEL_PREFIX), _ANY_VERSION)
        with self._explained(role, anchor.targets):
            updater.get_targetinfo(path)

    def _installable(self, model: str, version: str, *, digest_: str) -> Listed:
        role = model_role(model)
        if role in self._refused:
            raise self._refused[role]
        anchor = self._require_anchor()
        if role not in anchor.models and self._updater is not None:
            self._load(self._updater, anchor, role)
            self._refused |= self._adopt({*self._known_roles(), role})
            anchor = self._require_anchor()
        targets = _role_of(anchor, role)
        expired = anchor.expired(self._now(), role)
        if expired is not None:
            raise expired
        return listing.find(targets, model, version=version, digest_=digest_, floor=self.floor(model))

    def _download(self, entry: Listed) -> bytes:
        with refusals(f"manifest of {entry.model}@{entry.version}"):
            return self._fetcher.download_bytes(f"{self._base}/blobs/{entry.digest}", entry.length)


def _role_of(anchor: Anchor, role: str) -> Targets:
    if role in anchor.models:
        return anchor.models[role]
    raise anchor.refused.get(role) or TrustError(
        Reason.NOT_LISTED, f"{role}: nothing that was verified lists it"
    )


def _issued(documents: dict[str, Signed]) -> list[float]:
    return [float(facts_of(signed, role).issued) for role, signed in documents.items()]

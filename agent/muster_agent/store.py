"""What must survive a power cut: the files of the installed versions, by content, and one state file.

    state, state.old        the state as JSON below its checksum, and the one before
    state.aside             one that could not be read, kept for whoever looks into it
    manifests/<digest>      manifests, exactly as they were signed
    blobs/<sha256>          files of all versions; equal files are held once
    blobs/<sha256>.part     a download that has not ended, or a patch while it is needed

Everything gets its final name by: write, sync the file, rename, sync the folder. A name that is there is
therefore whole. What a process finds after it was killed may be in memory only, so ``load`` and
``put_manifest`` sync before anybody builds on what is there. Who may be staged is for ``trust`` to say:
only a ``VerifiedManifest`` comes in here.
"""

import hashlib
import logging
import shutil
from collections.abc import Collection
from pathlib import Path

import msgspec

from muster_agent.arrival import PART, BlobWriter, Content, Desk, blob_name
from muster_agent.disk import Disk
from muster_agent.update.state import AgentState, kept
from muster_models.errors import FitError, ManifestError, Reason, StorageError, TransferError, TrustError
from muster_models.manifest import FileEntry, Manifest, digest, parse
from muster_models.trust.verified import VerifiedManifest

STATE = "state"
OLD_STATE = "state.old"
ASIDE = "state.aside"
NEW = ".new"
HEADROOM_BYTES = 4 * 1024 * 1024  # stays free while staging, so that state and outbox can still be written

_log = logging.getLogger(__name__)


class Store:
    """The versions on a device and what it knows about them. For one process; thread safe.

    Attributes:
        mishap: What ``load`` found lost, for the fleet to know; empty where nothing was.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.mishap = ""
        self._kept: frozenset[str] | None = None  # what the states that may be on the disk name
        self._desk = Desk()
        self._is_made = False
        try:
            self._make_folders()
        except StorageError as error:
            # What is there can still be read; whoever stages tries again.
            _log.warning("nothing can be installed: %s", error)

    def _make_folders(self) -> None:
        if self._is_made:
            return
        for folder in ("blobs", "manifests"):
            self._disk.make_folder(folder)
        self._is_made = True

    # The state

    def load(self) -> AgentState:
        """Return the state that was saved last; a new one on a new device, or when both copies are damaged.

        Raises:
            StorageError: The disk cannot be read.
        """
        state = self._read_state(STATE) or self._read_state(OLD_STATE)
        self._kept = kept(state) if state is not None else frozenset()
        self.mishap = state_trouble(self._disk)
        if self.mishap:
            _log.error("%s", self.mishap)
        if state is None:
            return AgentState()
        try:
            self._settle(state)
        except StorageError as error:
            # A disk that has become read-only must not take down the models that run from it.
            _log.warning("the state could not be made safe, the device goes on with what it has: %s", error)
        return state

    def save(self, state: AgentState) -> None:
        """Return once ``state`` is what ``load`` will find.

        Raises:
            StorageError: The disk refused; ``load`` finds this state or the one before. Saving again is safe.
        """
        with self._desk.lock:
            # Until the new state is known to be on the disk, either may be: what one of them names stays.
            self._kept = (self._kept or frozenset()) | kept(state)
            self._write_new(STATE, _encode(state))
            if self._read_state(STATE) is not None:  # a damaged one must not push out the good copy
                self._disk.rename(STATE, OLD_STATE)
            elif state_trouble(self._disk) and self._disk.size(STATE) is not None:
                self._disk.rename(STATE, ASIDE)
            self._disk.rename(STATE + NEW, STATE)
            self._disk.sync_folder("")
            self._kept = kept(state)

    def _read_state(self, name: str) -> AgentState | None:
        if self._disk.size(name) is None:
            return None
        return _decode(self._disk.read(name))

    def _settle(self, state: AgentState) -> None:
        # A process that was killed between rename and sync left a state that only memory has.
        if self._read_state(STATE) is not None:
            self._disk.sync_folder("")
        else:
            _log.warning("the state file is missing or damaged; the one before it is used")
            self.save(state)

    def _write_new(self, name: str, data: bytes) -> None:
        file = self._disk.create(name + NEW)
        try:
            file.write(data)
            file.sync()
        finally:
            file.close()

    # Staging

    def put_manifest(self, verified: VerifiedManifest) -> None:
        """Begin to stage a version: check that its missing files will fit, and keep its manifest.

        Raises:
            FitError: ``no-space``: the missing files do not fit. Nothing was written, and nothing is removed
                to make room.
            StorageError: The disk refused.
        """
        needed = sum(entry.length for entry in self.missing(verified))
        free = self._disk.free_bytes() - HEADROOM_BYTES
        if needed > free:
            raise FitError(Reason.NO_SPACE, f"{verified.manifest.name} needs {needed} bytes, {free} are free")
        self._make_folders()
        name = f"manifests/{verified.digest}"
        with self._desk.lock:
            if self.installed(verified.digest) is None:
                self._write_new(name, verified.document)
                self._disk.rename(name + NEW, name)
        self._disk.sync_folder("manifests")
        self._disk.sync_folder("blobs")  # for files that an earlier process left, whose names may not be safe

    def installed(self, version: str) -> bytes | None:
        """Return the manifest of a version that was put here, or None; verify it again before use."""
        name = f"manifests/{version}"
        if self._disk.size(name) is None:
            return None
        document = self._disk.read(name)
        return document if digest(document) == version else None

    def missing(self, verified: VerifiedManifest) -> list[FileEntry]:
        """Return the files of a version that are not here in their full length, each content once."""
        entries = {entry.sha256: entry for entry in verified.manifest.files}
        return [entry for entry in entries.values() if self._disk.size(blob_name(entry)) != entry.length]

    def held(self, sha256: str) -> int | None:
        """Return the length in bytes of a file that is here, or None; ``read_genuine`` checks it."""
        return self._disk.size(f"blobs/{sha256}")

    def arrived(self, sha256: str) -> int:
        """Return how many bytes of a file or a patch an earlier download left."""
        return self._disk.size(f"blobs/{sha256}{PART}") or 0

    def room(self, verified: VerifiedManifest) -> int:
        """Return how many bytes are free beside those that the missing files of a version will take."""
        rest = sum(entry.length - self.arrived(entry.sha256) for entry in self.missing(verified))
        return self._disk.free_bytes() - HEADROOM_BYTES - rest

    def read_genuine(self, sha256: str) -> bytes:
        """Return a whole file that is here.

        Raises:
            TransferError: It is not here, or is damaged.
            StorageError: The disk refused.
        """
        name = f"blobs/{sha256}"
        data = b"" if self._disk.size(name) is None else self._disk.read(name)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise TransferError(f"the file {sha256[:12]} that a patch applies to is missing or damaged")
        return data

    def discard(self, content: Content) -> None:
        """Remove what arrived of a file or a patch, unless it is being written.

        Raises:
            StorageError: The disk refused; ``collect`` removes it later.
        """
        with self._desk.lock:
            if content.sha256 not in self._desk.open:
                self._disk.remove(blob_name(content) + PART)
                self._desk.spoiled.discard(blob_name(content) + PART)

    def blob_writer(self, entry: Content) -> BlobWriter:
        """Return a writer that takes up where an earlier one for the same content stopped.

        Raises:
            FitError: ``no-space``: the rest does not fit.
            TransferError: The same content is being written for another model; later it will be here.
            StorageError: The disk refused.
        """
        with self._desk.lock:
            if entry.sha256 in self._desk.open:
                raise TransferError(f"{entry.name} is being downloaded for another model")
            self._check_part(entry)
            return BlobWriter(self._disk, entry, self._desk)

    def _check_part(self, entry: Content) -> None:
        name = blob_name(entry) + PART
        held = self._disk.size(name) or 0
        if held > entry.length or name in self._desk.spoiled:
            self._disk.remove(name)
            self._desk.spoiled.discard(name)
            held = 0
        free = self._disk.free_bytes() - HEADROOM_BYTES
        if entry.length - held > free:
            raise FitError(
                Reason.NO_SPACE, f"{entry.name} needs {entry.length - held} bytes, {free} are free"
            )

    def verify(self, verified: VerifiedManifest) -> None:
        """Hash every file of a version again; one that is not what was signed is removed, to be fetched anew.

        Raises:
            TrustError: ``tampered``: a file is missing or is not what was signed.
            StorageError: The disk refused.
        """
        for entry in verified.manifest.files:
            if not self._is_genuine(entry):
                self._disk.remove(blob_name(entry))
                raise TrustError(
                    Reason.TAMPERED, f"{entry.name}: expected sha256 {entry.sha256}, got another"
                )
        if self.installed(verified.digest) is None:
            raise TrustError(
                Reason.TAMPERED, f"the manifest of {verified.manifest.name} is missing or damaged"
            )

    def _is_genuine(self, entry: FileEntry) -> bool:
        if self._disk.size(blob_name(entry)) != entry.length:
            return False
        hasher = hashlib.sha256()
        for piece in self._disk.chunks(blob_name(entry)):
            hasher.update(piece)
        return hasher.hexdigest() == entry.sha256

    def expose(self, verified: VerifiedManifest, folder: Path) -> Path:
        """Return a private folder below ``folder`` that holds the files under their own names, for loading.

        Links where possible, so it costs no space. The caller verifies first and removes it when done; one
        that was left behind is replaced.

        Raises:
            StorageError: The disk refused.
        """
        exposed = folder / verified.digest
        try:
            if exposed.exists():
                shutil.rmtree(exposed)
            exposed.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise StorageError(f"{exposed}: {error.strerror}") from error
        for entry in verified.manifest.files:
            self._disk.export(blob_name(entry), exposed / entry.name)
        return exposed

    # Making room

    def collect(self, keep: Collection[str] = ()) -> None:
        """Remove the files of every version that neither the saved state nor ``keep`` names.

        What the state on the disk names is kept whatever the caller thinks, so an order of calls that would
        remove the only good version does not exist.

        Raises:
            RuntimeError: Nothing was loaded or saved yet.
            StorageError: The disk refused; what is left over goes the next time.
        """
        if self._kept is None:
            raise RuntimeError("load the state before collecting")
        with self._desk.lock:
            versions = self._kept | set(keep)
            blobs = self._blobs_of(versions)
            if blobs is None:
                return
            blobs |= self._desk.open
            # Manifests first: what is listed as installed stays whole.
            self._remove_others("manifests", versions)
            self._remove_others("blobs", blobs | {blob + PART for blob in blobs})

    def _blobs_of(self, versions: Collection[str]) -> set[str] | None:
        """Return the contents that versions name; None when a manifest is damaged, so that nobody knows."""
        blobs: set[str] = set()
        for version in versions:
            document = self.installed(version)
            if document is not None:
                blobs |= self._needed_by(_parse_kept(document))
            elif self._disk.size(f"manifests/{version}") is not None:
                _log.warning("the manifest of version %s is damaged: nothing is removed", version)
                return None
        return blobs

    def _needed_by(self, manifest: Manifest) -> set[str]:
        """Return the files of a version, and the patches that may still make the missing ones."""
        needed = {entry.sha256 for entry in manifest.files}
        for entry in manifest.files:
            if self._disk.size(blob_name(entry)) != entry.length:
                needed |= {delta.sha256 for delta in entry.deltas}
        return needed

    def _remove_others(self, folder: str, keep: Collection[str]) -> None:
        others = [name for name in self._disk.names(folder) if name not in keep]
        for name in others:
            self._disk.remove(f"{folder}/{name}")
        if others:
            self._disk.sync_folder(folder)


def state_trouble(disk: Disk) -> str:
    """Return what is wrong with the saved state beyond what its older copy makes good; empty for nothing.

    Raises:
        StorageError: The disk cannot be read.
    """
    copies = {name: disk.read(name) for name in (STATE, OLD_STATE) if disk.size(name) is not None}
    if STATE in copies and _decode(copies[STATE]) is None and _document(copies[STATE]) is not None:
        return f"the state has a format that this agent does not know; it is not followed ({ASIDE} keeps it)"
    if copies and all(_decode(copy) is None for copy in copies.values()):
        return f"the state was damaged in every copy: the device begins anew ({ASIDE} keeps it)"
    return ""


def _encode(state: AgentState) -> bytes:
    document = msgspec.json.encode(state, order="sorted")
    return hashlib.sha256(document).hexdigest().encode() + b"\n" + document


def _document(data: bytes) -> bytes | None:
    checksum, _, document = data.partition(b"\n")
    return document if hashlib.sha256(document).hexdigest().encode() == checksum else None


def _decode(data: bytes) -> AgentState | None:
    document = _document(data)
    if document is None:
        return None
    try:
        return msgspec.json.decode(document, type=AgentState)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # whole, but of a format that this agent does not know


def _parse_kept(document: bytes) -> Manifest:
    try:
        return parse(document)
    except ManifestError as error:
        raise StorageError(f"a kept manifest does not parse: {error}") from error

"""Bytes on their way into the store: a file or a patch, until its hash says that it is whole."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from muster_agent.disk import Disk
from muster_models.errors import Reason, StorageError, TransferError, TrustError

PART = ".part"


class Content(Protocol):
    """What is fetched by its hash: a file of a version, or a patch."""

    @property
    def name(self) -> str:
        """Return what people call it."""
        ...

    @property
    def sha256(self) -> str:
        """Return its hash, as signed."""
        ...

    @property
    def length(self) -> int:
        """Return its length in bytes, as signed."""
        ...


@dataclass
class Desk:
    """What the threads of one process share.

    Attributes:
        lock: Held while folders change.
        open: Contents that are being written.
        spoiled: Downloads that the disk once failed to make safe.
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    open: set[str] = field(default_factory=set)
    spoiled: set[str] = field(default_factory=set)


class BlobWriter:
    """Writes one file of a version, or a patch, in order, over as many connections as it takes.

    Attributes:
        offset: How many bytes are here already; the next ``append`` continues there.
    """

    def __init__(self, disk: Disk, entry: Content, desk: Desk) -> None:
        self._disk = disk
        self._desk = desk
        self._entry = entry
        self._part = blob_name(entry) + PART
        self._hasher = hashlib.sha256()
        self.offset = 0
        if disk.size(self._part):
            for piece in disk.chunks(self._part):
                self._hasher.update(piece)
                self.offset += len(piece)
        self._is_resumed = self.offset > 0
        self._file = disk.append(self._part)
        desk.open.add(entry.sha256)

    def append(self, data: bytes) -> None:
        """Write the next bytes.

        Raises:
            TransferError: More than the signed length.
            StorageError: The disk refused.
        """
        if self.offset + len(data) > self._entry.length:
            raise TransferError(
                f"{self._entry.name}: expected {self._entry.length} bytes, got more", Reason.TOO_LARGE
            )
        self._file.write(data)
        self._hasher.update(data)
        self.offset += len(data)

    def commit(self) -> None:
        """Give the file its name, once its length and hash are what was signed.

        Raises:
            TransferError: Bytes are missing, or those of an earlier run are damaged; starting again helps.
            TrustError: ``tampered``: the bytes are not those that were signed.
            StorageError: The disk refused.
        """
        self.check()
        self._sync()
        self._disk.rename(self._part, blob_name(self._entry))
        self._disk.sync_folder("blobs")

    def check(self) -> None:
        """Return if length and hash are what was signed.

        Raises:
            TransferError, TrustError, StorageError: As ``commit``.
        """
        if self.offset != self._entry.length:
            raise TransferError(f"{self._entry.name}: expected {self._entry.length} bytes, got {self.offset}")
        if self._hasher.hexdigest() != self._entry.sha256:
            self._discard()

    def chunks(self) -> Iterator[bytes]:
        """Yield what is here, from the start."""
        return self._disk.chunks(self._part)

    def close(self) -> None:
        """Close; what was written and not committed is taken up by the next writer."""
        self._desk.open.discard(self._entry.sha256)
        self._file.close()

    def _sync(self) -> None:
        try:
            self._file.sync()
        except StorageError:
            # The kernel forgets pages that it could not write, and a second sync would say that all is well.
            self._desk.spoiled.add(self._part)
            raise

    def _discard(self) -> None:
        self._disk.remove(self._part)
        message = f"{self._entry.name}: expected sha256 {self._entry.sha256}, got {self._hasher.hexdigest()}"
        if self._is_resumed:
            # A power cut may leave garbage in a file that was not synced; that is nobody's attack.
            raise TransferError(message)
        raise TrustError(Reason.TAMPERED, message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def blob_name(entry: Content) -> str:
    """Return the name on the disk of a whole file."""
    return f"blobs/{entry.sha256}"

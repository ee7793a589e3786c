"""Getting the files of a version that are not here yet: by content, in ranges, taken up where they stopped.

Where the manifest names a patch that leads from a file that is here to the missing one, the patch is fetched;
should that fail in any way, the whole file.

The fetcher bounds each request (time, rate, length); here is decided when another request is worth it. What a
server sends is nothing until the store has compared its hash.
"""

import contextlib
import logging
import random
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from muster_agent.arrival import BlobWriter, Content
from muster_agent.store import Store
from muster_agent.update.rebuild import choose, patch_of, rebuild
from muster_models.errors import MusterError, Reason, TransferError
from muster_models.manifest import Delta, FileEntry
from muster_models.trust.fetcher import Fetcher
from muster_models.trust.verified import VerifiedManifest

log = logging.getLogger(__name__)

FRUITLESS_REQUESTS = 3  # in a row; then the updater's longer patience takes over
# What one request must bring to count as getting on, so that a byte now and then does not hold a device.
FRUITFUL_BYTES = 64 * 1024
PAUSE_SECONDS = 1.0  # before a request that follows a fruitless one; doubles


class CancelledError(MusterError):
    """The download is not wanted any more."""


@dataclass
class Rebuilt:
    """What patches did since the agent started.

    Attributes:
        files: That were made of a patch.
        saved_bytes: By which the patches were shorter than the files.
        failed: Patches in whose place the whole file was fetched.
    """

    files: int = 0
    saved_bytes: int = 0
    failed: int = 0


def _tell_nobody(_verified: VerifiedManifest, _error: MusterError) -> None:
    """Leave a patch that failed to the log."""


class Downloader:
    """Fetches files from ``<base>/blobs/<sha256>`` into the store.

    Args:
        base_url: Of the repository or of any cache of it.
        fetcher: Holds the TLS context and the limits of one request.
        store: What is here already, whole or in part.
        chance: Spreads repeated requests.
        pause: Seconds, see ``PAUSE_SECONDS``.
        memory_bytes: Of the device; patches that take too much of it are passed over.
        on_failed_patch: Told why a whole file was fetched in place of a patch.

    Attributes:
        rebuilt: Counts what came of patches.
    """

    def __init__(
        self,
        base_url: str,
        fetcher: Fetcher,
        store: Store,
        *,
        chance: random.Random,
        pause: float = PAUSE_SECONDS,
        memory_bytes: int = sys.maxsize,
        on_failed_patch: Callable[[VerifiedManifest, MusterError], None] = _tell_nobody,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._fetcher = fetcher
        self._store = store
        self._chance = chance
        self._pause = pause
        self._memory_bytes = memory_bytes
        self._on_failed_patch = on_failed_patch
        self.rebuilt = Rebuilt()

    def fetch(self, verified: VerifiedManifest, cancelled: threading.Event) -> None:
        """Return once every file of a version is in the store.

        Args:
            verified: What to fetch.
            cancelled: Ends the download soon after it is set, with ``CancelledError``; what arrived is kept.

        Raises:
            CancelledError: As said.
            FitError: ``no-space``: the files do not fit; nothing was fetched.
            TransferError: The server does not answer, or answers without getting on.
            TrustError: ``tampered``: a file is not what was signed.
            StorageError: The disk refused.
        """
        self._store.put_manifest(verified)
        for entry in self._store.missing(verified):
            chosen = choose(self._store, verified, entry, memory_bytes=self._memory_bytes)
            failure = self._rebuild(entry, chosen, cancelled) if chosen is not None else None
            if chosen is None or failure is not None:
                with self._store.blob_writer(entry) as writer:
                    self._complete(writer, entry, cancelled)
                    writer.commit()
            if failure is not None:  # told now: without a network nothing is wrong with the patch
                self._on_failed_patch(verified, failure)
            for delta in entry.deltas:
                self._store.discard(patch_of(entry, delta))

    def _rebuild(self, entry: FileEntry, chosen: Delta, cancelled: threading.Event) -> MusterError | None:
        """Make a file of a patch; return why that failed, or None."""
        patch = patch_of(entry, chosen)
        needed = entry.length + patch.length
        log.info(
            "%s by a patch: %d bytes instead of %d, both need %d bytes of the disk for a moment",
            entry.name,
            patch.length,
            entry.length,
            needed,
        )
        try:
            with self._store.blob_writer(patch) as writer:
                self._complete(writer, patch, cancelled)
                rebuild(self._store, entry, chosen, writer)
        except CancelledError:
            raise
        except MusterError as error:
            self.rebuilt.failed += 1
            log.warning("%s is fetched whole, the patch failed: %s", entry.name, error)
            return error
        self.rebuilt.files += 1
        self.rebuilt.saved_bytes += entry.length - patch.length
        return None

    def _complete(self, writer: BlobWriter, entry: Content, cancelled: threading.Event) -> None:
        fruitless = 0
        while writer.offset < entry.length:
            before = writer.offset
            try:
                self._request(writer, entry, cancelled)
            except TransferError as error:
                fruitless = fruitless + 1 if writer.offset - before < FRUITFUL_BYTES else 0
                if fruitless >= FRUITLESS_REQUESTS:
                    raise
                log.info("%s at %d of %d bytes: %s", entry.name, writer.offset, entry.length, error)
                longest = self._pause * 2.0**fruitless if fruitless else 0.0
                cancelled.wait(self._chance.uniform(0, longest))

    def _request(self, writer: BlobWriter, entry: Content, cancelled: threading.Event) -> None:
        pieces = self._fetcher.fetch_range(
            f"{self._base}/blobs/{entry.sha256}",
            offset=writer.offset,
            length=entry.length - writer.offset,
            limit=entry.length,
        )
        with contextlib.closing(pieces):  # else an error that somebody holds keeps the connection open
            for piece in pieces:
                if cancelled.is_set():
                    raise CancelledError(Reason.SUPERSEDED, f"{entry.name} is not wanted any more")
                writer.append(piece)

"""Getting the files of a version that are not here yet: by content, in ranges, taken up where they stopped.

The fetcher bounds each request (time, rate, length); here is decided when another request is worth it. What a
server sends is nothing until the store has compared its hash.
"""

import logging
import random
import threading

from muster_agent.store import BlobWriter, Store
from muster_models.errors import MusterError, Reason, TransferError
from muster_models.manifest import FileEntry
from muster_models.trust.fetcher import Fetcher
from muster_models.trust.verified import VerifiedManifest

log = logging.getLogger(__name__)

FRUITLESS_REQUESTS = 3  # in a row; then the updater's longer patience takes over
# What one request must bring to count as getting on, so that a byte now and then does not hold a device.
FRUITFUL_BYTES = 64 * 1024
PAUSE_SECONDS = 1.0  # before a request that follows a fruitless one; doubles


class CancelledError(MusterError):
    """The download is not wanted any more."""


class Downloader:
    """Fetches files from ``<base>/blobs/<sha256>`` into the store.

    Args:
        base_url: Of the repository or of any cache of it.
        fetcher: Holds the TLS context and the limits of one request.
        store: What is here already, whole or in part.
        chance: Spreads repeated requests.
        pause: Seconds, see ``PAUSE_SECONDS``.
    """

    def __init__(
        self,
        base_url: str,
        fetcher: Fetcher,
        store: Store,
        *,
        chance: random.Random,
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._fetcher = fetcher
        self._store = store
        self._chance = chance
        self._pause = pause

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
            with self._store.blob_writer(entry) as writer:
                self._complete(writer, entry, cancelled)
                writer.commit()

    def _complete(self, writer: BlobWriter, entry: FileEntry, cancelled: threading.Event) -> None:
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

    def _request(self, writer: BlobWriter, entry: FileEntry, cancelled: threading.Event) -> None:
        pieces = self._fetcher.fetch_range(
            f"{self._base}/blobs/{entry.sha256}",
            offset=writer.offset,
            length=entry.length - writer.offset,
            limit=entry.length,
        )
        for piece in pieces:
            if cancelled.is_set():
                raise CancelledError(Reason.SUPERSEDED, f"{entry.name} is not wanted any more")
            writer.append(piece)

"""Say more than "not enough signatures": whose signatures python-tuf had before it when it refused."""

from collections.abc import Iterator
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError, SerializationError
from tuf.ngclient.fetcher import FetcherInterface

from muster_models.errors import TrustError
from muster_models.trust.signatures import verify


class LastBody(FetcherInterface):
    """Passes every request on and remembers the last metadata that arrived.

    Attributes:
        body: Bytes of the last file fetched whole.
    """

    def __init__(self, inner: FetcherInterface) -> None:
        self._inner = inner
        self.body = b""

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a whole file; see ``FetcherInterface``."""
        self.body = b""
        self.body = self._inner.download_bytes(url, max_length)
        return self.body

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._inner.fetch(url)


def explain(body: bytes, delegator: Root | Targets, role: str | None) -> TrustError | None:
    """Return why ``body`` is not signed as it must be, or None if it is.

    Args:
        role: Name of a delegated role; None for a top role, whose name is the document's kind.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(body)
        verify(
            delegator,
            role or metadata.signed.type,
            payload=metadata.signed_bytes,
            signatures=metadata.signatures,
        )
    except (DeserializationError, SerializationError):
        return None
    except TrustError as error:
        return error
    return None

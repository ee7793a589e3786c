"""Ask a repository with one small request whether it still shows what was verified last.

Nothing that is answered here is believed or kept: an answer can only spare a full look, and whoever could
answer falsely could as well serve the old files. For how long, and why that gains nothing: docs/adr/0010.
"""

import re
from abc import abstractmethod
from dataclasses import dataclass, field

from tuf.ngclient.fetcher import FetcherInterface

from muster_models.errors import TransferError

MOST_BYTES = 16_384  # of a timestamp; what python-tuf takes
_TAG = re.compile(r'(W/)?"[\x21\x23-\x7e]{1,120}"')


@dataclass(frozen=True)
class Changed:
    """A file as a server holds it now.

    Attributes:
        tag: Its entity tag, to ask with the next time; None where there is none of a harmless form.
    """

    content: bytes = field(repr=False)
    tag: str | None


class RepositoryFetcher(FetcherInterface):
    """What python-tuf fetches by, and the one request more that a glance takes."""

    @abstractmethod
    def fetch_changed(self, url: str, *, tag: str | None, limit: int) -> Changed | None:
        """Return a whole file, or None where the server says that it is still the one with ``tag``.

        Args:
            limit: The most bytes to take.

        Raises:
            TransferError: Anything else, also "unchanged" where no tag was given.
        """


class Glance:
    """Compares one file of a repository with the one that is held."""

    def __init__(self, fetcher: RepositoryFetcher, url: str) -> None:
        self._fetcher = fetcher
        self._url = url
        self._seen: Changed | None = None

    def is_still(self, held: bytes) -> bool:
        """Whether the server gives a clear answer, and it is that nothing else than ``held`` is there."""
        tag = self._seen.tag if self._seen is not None and self._seen.content == held else None
        try:
            changed = self._fetcher.fetch_changed(self._url, tag=tag, limit=MOST_BYTES)
        except TransferError:
            return False  # a full look says what is wrong
        if changed is not None:
            self._seen = changed
        return changed is None or changed.content == held


def harmless(tag: str | None) -> str | None:
    """Return an entity tag that may be sent back to the server that sent it, or None."""
    return tag if tag is not None and _TAG.fullmatch(tag) is not None else None

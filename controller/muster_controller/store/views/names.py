"""Versions by name: people read ``digits@1.2.0``, tables hold digests."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlmodel import Session, col, select

from muster_controller.store.tables import Version

_AT_ONCE = 500  # SQLite takes a limited number of parameters


@dataclass(frozen=True)
class VersionRef:
    """A version as pages and answers name it.

    Attributes:
        version, model: Empty when the controller does not know the digest.
        name: ``model@version``, or the first digits of the digest.
    """

    digest: str
    model: str
    version: str
    name: str


def refer(digest: str, model: str = "", version: str = "") -> VersionRef:
    """Return how a version is named."""
    return VersionRef(digest, model, version, f"{model}@{version}" if version else digest[:12])


def name_versions(session: Session, digests: Iterable[str | None]) -> dict[str, VersionRef]:
    """Return the names of versions by digest; every digest asked for is in the answer."""
    wanted = sorted({digest for digest in digests if digest})
    named = {digest: refer(digest) for digest in wanted}
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        query = select(Version.digest, Version.model, Version.version).where(col(Version.digest).in_(part))
        named |= {digest: refer(digest, model, version) for digest, model, version in session.exec(query)}
    return named

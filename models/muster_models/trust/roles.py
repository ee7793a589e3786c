"""Muster in TUF's words: names of roles, paths of targets, lifetimes, and the facts that each role signs.

Pure: no files, no network, no clock.
"""

import datetime as dt
from typing import Literal, TypeVar, cast

import msgspec
from msgspec import Struct
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from muster_models.errors import Reason, TrustError
from muster_models.manifest import Sha256, VersionName
from muster_models.trust.refusals import refusals

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)

DIRECTOR = "director"
MODEL_PREFIX = "model-"
FIELD = "x-muster"

LIFETIMES = {
    "root": dt.timedelta(days=730),
    "targets": dt.timedelta(days=365),
    "model": dt.timedelta(days=180),
    "snapshot": dt.timedelta(days=30),
    "timestamp": dt.timedelta(days=7),
}


class Facts(Struct, frozen=True):
    """What Muster adds to the signed part of every role's metadata.

    Fields of a later format are ignored: TUF's own rules still hold for a reader that does not know them.

    Attributes:
        role: The role this document was made for. TUF binds a delegated document only to its keys, so
            two roles with one key could otherwise stand in for each other.
        issued: Unix seconds of signing.
        floor: The lowest release that may be installed or run.
        release: The highest release ever listed.
        withdrawn: Versions that are no longer listed, so that their names are never used again.
    """

    role: str
    issued: int
    floor: int = 0
    release: int = 0
    withdrawn: dict[VersionName, Sha256] = {}
    format: Literal[1] = 1


def model_role(model: str) -> str:
    """Return the name of the role that lists the versions of ``model``."""
    return f"{MODEL_PREFIX}{model}"


def target_path(model: str, version: str) -> str:
    """Return the TUF path of a version's manifest."""
    return f"models/{model}/{version}/manifest.json"


def lifetime(role: str) -> dt.timedelta:
    """Return how long a newly signed document of ``role`` is valid."""
    return LIFETIMES.get(role, LIFETIMES["model"])


def stamp(signed: Signed, facts: Facts) -> None:
    """Write facts and the expiry that follows from them into metadata that is about to be signed."""
    signed.unrecognized_fields[FIELD] = msgspec.to_builtins(facts)
    signed.expires = dt.datetime.fromtimestamp(facts.issued, dt.UTC) + lifetime(facts.role)


def facts_of(signed: Signed, role: str) -> Facts:
    """Return the facts of *verified* metadata of ``role``.

    Raises:
        TrustError: There are none, or they say that the document was made for another role.
    """
    try:
        facts = msgspec.convert(signed.unrecognized_fields.get(FIELD), Facts)
    except msgspec.ValidationError as error:
        raise TrustError(Reason.TAMPERED, f"{role}: field {FIELD!r}: {error}") from error
    if facts.role != role:
        raise TrustError(Reason.TAMPERED, f"{role}: the document was signed as {facts.role!r}")
    return facts


def parse(kind: type[S], document: bytes, *, role: str) -> Metadata[S]:
    """Parse metadata without verifying it.

    Raises:
        TrustError: Not metadata, or metadata of another kind.
    """
    with refusals(role):
        metadata = cast("Metadata[S]", Metadata.from_bytes(document))
    if not isinstance(metadata.signed, kind):
        raise TrustError(Reason.TAMPERED, f"{role}: expected {kind.type}, got {metadata.signed.type}")
    return metadata


def payload(metadata: Metadata[S], *, role: str) -> bytes:
    """Return the canonical bytes of metadata, over which signatures are made.

    Raises:
        TrustError: It holds what has no canonical form, such as a number that is not whole.
    """
    with refusals(role):
        return metadata.signed_bytes

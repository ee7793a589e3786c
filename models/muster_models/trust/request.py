"""A request to sign: documents on their way to enough signatures, carried from person to person in one file.

Pure: no files, no network, no clock. Whoever signs sees the documents themselves and not a summary that came
along; whether they follow the present ones is judged by the controller, and by every device.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import Struct
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, Targets

from muster_models.errors import MessageError, Reason, TrustError
from muster_models.manifest import Sha256
from muster_models.trust import roles
from muster_models.trust.refusals import refusals

MAX_BYTES = 32 * 1024 * 1024  # a role that lists 10,000 versions has about 3 MB
ROOT, TARGETS = "root", "targets"


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be signed.

    Attributes:
        root: The present root document.
        targets: The present targets document.
        parts: The new document of each role, handed over together.
        manifest: Of the version that is released, if one is.
        withdrawn: SHA-256 of the manifest of the version that is withdrawn, if one is.
        reason: For the audit trail.
        override: The version is withdrawn although a rollout may still have to go back to it.
    """

    root: bytes
    targets: bytes
    parts: dict[str, bytes]
    manifest: bytes | None = None
    withdrawn: Sha256 | None = None
    reason: str = ""
    override: bool = False
    format: Literal[1] = 1


@dataclass(frozen=True)
class Need:
    """Signatures that one document needs by the keys that one delegator names.

    Attributes:
        by: The document that names the keys: a new root needs its predecessor's and its own.
        holders: Ids of the keys that may sign.
        signed: Ids of those that did.
    """

    role: str
    by: str
    threshold: int
    holders: tuple[str, ...]
    signed: tuple[str, ...]

    @property
    def missing(self) -> int:
        """How many signatures are missing."""
        return max(0, self.threshold - len(self.signed))


def encode(request: Request) -> bytes:
    """Return the file's content."""
    return msgspec.json.encode(request, order="sorted")


def decode(content: bytes) -> Request:
    """Parse a request; nothing in it is believed.

    Raises:
        MessageError: Not a request to sign.
        TrustError: One of its documents does not parse, or is given no keys by the others.
    """
    if len(content) > MAX_BYTES:
        raise MessageError(f"a request to sign has at most {MAX_BYTES} bytes, got {len(content)}")
    try:
        request = msgspec.json.decode(content, type=Request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"expected a request to sign: {error}") from error
    if not request.parts:
        raise MessageError("expected a request to sign: it holds no document")
    needs(request)
    return request


def needs(request: Request) -> list[Need]:
    """Return what every document of the request needs, and what it has.

    Raises:
        TrustError: A document does not parse, or no keys are named for it.
    """
    return [
        need
        for role, document in sorted(request.parts.items())
        for need in _needs(role, document, _delegators(request, role))
    ]


def is_complete(request: Request) -> bool:
    """Tell whether every document has enough good signatures."""
    return all(need.missing == 0 for need in needs(request))


def holds(request: Request, keyid: str) -> bool:
    """Tell whether a key is one of those that the request is for."""
    return any(keyid in need.holders for need in needs(request))


def sign(request: Request, signer: Signer) -> Request:
    """Return the request with the signatures of one key, on every document whose role it holds.

    Raises:
        TrustError: The key holds none of the roles, or does not sign.
    """
    keyid = signer.public_key.keyid
    waiting = {need.role for need in needs(request) if keyid in need.holders and keyid not in need.signed}
    if not waiting and not holds(request, keyid):
        wanted = ", ".join(sorted({holder[:8] for need in needs(request) for holder in need.holders}))
        raise TrustError(Reason.WRONG_KEY, f"the key {keyid[:8]} may not sign this; {wanted} may")
    parts = {
        role: _signed(role, document, signer) if role in waiting else document
        for role, document in request.parts.items()
    }
    return msgspec.structs.replace(request, parts=parts)


def _signed(role: str, document: bytes, signer: Signer) -> bytes:
    metadata = _parse(role, document)
    with refusals(role):
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def _needs(role: str, document: bytes, delegators: Mapping[str, Root | Targets]) -> list[Need]:
    metadata = _parse(role, document)
    roles.facts_of(metadata.signed, role)
    payload = roles.payload(metadata, role=role)
    found = []
    for by, delegator in delegators.items():
        try:
            result = delegator.get_verification_result(role, payload, metadata.signatures)
        except ValueError as error:
            raise TrustError(Reason.NOT_LISTED, f"{role}: {by} names no keys for it") from error
        holders = tuple(sorted({*result.signed, *result.unsigned}))
        found.append(Need(role, by, result.threshold, holders, tuple(sorted(result.signed))))
    return found


def _delegators(request: Request, role: str) -> dict[str, Root | Targets]:
    if role not in {ROOT, TARGETS}:
        targets = request.parts.get(TARGETS, request.targets)
        return {"targets": roles.parse(Targets, targets, role=TARGETS).signed}
    present = roles.parse(Root, request.root, role=ROOT).signed
    new = roles.parse(Root, request.parts.get(ROOT, request.root), role=ROOT).signed
    if role == TARGETS:
        return {f"root {new.version}": new}
    return {f"root {present.version}": present, f"root {new.version}": new}


def _parse(role: str, document: bytes) -> Metadata[Any]:
    return (
        roles.parse(Root, document, role=role) if role == ROOT else roles.parse(Targets, document, role=role)
    )

"""What a document of the repository says, in words that people check before they sign it.

Pure: no files, no network, no clock. Nothing is verified here.
"""

from collections.abc import Mapping

from msgspec import Struct
from securesystemslib.signer import Key
from tuf.api.metadata import Role, Root, Targets

from muster_models.trust import listing, roles
from muster_models.trust.roles import MODEL_PREFIX


class Holding(Struct, frozen=True):
    """Who holds a role.

    Attributes:
        threshold: How many of the keys must sign.
        keys: Their ids.
    """

    role: str
    threshold: int
    keys: tuple[str, ...]


class Entry(Struct, frozen=True):
    """A version that a model's role lists."""

    version: str
    release: int
    digest: str


class View(Struct, frozen=True):
    """One document.

    Attributes:
        expires: RFC 3339, UTC.
        holdings: Roles that it gives to keys; for root and targets.
        versions: What it lists; for a model.
        floor: The lowest release that may run; for a model.
        withdrawn: Versions that may not run; for a model.
    """

    role: str
    version: int
    expires: str
    holdings: tuple[Holding, ...] = ()
    versions: tuple[Entry, ...] = ()
    floor: int = 0
    withdrawn: tuple[str, ...] = ()


def view(role: str, document: bytes) -> View:
    """Return what the document of a role says.

    Raises:
        TrustError: It does not parse, was made for another role, or lists what is no version of the model.
    """
    if role == "root":
        root = roles.parse(Root, document, role=role).signed
        return View(role, root.version, _instant(root), _holdings(root.roles))
    signed = roles.parse(Targets, document, role=role).signed
    facts = roles.facts_of(signed, role)
    if not role.startswith(MODEL_PREFIX):
        delegated = signed.delegations.roles if signed.delegations is not None else None
        return View(role, signed.version, _instant(signed), _holdings(delegated or {}))
    listed = listing.versions(signed, role.removeprefix(MODEL_PREFIX)).values()
    entries = sorted((Entry(one.version, one.release, one.digest) for one in listed), key=_release)
    withdrawn = tuple(sorted(facts.withdrawn))
    return View(
        role, signed.version, _instant(signed), (), tuple(entries), floor=facts.floor, withdrawn=withdrawn
    )


def keys_of(document: bytes, role: str) -> list[Key]:
    """Return the keys that a root or targets document gives to ``role``; none where it names no such role.

    Raises:
        TrustError: The document does not parse.
    """
    signed = _delegator(document, role)
    if isinstance(signed, Root):
        return [signed.keys[keyid] for keyid in signed.roles[role].keyids]
    held = signed.delegations
    if held is None or role not in (held.roles or {}):
        return []
    return [held.keys[keyid] for keyid in (held.roles or {})[role].keyids]


def _delegator(document: bytes, role: str) -> Root | Targets:
    if role in {"root", "targets", "snapshot", "timestamp"}:
        return roles.parse(Root, document, role="root").signed
    return roles.parse(Targets, document, role="targets").signed


def _holdings(held: Mapping[str, Role]) -> tuple[Holding, ...]:
    return tuple(Holding(name, role.threshold, tuple(sorted(role.keyids))) for name, role in held.items())


def _instant(signed: Root | Targets) -> str:
    return f"{signed.expires:%Y-%m-%dT%H:%M:%SZ}"


def _release(entry: Entry) -> int:
    return entry.release

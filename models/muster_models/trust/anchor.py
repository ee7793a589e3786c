"""The last metadata that a device verified: verified again, from the pinned root, each time it is read.

Pure: no files, no network, no clock. Expiry is not judged here, because expired metadata must keep a device
running; who installs or obeys something new asks ``expired``.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from msgspec import Struct
from tuf.api.metadata import Root, Signed, Snapshot, Targets, Timestamp

from muster_models.errors import Reason, TrustError
from muster_models.trust import roles
from muster_models.trust.signatures import verify

S = TypeVar("S", Timestamp, Snapshot, Targets)


class Former(Struct, frozen=True):
    """The last document of a model's role that held, with the targets under which it did."""

    targets: bytes
    role: bytes


class Documents(Struct, frozen=True):
    """The bytes of one consistent state of the repository.

    Attributes:
        roots: Every root document after the pinned one, oldest first.
        models: Documents of model roles, by the name of the role.
        former: For roles whose document in ``models`` does not hold.
    """

    roots: tuple[bytes, ...]
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    models: Mapping[str, bytes] = {}
    former: Mapping[str, Former] = {}


@dataclass(frozen=True)
class Anchor:
    """Verified metadata.

    Attributes:
        models: By the name of the role; those that hold, or else the last that held: good enough to go on
            running, not to install by.
        refused: Why the newest document of a role does not hold.
    """

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    models: Mapping[str, Targets]
    refused: Mapping[str, TrustError]

    def expired(self, now: float, role: str | None = None) -> TrustError | None:
        """Return the refusal if something that ``role`` rests on has expired, or None.

        Args:
            now: Unix seconds, not below the time floor.
            role: A model's role; None for the top roles alone.
        """
        chain: list[tuple[str, Signed]] = [
            ("root", self.root),
            ("timestamp", self.timestamp),
            ("snapshot", self.snapshot),
            ("targets", self.targets),
        ]
        if role is not None:
            chain.append((role, self.models[role]))
        return first_expired(chain, now)


def first_expired(chain: Iterable[tuple[str, Signed]], now: float) -> TrustError | None:
    """Return the refusal that names the first expired document, or None."""
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    for name, signed in chain:
        if signed.is_expired(moment):
            return TrustError(
                Reason.EXPIRED,
                f"{name} expired at {signed.expires:%Y-%m-%dT%H:%M:%SZ}; keep running, install nothing",
            )
    return None


def verify_documents(pinned: bytes, documents: Documents) -> Anchor:
    """Verify every signature from the pinned root down.

    Raises:
        TrustError: The chain breaks above the model roles. A model's role that does not hold is left out and
            its reason kept: one model's trouble is not another's.
    """
    root = verify_roots(pinned, documents.roots)
    targets = _delegated(root, "targets", kind=Targets, document=documents.targets)
    models: dict[str, Targets] = {}
    refused: dict[str, TrustError] = {}
    for role, document in documents.models.items():
        try:
            models[role] = verify_role(targets, role, document)
        except TrustError as error:
            refused[role] = error
            if role in documents.former:
                models |= _former_role(root, role, documents.former[role])
    return Anchor(
        root,
        _delegated(root, "timestamp", kind=Timestamp, document=documents.timestamp),
        _delegated(root, "snapshot", kind=Snapshot, document=documents.snapshot),
        targets,
        models,
        refused,
    )


def _former_role(root: Root, role: str, former: Former) -> dict[str, Targets]:
    try:
        return {role: verify_role(verify_top(root, former.targets), role, former.role)}
    except TrustError:
        return {}  # the key of targets was replaced since: nothing that it gave holds


def verify_roots(pinned: bytes, later: Iterable[bytes]) -> Root:
    """Follow the chain of root documents and return the last one.

    Documents up to the pinned version are skipped: a device may have been given a newer root since.

    Raises:
        TrustError: A document is not signed by its predecessor's keys and its own, or a version is missing.
    """
    metadata = roles.parse(Root, pinned, role="root")
    payload = roles.payload(metadata, role="root")
    verify(metadata.signed, "root", payload=payload, signatures=metadata.signatures)
    root = metadata.signed
    for document in later:
        metadata = roles.parse(Root, document, role="root")
        new = metadata.signed
        if new.version <= root.version:
            continue
        if new.version != root.version + 1:
            raise TrustError(Reason.REPLAYED, f"root {new.version} does not follow root {root.version}")
        payload = roles.payload(metadata, role="root")
        for delegator in (root, new):
            verify(delegator, "root", payload=payload, signatures=metadata.signatures)
        root = new
    roles.facts_of(root, "root")
    return root


def verify_role(targets: Targets, role: str, document: bytes) -> Targets:
    """Return the verified metadata of a model's role.

    Raises:
        TrustError: Not signed by a threshold of the role's keys, or made for another role.
    """
    return _delegated(targets, role, kind=Targets, document=document)


def verify_top(root: Root, document: bytes) -> Targets:
    """Return the verified targets metadata.

    Raises:
        TrustError: Not signed by the targets key, or made for another role.
    """
    return _delegated(root, "targets", kind=Targets, document=document)


def _delegated(delegator: Root | Targets, role: str, *, kind: type[S], document: bytes) -> S:
    metadata = roles.parse(kind, document, role=role)
    payload = roles.payload(metadata, role=role)
    verify(delegator, role, payload=payload, signatures=metadata.signatures)
    roles.facts_of(metadata.signed, role)
    return metadata.signed

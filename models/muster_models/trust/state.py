"""One state of the repository as the controller holds it, and whether another may follow it.

Pure: no files, no network, no clock.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from tuf.api.metadata import Root, Targets

from muster_models.errors import Reason, TrustError
from muster_models.trust import listing
from muster_models.trust.anchor import first_expired, verify_role, verify_roots, verify_top
from muster_models.trust.roles import DIRECTOR, MODEL_PREFIX, facts_of


@dataclass(frozen=True)
class State:
    """Verified documents of the offline roles.

    Attributes:
        documents: Bytes of ``root``, ``targets`` and every ``model-<name>``.
        models: By the name of the role.
    """

    root: Root
    targets: Targets
    models: Mapping[str, Targets]
    documents: Mapping[str, bytes] = field(repr=False)

    def signed(self, role: str) -> Root | Targets | None:
        """Return the metadata of an offline role, or None if there is none."""
        match role:
            case "root":
                return self.root
            case "targets":
                return self.targets
            case _:
                return self.models.get(role)


def verify_state(root: Root, documents: Mapping[str, bytes]) -> State:
    """Verify every signature below a verified root.

    Raises:
        TrustError: A document does not verify, or targets delegate no director.
    """
    targets = verify_top(root, documents["targets"])
    models = {
        role: verify_role(targets, role, document)
        for role, document in documents.items()
        if role.startswith(MODEL_PREFIX)
    }
    if targets.delegations is None or DIRECTOR not in (targets.delegations.roles or {}):
        raise TrustError(Reason.NOT_LISTED, f"targets must delegate the role {DIRECTOR!r}")
    for role, signed in models.items():
        listing.versions(signed, role.removeprefix(MODEL_PREFIX))
    return State(root, targets, models, dict(documents))


def follow(state: State, changes: Mapping[str, bytes], now: dt.datetime) -> State:
    """Return the state in which ``changes`` replaced their roles' documents.

    What must hold:
        1. a new root is signed by the old one's keys and its own;
        2. everything, also what did not change, verifies under the new delegations;
        3. each changed document is the next version of its role;
        4. none has expired;
        5. no floor falls and no listed version changes its bytes.

    Raises:
        TrustError: One of these does not hold.
    """
    root = state.root
    if "root" in changes:
        root = verify_roots(state.documents["root"], [changes["root"]])  # 1
    new = verify_state(root, {**state.documents, **changes})  # 2
    for role in changes:
        _check_version(role, state.signed(role), new.signed(role))  # 3
        expired = first_expired(
            ((role, signed) for signed in [new.signed(role)] if signed), now.timestamp()
        )  # 4
        if expired is not None:
            raise expired
    for role in state.models:
        _check_history(role, state.models[role], new.models[role])  # 5
    return new


def _check_version(role: str, old: Root | Targets | None, new: Root | Targets | None) -> None:
    if new is None:
        raise TrustError(Reason.NOT_LISTED, f"{role}: no such role")
    expected = 1 if old is None else old.version + 1
    if new.version != expected:
        raise TrustError(Reason.REPLAYED, f"{role}: expected version {expected}, got {new.version}")


def _check_history(role: str, old: Targets, new: Targets) -> None:
    before, after = facts_of(old, role), facts_of(new, role)
    if after.floor < before.floor or after.release < before.release:
        raise TrustError(
            Reason.REPLAYED,
            f"{role}: the floor is {before.floor} and the last release {before.release}, "
            f"got {after.floor} and {after.release}",
        )
    model = role.removeprefix(MODEL_PREFIX)
    held = listing.versions(old, model)
    for version, entry in listing.versions(new, model).items():
        if version in held and held[version].digest != entry.digest:
            raise TrustError(Reason.TAMPERED, f"{model}@{version} was released with other bytes")

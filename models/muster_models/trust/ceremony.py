"""Changes of keys, each as a request that has no signatures yet: who holds a role from now on.

Pure: no files, no network, no clock. A key that goes may sign that it goes; what decides is the role above.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from securesystemslib.signer import Key
from tuf.api.metadata import Root

from muster_models.errors import ConflictError
from muster_models.trust import publisher, roles
from muster_models.trust.publisher import RootKeys
from muster_models.trust.request import ROOT, TARGETS, Request
from muster_models.trust.roles import DIRECTOR, model_role
from muster_models.trust.view import keys_of


@dataclass(frozen=True)
class Present:
    """The present documents that a change starts from.

    Attributes:
        now: The moment of signing.
    """

    root: bytes
    targets: bytes
    now: dt.datetime

    def request(self, parts: Mapping[str, bytes]) -> Request:
        """Return the request to sign ``parts``."""
        return Request(self.root, self.targets, dict(parts))

    def root_keys(self) -> RootKeys:
        """Return who holds the top roles."""
        root = roles.parse(Root, self.root, role=ROOT).signed
        held = {name: [root.keys[keyid] for keyid in role.keyids] for name, role in root.roles.items()}
        return RootKeys(
            roots=held[ROOT],
            threshold=root.roles[ROOT].threshold,
            targets=held[TARGETS][0],
            snapshot=held["snapshot"][0],
            timestamp=held["timestamp"][0],
        )


def replace_root_keys(present: Present, keys: Sequence[Key], threshold: int) -> Request:
    """Give the root role to ``keys``; old and new keys must sign.

    Raises:
        ConflictError: Fewer keys than signatures are needed.
    """
    _check(ROOT, keys, threshold)
    return _new_root(present, replace(present.root_keys(), roots=keys, threshold=threshold), {})


def renew_root(present: Present) -> Request:
    """Give the root document a new expiry."""
    return _new_root(present, present.root_keys(), {})


def replace_targets_key(present: Present, key: Key) -> Request:
    """Give the targets role to another key, which signs the targets document as it is."""
    renewed = publisher.renew(present.targets, signers=[], now=present.now)
    return _new_root(present, replace(present.root_keys(), targets=key), {TARGETS: renewed})


def replace_online_keys(present: Present, *, snapshot: Key, timestamp: Key, director: Key) -> Request:
    """Name other keys of the controller: root names two of them, and targets the third."""
    targets = publisher.change_keys(
        present.targets, DIRECTOR, keys=[director], threshold=1, signer=None, now=present.now
    )
    keys = replace(present.root_keys(), snapshot=snapshot, timestamp=timestamp)
    return _new_root(present, keys, {TARGETS: targets})


def give_model(
    present: Present, model: str, role: bytes | None, *, keys: Sequence[Key], threshold: int
) -> Request:
    """Give a model's role to ``keys``, and to no others; enough of them must sign what it lists already.

    Args:
        present: Where it starts from.
        model: New, or one with a role.
        role: The present document of the model's role, if there is one.
        keys: All keys that hold the role from now on.
        threshold: How many of them must sign each release.

    Raises:
        ConflictError: Fewer keys than signatures are needed.
    """
    name = model_role(model)
    _check(name, keys, threshold)
    if keys_of(present.targets, name):
        targets = publisher.change_keys(
            present.targets, name, keys=keys, threshold=threshold, signer=None, now=present.now
        )
    else:
        targets = publisher.add_model(
            present.targets, model, keys=keys, threshold=threshold, signer=None, now=present.now
        )
    if role is None:
        return present.request({TARGETS: targets})
    return present.request({TARGETS: targets, name: publisher.renew(role, signers=[], now=present.now)})


def _new_root(present: Present, keys: RootKeys, others: Mapping[str, bytes]) -> Request:
    root = publisher.rotate_root(present.root, keys, signers=[], now=present.now)
    return present.request({ROOT: root, **others})


def _check(role: str, keys: Sequence[Key], threshold: int) -> None:
    count = len({key.keyid for key in keys})
    if not 1 <= threshold <= count:
        raise ConflictError(
            f"{role} would have {count} keys and need {threshold} signatures: give it more keys"
        )

"""The offline side: makes and changes the documents that release keys and root keys sign.

Pure over bytes: no files, no network, no clock. Documents are the publisher's own and are not verified here;
whoever receives them verifies (``Repository.accept``, then every device).
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets

from muster_models.errors import ConflictError, NotFoundError
from muster_models.manifest import digest, parse
from muster_models.trust import roles
from muster_models.trust.refusals import refusals
from muster_models.trust.roles import DIRECTOR, Facts, facts_of, model_role, target_path

S = TypeVar("S", Root, Targets)


@dataclass(frozen=True)
class RootKeys:
    """Keys that a root document gives to the four top roles; only the root role may need several."""

    roots: Sequence[Key]
    threshold: int
    targets: Key
    snapshot: Key
    timestamp: Key


def make_root(
    signers: Sequence[Signer],
    threshold: int,
    *,
    targets: Key,
    snapshot: Key,
    timestamp: Key,
    now: dt.datetime,
) -> bytes:
    """Return version 1 of the root document, the one that devices are given at enrolment.

    Args:
        signers: Every root key; ``threshold`` of them must sign whatever replaces this document.
    """
    keys = RootKeys([signer.public_key for signer in signers], threshold, targets, snapshot, timestamp)
    return _sign(_root(1, keys, now), signers)


def rotate_root(root: bytes, keys: RootKeys, *, signers: Sequence[Signer], now: dt.datetime) -> bytes:
    """Return the next root document, with new keys or only a new expiry.

    Args:
        signers: A threshold of the old root keys and a threshold of the new ones.
    """
    version = roles.parse(Root, root, role="root").signed.version + 1
    return _sign(_root(version, keys, now), signers)


def make_targets(signer: Signer, *, director: Key, now: dt.datetime) -> bytes:
    """Return version 1 of the targets document: no models yet, and the director that devices obey."""
    # No paths: the director signs desired state and can list nothing.
    role = DelegatedRole(DIRECTOR, [director.keyid], 1, terminating=True, paths=[])
    targets = Targets(delegations=Delegations({director.keyid: director}, {DIRECTOR: role}))
    roles.stamp(targets, Facts("targets", _seconds(now)))
    return _sign(targets, [signer])


def add_model(
    targets: bytes,
    model: str,
    *,
    keys: Sequence[Key],
    threshold: int,
    signer: Signer | None,
    now: dt.datetime,
) -> bytes:
    """Return targets with a role for ``model``, held by ``keys``.

    Args:
        threshold: How many of the keys must sign each release; two is the four-eyes rule.
        signer: Of the targets role; None leaves the document to be signed later, as do empty ``signers``
            elsewhere in this module.

    Raises:
        ConflictError: The model has a role already.
    """
    signed = _parse(targets, "targets").signed
    name = model_role(model)
    if name in _delegated(signed):
        raise ConflictError(f"model {model} has a role already; change its keys instead")
    _delegated(signed)[name] = DelegatedRole(name, [], 1, terminating=True, paths=[target_path(model, "*")])
    return _rekey(signed, name, keys, threshold=threshold, signer=signer, now=now)


def change_keys(
    targets: bytes,
    role: str,
    *,
    keys: Sequence[Key],
    threshold: int,
    signer: Signer | None,
    now: dt.datetime,
) -> bytes:
    """Return targets in which ``role`` (``director`` or ``model-<name>``) is held by other keys.

    The role's own document must be signed again by the new keys, and both handed over together.

    Raises:
        NotFoundError: No such role.
    """
    signed = _parse(targets, "targets").signed
    if role not in _delegated(signed):
        raise NotFoundError(f"role {role} is not delegated; roles are {sorted(_delegated(signed))}")
    for keyid in list(_delegated(signed)[role].keyids):
        signed.revoke_key(keyid, role)
    return _rekey(signed, role, keys, threshold=threshold, signer=signer, now=now)


def release(
    role: bytes | None, manifest_document: bytes, *, signers: Sequence[Signer], now: dt.datetime
) -> bytes:
    """Return the model's role with one more version listed.

    Args:
        role: The present document; None for the model's first release.

    Raises:
        ConflictError: The version was used before, the release number does not grow, or the role is another
            model's.
        ManifestError: The document is not a manifest.
    """
    manifest = parse(manifest_document)
    signed, facts = _open_role(role, manifest.model)
    path = target_path(manifest.model, manifest.version)
    if path in signed.targets or manifest.version in facts.withdrawn:
        raise ConflictError(f"{manifest.name} was released before; a version never changes")
    if manifest.release <= facts.release:
        raise ConflictError(
            f"{manifest.name}: the release number must be above {facts.release}, got {manifest.release}"
        )
    target = TargetFile(len(manifest_document), {"sha256": digest(manifest_document)}, path)
    target.unrecognized_fields["custom"] = {"release": manifest.release}
    signed.targets[path] = target
    facts = msgspec.structs.replace(facts, release=manifest.release, issued=_seconds(now))
    return _sign_role(signed, facts, signers=signers, first=role is None)


def withdraw(
    role: bytes, version: str, *, floor: int | None, signers: Sequence[Signer], now: dt.datetime
) -> bytes:
    """Return the model's role without ``version``, so that no device installs it or starts it again.

    Args:
        floor: The lowest release that may still run; None leaves it as it is.

    Raises:
        NotFoundError: The version is not listed.
        ConflictError: The floor would fall.
    """
    signed = _parse(role, "model").signed
    facts = _facts(signed)
    path = target_path(_model_of(facts), version)
    if path not in signed.targets:
        raise NotFoundError(f"{_model_of(facts)}@{version} is not listed")
    if floor is not None and floor < facts.floor:
        raise ConflictError(f"the floor never falls: it is {facts.floor}, got {floor}")
    gone = signed.targets.pop(path).hashes["sha256"]
    facts = msgspec.structs.replace(
        facts,
        floor=facts.floor if floor is None else floor,
        withdrawn=facts.withdrawn | {version: gone},
        issued=_seconds(now),
    )
    return _sign_role(signed, facts, signers=signers, first=False)


def renew(document: bytes, *, signers: Sequence[Signer], now: dt.datetime) -> bytes:
    """Return targets or a model's role with the same content, a new version and a new expiry."""
    signed = _parse(document, "targets").signed
    facts = msgspec.structs.replace(_facts(signed), issued=_seconds(now))
    return _sign_role(signed, facts, signers=signers, first=False)


def cosign(document: bytes, signer: Signer) -> bytes:
    """Return the document with one more signature: the second pair of eyes may sit at another machine."""
    metadata = _parse(document, "document")
    metadata.sign(signer, append=True)
    return metadata.to_bytes()


def _root(version: int, keys: RootKeys, now: dt.datetime) -> Root:
    if not 1 <= keys.threshold <= len(keys.roots):
        raise ValueError(f"threshold must be 1..{len(keys.roots)}, got {keys.threshold}")
    root = Root(version=version, consistent_snapshot=True)
    for key in keys.roots:
        root.add_key(key, "root")
    root.roles["root"].threshold = keys.threshold
    root.add_key(keys.targets, "targets")
    root.add_key(keys.snapshot, "snapshot")
    root.add_key(keys.timestamp, "timestamp")
    roles.stamp(root, Facts("root", _seconds(now)))
    return root


def _rekey(
    targets: Targets,
    role: str,
    keys: Sequence[Key],
    *,
    threshold: int,
    signer: Signer | None,
    now: dt.datetime,
) -> bytes:
    if not 1 <= threshold <= len({key.keyid for key in keys}):
        raise ValueError(f"threshold must be 1..{len(keys)}, got {threshold}")
    for key in keys:
        targets.add_key(key, role)
    _delegated(targets)[role].threshold = threshold
    facts = msgspec.structs.replace(facts_of(targets, "targets"), issued=_seconds(now))
    return _sign_role(targets, facts, signers=[] if signer is None else [signer], first=False)


def _open_role(role: bytes | None, model: str) -> tuple[Targets, Facts]:
    if role is None:
        return Targets(), Facts(model_role(model), 0)
    signed = _parse(role, model_role(model)).signed
    facts = _facts(signed)
    if facts.role != model_role(model):
        raise ConflictError(f"the manifest is of model {model}, the role is {facts.role}")
    return signed, facts


def _sign_role(targets: Targets, facts: Facts, *, signers: Iterable[Signer], first: bool) -> bytes:
    if not first:
        targets.version += 1
    roles.stamp(targets, facts)
    return _sign(targets, signers)


def _sign(signed: S, signers: Iterable[Signer]) -> bytes:
    metadata = Metadata(signed)
    with refusals(signed.type):  # a key in a token may refuse
        for signer in signers:
            metadata.sign(signer, append=True)
    return metadata.to_bytes()


def _parse(document: bytes, role: str) -> Metadata[Targets]:
    return roles.parse(Targets, document, role=role)


def _facts(signed: Targets) -> Facts:
    return msgspec.convert(signed.unrecognized_fields.get(roles.FIELD), Facts)


def _model_of(facts: Facts) -> str:
    return facts.role.removeprefix(roles.MODEL_PREFIX)


def _delegated(targets: Targets) -> dict[str, DelegatedRole]:
    if targets.delegations is None or targets.delegations.roles is None:
        raise NotFoundError("the document delegates nothing: expected the targets document")
    return targets.delegations.roles


def _seconds(now: dt.datetime) -> int:
    return int(now.timestamp())

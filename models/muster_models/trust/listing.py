"""What the verified metadata of one model's role says about a version: listed, which bytes, above the floor.

Pure: no files, no network, no clock. Devices and the controller ask the same questions here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tuf.api.metadata import Targets

from muster_models.errors import Reason, TrustError
from muster_models.manifest import MAX_BYTES, digest, parse
from muster_models.trust.roles import facts_of, model_role, target_path
from muster_models.trust.verified import VerifiedManifest, _seal

_PATH = re.compile(r"models/([^/]+)/([^/]+)/manifest\.json")


@dataclass(frozen=True)
class Listed:
    """One listed version.

    Attributes:
        length: Bytes of the manifest.
        digest: SHA-256 of the manifest.
    """

    model: str
    version: str
    release: int
    length: int
    digest: str


def versions(role: Targets, model: str) -> Mapping[str, Listed]:
    """Return every listed version of ``model``.

    Raises:
        TrustError: The role lists something that is no version of this model.
    """
    entries = (_entry(role, model, path=path) for path in role.targets)
    return {entry.version: entry for entry in entries}


def find(role: Targets, model: str, *, version: str, digest_: str, floor: int) -> Listed:
    """Return the entry of a version that may be installed and run.

    Args:
        digest_: SHA-256 of the manifest that is asked for.
        floor: The highest floor seen so far; the role's own counts as well.

    Raises:
        TrustError: Not listed, listed with another digest, withdrawn, or below the floor.
    """
    name = f"{model}@{version}"
    facts = facts_of(role, model_role(model))
    path = target_path(model, version)
    if path not in role.targets:
        state = "was withdrawn" if version in facts.withdrawn else "is not listed"
        raise TrustError(Reason.NOT_LISTED, f"{name} {state}")
    entry = _entry(role, model, path=path)
    if entry.digest != digest_:
        raise TrustError(
            Reason.NOT_LISTED, f"{name} is listed as {entry.digest[:12]}, asked for {digest_[:12]}"
        )
    lowest = max(floor, facts.floor)
    if entry.release < lowest:
        raise TrustError(
            Reason.BELOW_FLOOR, f"{name} is release {entry.release}; the lowest that may run is {lowest}"
        )
    return entry


def seal(entry: Listed, document: bytes) -> VerifiedManifest:
    """Return the verified manifest of a listed version.

    Raises:
        TrustError: The bytes are not the listed ones, or they describe another version than the entry.
        ManifestError: They are the listed ones and are not a manifest.
    """
    name = f"{entry.model}@{entry.version}"
    if len(document) != entry.length or digest(document) != entry.digest:
        raise TrustError(
            Reason.TAMPERED,
            f"{name}: expected {entry.length} bytes with SHA-256 {entry.digest[:12]}, "
            f"got {len(document)} with {digest(document)[:12]}",
        )
    manifest = parse(document)
    says = (manifest.model, manifest.version, manifest.release)
    if says != (entry.model, entry.version, entry.release):
        raise TrustError(
            Reason.NOT_LISTED,
            f"listed as {name} release {entry.release}, the manifest says {manifest.name} "
            f"release {manifest.release}",
        )
    return _seal(document)


def _entry(role: Targets, model: str, *, path: str) -> Listed:
    target = role.targets[path]
    match = _PATH.fullmatch(path)
    digest_ = target.hashes.get("sha256", "")
    custom = target.custom
    release = custom.get("release") if isinstance(custom, dict) else None
    if match is None or match[1] != model or not isinstance(release, int) or not digest_:
        raise TrustError(Reason.TAMPERED, f"{model_role(model)}: {path[:120]!r} is no version of {model}")
    if target.length > MAX_BYTES:
        raise TrustError(Reason.TOO_LARGE, f"{path}: a manifest has at most {MAX_BYTES} bytes")
    return Listed(model, match[2], release, target.length, digest_)

"""Small verified versions with the bytes of their files."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from muster_models.manifest import FileRole, encode
from muster_models.trust.verified import VerifiedManifest, _seal
from muster_models.wire import DesiredModel
from support.manifests import file_entry, make_manifest


@dataclass(frozen=True)
class Version:
    """A version as ``trust`` would hand it over, and what a download would bring."""

    verified: VerifiedManifest
    blobs: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        return self.verified.digest

    def desired(self, *, probation_seconds: float = 60.0, **changes: object) -> DesiredModel:
        """Return what a desired state says to ask for this version."""
        manifest = self.verified.manifest
        return DesiredModel(
            manifest.model,
            manifest.version,
            self.digest,
            probation_seconds=probation_seconds,
            **changes,  # type: ignore[arg-type]  # fields of the struct, by name
        )


def make_version(
    number: str, *, model: bytes | None = None, baseline: bytes = b"the same baseline"
) -> Version:
    """Return ``digits@<number>``; versions share their baseline and golden vectors unless told otherwise."""
    contents: dict[FileRole, bytes] = {
        "model": model if model is not None else f"model {number} ".encode() * 5,
        "baseline": baseline,
        "golden": b"the same golden vectors",
    }
    files = tuple(
        file_entry(f"{role}.bin", role, sha256=hashlib.sha256(data).hexdigest(), length=len(data))
        for role, data in contents.items()
    )
    document = encode(make_manifest(version=number, release=int(number.replace(".", "")) + 1, files=files))
    return Version(_seal(document), {hashlib.sha256(data).hexdigest(): data for data in contents.values()})

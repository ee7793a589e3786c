"""Small verified versions with the bytes of their files."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from muster_models import delta
from muster_models.manifest import Delta, FileEntry, FileRole, encode
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


def with_deltas(version: Version, *earlier: Version, form: str | None = None) -> Version:
    """Return a version whose model can be made of the models of earlier ones, by the smallest patch.

    Args:
        form: Takes this form instead, however large.
    """
    old = version.verified.manifest
    patches = [_patch(version, before, form) for before in earlier]
    files = tuple(_patched(entry, patches) if entry.role == "model" else entry for entry in old.files)
    document = encode(msgspec.structs.replace(old, files=files))
    blobs = {one.sha256: data for one, data in patches}
    return Version(_seal(document), {**version.blobs, **blobs})


def _patch(version: Version, before: Version, form: str | None) -> tuple[Delta, bytes]:
    base, new = before.verified.manifest.file("model"), version.verified.manifest.file("model")
    patches = delta.try_forms(before.blobs[base.sha256], version.blobs[new.sha256])
    best = next(patch for patch in patches if form in {None, patch.form})
    return Delta(base.sha256, best.form, hashlib.sha256(best.data).hexdigest(), len(best.data)), best.data


def _patched(entry: FileEntry, patches: Sequence[tuple[Delta, bytes]]) -> FileEntry:
    return msgspec.structs.replace(entry, deltas=tuple(one for one, _ in patches))

"""Patches for a version that was built: from the files that devices hold to those that they will need.

Each is decoded again before a manifest names it, so nothing is signed that a device would have to refuse.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import msgspec

from muster_models import delta, manifest
from muster_models.errors import MusterError
from muster_models.manifest import Delta, FileEntry, Manifest
from muster_models.publish.build import Built

# Of file and base: trying every form takes about ten times as much memory, and minutes.
LARGEST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Trial:
    """What was tried for one file and one earlier version.

    Attributes:
        file: Its name.
        length: Of the file, in bytes: what is sent without a patch.
        base: ``model@version`` of the earlier version.
        sizes: Bytes of the patch in each form that was tried, smallest first.
        outcome: What is shipped, or why nothing, for people.
        patch: What is shipped.
    """

    file: str
    length: int
    base: str
    sizes: Mapping[str, int]
    outcome: str
    patch: Delta | None = None


def add_deltas(
    built: Built, earlier: Sequence[Manifest], *, read: Callable[[FileEntry], bytes], output: Path
) -> tuple[Built, tuple[Trial, ...]]:
    """Return a version whose manifest names patches, and what was tried for them.

    Args:
        built: The version.
        earlier: Versions that devices may hold, those that matter most first.
        read: Returns a file of them, whose hash it has checked.
        output: The patches are written into its ``blobs``.
    """
    folder = output / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    entries, trials = [], []
    for entry in built.manifest.files:
        tried = list(_try_all(built, entry, earlier, read=read, folder=folder))
        trials += tried
        entries.append(msgspec.structs.replace(entry, deltas=tuple(one.patch for one in tried if one.patch)))
    document, described = _fitting(msgspec.structs.replace(built.manifest, files=tuple(entries)))
    named = {one.sha256: folder / one.sha256 for entry in described.files for one in entry.deltas}
    files = MappingProxyType({**built.files, **named})
    return replace(built, manifest=described, document=document, files=files), tuple(trials)


def _try_all(
    built: Built,
    entry: FileEntry,
    earlier: Sequence[Manifest],
    *,
    read: Callable[[FileEntry], bytes],
    folder: Path,
) -> Iterator[Trial]:
    seen = {entry.sha256}  # who has the file itself needs no patch
    for before in earlier:
        base = _counterpart(entry, before)
        if base is None or base.sha256 in seen:
            continue
        seen.add(base.sha256)
        blank = Trial(entry.name, entry.length, before.name, {}, "")
        if base.length + entry.length > LARGEST_BYTES:
            yield replace(blank, outcome=f"too large to try, above {LARGEST_BYTES} bytes together")
            continue
        try:
            yield _try(blank, base, read(base), new=built.files[entry.sha256].read_bytes(), folder=folder)
        except MusterError as error:
            yield replace(blank, outcome=f"not tried: {error}")


def _try(blank: Trial, base: FileEntry, held: bytes, *, new: bytes, folder: Path) -> Trial:
    patches = delta.try_forms(held, new)
    tried = replace(blank, sizes={patch.form: len(patch.data) for patch in patches})
    best = patches[0]
    if not delta.is_worth(len(best.data), len(new)):
        return replace(tried, outcome="none is worth it, the file is sent")
    made = b"".join(delta.decode(best.form, held, [best.data], length=len(new)))
    if made != new:
        raise RuntimeError(f"a patch of the form {best.form} does not make its file")
    sha256 = hashlib.sha256(best.data).hexdigest()
    (folder / sha256).write_bytes(best.data)
    return replace(
        tried,
        outcome=f"{best.form} is shipped, {len(best.data) / len(new):.1%} of the file",
        patch=Delta(base.sha256, best.form, sha256, len(best.data)),
    )


def _counterpart(entry: FileEntry, before: Manifest) -> FileEntry | None:
    """Return the file of another version that plays the same part."""
    same = [one for one in before.files if one.role == entry.role]
    named = [one for one in same if one.name == entry.name]
    return next(iter(named or same), None)


def _fitting(described: Manifest) -> tuple[bytes, Manifest]:
    """Return a manifest without the patches that save least, as many as make it too large."""
    document = manifest.encode(described)
    while len(document) > manifest.MAX_BYTES and any(entry.deltas for entry in described.files):
        _, least = min(
            (entry.length - one.length, one.sha256) for entry in described.files for one in entry.deltas
        )
        described = msgspec.structs.replace(
            described,
            files=tuple(
                msgspec.structs.replace(
                    entry, deltas=tuple(one for one in entry.deltas if one.sha256 != least)
                )
                for entry in described.files
            ),
        )
        document = manifest.encode(described)
    manifest.parse(document)
    return document, described

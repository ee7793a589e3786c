"""Which patches a version gets, and what is said of them."""

from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np

from muster_models import manifest as manifests
from muster_models.errors import NotFoundError
from muster_models.manifest import FileEntry
from muster_models.publish.build import Built
from muster_models.publish.deltas import Trial, add_deltas
from support.versions import Version, make_version

CHANCE = np.random.default_rng(6)
WEIGHTS = CHANCE.bytes(20_000)
FIRST = make_version("1.0.0", model=WEIGHTS)
SECOND = make_version("1.1.0", model=b"a word" + WEIGHTS)
OTHER = make_version("1.2.0", model=CHANCE.bytes(20_000))
THIRD = make_version("1.3.0", model=b"two words" + WEIGHTS)


def built(folder: Path, version: Version) -> Built:
    for sha256, content in version.blobs.items():
        (folder / sha256).write_bytes(content)
    files = {sha256: folder / sha256 for sha256 in version.blobs}
    verified = version.verified
    return Built(verified.manifest, verified.document, MappingProxyType(files), 1.0)


def patched(folder: Path, version: Version, *earlier: Version) -> tuple[Built, tuple[Trial, ...]]:
    held = {sha256: content for before in earlier for sha256, content in before.blobs.items()}

    def read(entry: FileEntry) -> bytes:
        if entry.sha256 not in held:
            raise NotFoundError("gone")
        return held[entry.sha256]

    before = [one.verified.manifest for one in earlier]
    return add_deltas(built(folder, version), before, read=read, output=folder)


def test_each_file_that_changed_is_tried_against_each_version_and_the_smallest_patch_ships(
    tmp_path: Path,
) -> None:
    made, trials = patched(tmp_path, THIRD, SECOND, FIRST, OTHER)

    model = made.manifest.file("model")
    assert [(trial.file, trial.base) for trial in trials] == [
        ("model.bin", "digits@1.1.0"),
        ("model.bin", "digits@1.0.0"),
        ("model.bin", "digits@1.2.0"),
    ]
    assert [trial.outcome.partition(",")[0] for trial in trials] == [
        "zstd-patch is shipped", "zstd-patch is shipped", "none is worth it",
    ]  # fmt: skip
    assert [delta.base for delta in model.deltas] == [
        version.verified.manifest.file("model").sha256 for version in (SECOND, FIRST)
    ]
    assert all(made.files[one.sha256].stat().st_size == one.length < 200 for one in model.deltas)
    assert all(list(trial.sizes.values()) == sorted(trial.sizes.values()) for trial in trials)
    assert manifests.parse(made.document) == made.manifest


def test_a_version_without_predecessors_stays_as_it_was_byte_for_byte(tmp_path: Path) -> None:
    made, trials = patched(tmp_path, FIRST)

    assert made.document == FIRST.verified.document
    assert trials == ()


def test_what_cannot_be_read_is_said_and_left_out(tmp_path: Path) -> None:
    gone = Version(SECOND.verified, {})
    made, trials = patched(tmp_path, THIRD, gone, FIRST)

    assert [trial.outcome.partition(",")[0] for trial in trials] == [
        "not tried: gone", "zstd-patch is shipped",
    ]  # fmt: skip
    assert len(made.manifest.file("model").deltas) == 1


def test_a_manifest_that_would_grow_too_large_names_the_patches_that_save_most(tmp_path: Path) -> None:
    plain = THIRD.verified.manifest
    room = manifests.MAX_BYTES - len(THIRD.verified.document) - 300
    names = {f"{number:064d}": 1.0 for number in range(room // 71)}  # 71 bytes each
    full = msgspec.structs.replace(plain, metrics=names)
    document = manifests.encode(full)
    assert manifests.MAX_BYTES - 380 < len(document) < manifests.MAX_BYTES - 290  # room for one, not for two
    before = built(tmp_path, THIRD)
    large = Built(full, document, before.files, 1.0)

    made, trials = add_deltas(
        large,
        [SECOND.verified.manifest, FIRST.verified.manifest],
        read=lambda entry: {**SECOND.blobs, **FIRST.blobs}[entry.sha256],
        output=tmp_path,
    )

    kept = made.manifest.file("model").deltas
    tried = [trial.patch.length for trial in trials if trial.patch]
    assert len(tried) == 2
    assert [delta.length for delta in kept] == [min(tried)]
    assert len(made.document) <= manifests.MAX_BYTES

"""Patches from a real server: only the patch travels, and whatever is wrong ends in the whole file."""

import random
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest

from muster_agent.disk import Disk, RealDisk
from muster_agent.store import HEADROOM_BYTES, Store
from muster_agent.update.download import CancelledError, Downloader
from muster_agent.update.rebuild import NamedPatch
from muster_models.errors import MusterError, Reason, TransferError
from muster_models.manifest import encode
from muster_models.trust.fetcher import Fetcher, Limits
from support.disk import SimulatedDisk
from support.http_server import Handler, LoopbackServer, Route, cut_short, fixed, serving, with_ranges
from support.verified import seal
from support.versions import Version, make_version, with_deltas

LIMITS = Limits(silence=60.0, patience=60.0)
CHANCE = np.random.default_rng(3)
WEIGHTS = (CHANCE.standard_normal(50_000) * 0.05).astype(np.float32)
TUNED = (WEIGHTS * (1 + 0.001 * CHANCE.standard_normal(50_000))).astype(np.float32)
OLDEST = make_version("0.9.0", model=CHANCE.bytes(1000) + WEIGHTS[:40_000].tobytes())
FIRST = make_version("1.0.0", model=WEIGHTS.tobytes())
SECOND = with_deltas(make_version("1.1.0", model=TUNED.tobytes()), FIRST, OLDEST)
MODEL = SECOND.verified.manifest.file("model")
PATCH, LONGER_PATCH = MODEL.deltas
PATCH_NAMED = NamedPatch("a patch", PATCH.sha256, PATCH.length)
PATCH_BYTES = SECOND.blobs[PATCH.sha256]


@dataclass
class Device:
    """A device beside a server.

    Attributes:
        told: Why a whole file was fetched in place of a patch.
    """

    server: LoopbackServer
    disk: Disk
    memory_bytes: int = 1 << 30
    told: list[MusterError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(self.disk)
        self.store.load()
        self.fetcher = Fetcher(limits=LIMITS)
        self.downloader = Downloader(
            f"http://127.0.0.1:{self.server.port}",
            self.fetcher,
            self.store,
            chance=random.Random(1),
            pause=0.001,
            memory_bytes=self.memory_bytes,
            on_failed_patch=lambda _verified, error: self.told.append(error),
        )

    def fetch(self, version: Version = SECOND, cancelled: threading.Event | None = None) -> list[str]:
        """Fetch a version; return what was asked for, in words."""
        before = len(self.server.requests)
        try:
            self.downloader.fetch(version.verified, cancelled or threading.Event())
        finally:
            self.fetcher.close()
        self.store.verify(version.verified)
        names = {MODEL.sha256: "file", PATCH.sha256: "patch", LONGER_PATCH.sha256: "longer patch"}
        asked = self.server.requests[before:]
        return [names.get(path.rpartition("/")[2], "another") for path, _ in asked]

    def left_over(self, *versions: Version) -> list[str]:
        """Return what lies among the files and belongs to none of the versions."""
        files = {entry.sha256 for version in versions for entry in version.verified.manifest.files}
        return [name for name in self.disk.names("blobs") if name not in files]


@dataclass
class Site:
    """What a server sends, by hash; ``sent`` counts the bytes of bodies that were sent in full."""

    contents: Mapping[str, bytes]
    sent: int = 0

    def routes(self) -> dict[str, Route]:
        return {f"/blobs/{sha256}": self._counted(content) for sha256, content in self.contents.items()}

    def _counted(self, content: bytes) -> Route:
        def route(handler: Handler) -> None:
            # First: whoever has all of it may ask at once.
            self.sent += len(content) - int((handler.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            with_ranges(content)(handler)

        return route


@pytest.fixture
def site() -> Site:
    return Site({**OLDEST.blobs, **FIRST.blobs, **SECOND.blobs})


@pytest.fixture
def server(site: Site) -> Iterator[LoopbackServer]:
    with serving(site.routes()) as running:
        yield running


@pytest.fixture
def device(server: LoopbackServer, tmp_path: Path) -> Device:
    """A device that holds the first version."""
    made = Device(server, RealDisk(tmp_path / "store"))
    made.fetch(FIRST)
    return made


def test_what_travels_is_the_patch_and_nothing_is_left_of_it(device: Device, site: Site) -> None:
    before = site.sent

    assert device.fetch() == ["patch"]
    assert site.sent - before == len(PATCH_BYTES) < 0.6 * MODEL.length
    assert device.left_over(FIRST, SECOND) == []
    assert (device.downloader.rebuilt.files, device.downloader.rebuilt.failed) == (1, 0)
    assert device.downloader.rebuilt.saved_bytes == MODEL.length - len(PATCH_BYTES)


BROKEN: dict[str, tuple[Route, type[MusterError], Reason]] = {
    "missing": (fixed(404), TransferError, Reason.DOWNLOAD_FAILED),
    "cut short each time": (cut_short(PATCH_BYTES, 10), TransferError, Reason.DOWNLOAD_FAILED),
    "shorter than signed": (with_ranges(PATCH_BYTES[:-7]), TransferError, Reason.DOWNLOAD_FAILED),
    "tampered": (with_ranges(PATCH_BYTES[:-1] + b"?"), MusterError, Reason.TAMPERED),
    "another patch": (with_ranges(SECOND.blobs[LONGER_PATCH.sha256]), MusterError, Reason.TAMPERED),
    "nonsense": (with_ranges(bytes(len(PATCH_BYTES))), MusterError, Reason.TAMPERED),
}


@pytest.mark.parametrize(("route", "kind", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_patch_that_does_not_come_as_signed_ends_in_the_whole_file(
    device: Device, server: LoopbackServer, route: Route, kind: type[MusterError], reason: Reason
) -> None:
    server.routes = {**server.routes, f"/blobs/{PATCH.sha256}": route}

    asked = device.fetch()

    assert asked[-1] == "file"
    assert set(asked[:-1]) == {"patch"}
    assert device.left_over(FIRST, SECOND) == []
    assert [(isinstance(error, kind), error.reason) for error in device.told] == [(True, reason)]
    assert (device.downloader.rebuilt.files, device.downloader.rebuilt.failed) == (0, 1)


def test_a_device_without_the_base_fetches_the_whole_file(server: LoopbackServer, tmp_path: Path) -> None:
    device = Device(server, RealDisk(tmp_path / "new"))

    assert sorted(device.fetch()) == ["another", "another", "file"]
    assert device.told == []


def test_a_device_with_an_older_base_takes_the_patch_from_there(server: LoopbackServer) -> None:
    device = Device(server, SimulatedDisk())
    device.fetch(OLDEST)

    assert device.fetch() == ["longer patch"]
    assert device.left_over(OLDEST, SECOND) == []


def test_a_base_that_has_rotted_is_noticed_and_the_whole_file_fetched(device: Device, tmp_path: Path) -> None:
    base = tmp_path / "store/blobs" / PATCH.base
    base.write_bytes(b"\0" * base.stat().st_size)

    assert device.fetch() == ["patch", "file"]
    assert "missing or damaged" in str(device.told[0])
    assert device.left_over(FIRST, SECOND) == []


def changed(**changes: object) -> Version:
    """Return the second version with its shorter patch described otherwise, and signed so."""
    manifest = SECOND.verified.manifest
    entries = tuple(
        msgspec.structs.replace(entry, deltas=(msgspec.structs.replace(PATCH, **changes),))
        if entry.role == "model"
        else entry
        for entry in manifest.files
    )
    return Version(seal(msgspec.structs.replace(manifest, files=entries)), SECOND.blobs)


def test_a_form_that_the_device_does_not_know_is_not_even_asked_for(device: Device) -> None:
    assert device.fetch(changed(form="better-than-all")) == ["file"]
    assert device.told == []


def test_a_patch_of_another_form_than_it_says_is_a_mistake_of_the_publisher_and_costs_one_try(
    device: Device,
) -> None:
    assert device.fetch(changed(form="zstd-patch")) == ["patch", "file"]
    assert len(device.told) == 1
    assert device.left_over(FIRST, SECOND) == []


def test_a_signed_patch_that_makes_another_file_is_caught_by_the_hash_of_the_whole_file(
    device: Device,
) -> None:
    assert device.fetch(changed(form="halves-planes-zstd")) == ["patch", "file"]
    assert [error.reason for error in device.told] == [Reason.TAMPERED]
    assert device.left_over(FIRST, SECOND) == []


def test_a_device_with_little_memory_passes_patches_over(server: LoopbackServer) -> None:
    device = Device(server, SimulatedDisk(), memory_bytes=32 * 1024 * 1024)
    device.fetch(FIRST)

    assert device.fetch() == ["file"]
    assert device.told == []


def test_a_disk_with_room_for_the_file_only_takes_the_file(server: LoopbackServer) -> None:
    disk = SimulatedDisk()
    device = Device(server, disk)
    device.fetch(FIRST)
    taken = disk.capacity - disk.free_bytes()
    disk.capacity = taken + HEADROOM_BYTES + MODEL.length + len(PATCH_BYTES) // 2

    assert device.fetch() == ["file"]


def test_a_patch_is_taken_up_where_it_was_cut_also_by_the_next_process(
    device: Device, server: LoopbackServer, tmp_path: Path
) -> None:
    whole = server.routes
    server.routes = {f"/blobs/{PATCH.sha256}": cut_short(PATCH_BYTES, 30_000)}
    with pytest.raises(TransferError):
        device.fetch()
    server.routes = whole
    assert device.told == []  # the file did not come either

    asked = Device(server, RealDisk(tmp_path / "store")).fetch()

    assert asked == ["patch"]
    assert server.requests[-1][1] == f"bytes=30000-{len(PATCH_BYTES) - 1}"


def test_a_whole_file_that_has_mostly_arrived_is_finished(device: Device) -> None:
    with device.store.blob_writer(MODEL) as writer:
        writer.append(SECOND.blobs[MODEL.sha256][: -len(PATCH_BYTES) // 2])

    assert device.fetch() == ["file"]


def test_a_patch_that_is_not_wanted_any_more_ends_the_download(device: Device) -> None:
    cancelled = threading.Event()
    cancelled.set()

    with pytest.raises(CancelledError):
        device.fetch(cancelled=cancelled)

    assert device.told == []


def test_what_cannot_make_the_file_any_more_is_collected(device: Device) -> None:
    with device.store.blob_writer(PATCH_NAMED) as writer:
        writer.append(PATCH_BYTES)
    device.store.put_manifest(SECOND.verified)

    device.store.collect(keep=[FIRST.digest, SECOND.digest])
    kept = device.left_over(FIRST, SECOND)
    device.fetch()
    device.store.collect(keep=[FIRST.digest, SECOND.digest])

    assert kept == [f"{PATCH.sha256}.part"]
    assert device.left_over(FIRST, SECOND) == []


def test_a_manifest_without_deltas_has_the_bytes_that_it_had_before_there_were_any() -> None:
    assert b"deltas" not in encode(FIRST.verified.manifest)

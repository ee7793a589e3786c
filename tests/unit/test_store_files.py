"""The store over a real folder."""

import contextlib
import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from muster_agent.arrival import PART, blob_name
from muster_agent.disk import RealDisk
from muster_agent.store import ASIDE, HEADROOM_BYTES, OLD_STATE, STATE, Store, _decode, state_trouble
from muster_agent.update.state import AgentState, ModelState
from muster_models.errors import FitError, Reason, StorageError, TransferError, TrustError
from muster_models.manifest import FileEntry
from muster_models.wire import SlotReport
from support.disk import SimulatedDisk
from support.versions import Version, make_version

FIRST = make_version("1.0.0")
SECOND = make_version("1.1.0")  # shares the baseline and the golden vectors with the first


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk()


@pytest.fixture
def store(folder: Path) -> Store:
    store = Store(RealDisk(folder))
    store.load()
    return store


def stage(store: Store, version: Version) -> list[FileEntry]:
    """Bring a version onto the disk; return what had to be fetched."""
    store.put_manifest(version.verified)
    missing = store.missing(version.verified)
    for entry in missing:
        with store.blob_writer(entry) as writer:
            writer.append(version.blobs[entry.sha256])
            writer.commit()
    return missing


def model_entry(version: Version) -> FileEntry:
    return version.verified.manifest.file("model")


def running(version: Version, previous: Version | None = None) -> AgentState:
    def slot(held: Version) -> SlotReport:
        return SlotReport(held.digest, held.verified.manifest.version)

    model = ModelState("digits", current=slot(version), previous=slot(previous) if previous else None)
    return AgentState(sequence=7, models={"digits": model})


def test_a_new_device_remembers_nothing(store: Store) -> None:
    assert store.load() == AgentState()


def test_a_state_is_found_by_the_next_process(store: Store, folder: Path) -> None:
    store.save(running(FIRST))
    store.save(running(SECOND, FIRST))

    assert Store(RealDisk(folder)).load() == running(SECOND, FIRST)


def test_a_damaged_state_file_gives_way_to_the_one_before(store: Store, folder: Path) -> None:
    store.save(running(FIRST))
    store.save(running(SECOND))
    (folder / STATE).write_bytes((folder / STATE).read_bytes()[:-1] + b"!")

    assert Store(RealDisk(folder)).load() == running(FIRST)
    assert Store(RealDisk(folder)).load() == running(FIRST)


def test_two_damaged_state_files_make_a_new_device_rather_than_a_dead_one(store: Store, folder: Path) -> None:
    store.save(running(FIRST))
    store.save(running(SECOND))
    for name in (STATE, OLD_STATE):
        (folder / name).write_bytes(b"")

    assert Store(RealDisk(folder)).load() == AgentState()


def test_every_damaged_byte_of_a_state_file_is_noticed() -> None:
    disk = SimulatedDisk()
    store = Store(disk)
    store.save(running(FIRST))
    for seed in range(200):
        other = disk.clone()
        other.damage(STATE, Random(seed))

        assert Store(other).load() == AgentState()


@given(st.binary(max_size=200))
def test_a_state_file_of_any_bytes_is_a_state_or_nothing(document: bytes) -> None:
    checksum = hashlib.sha256(document).hexdigest().encode()

    found = _decode(checksum + b"\n" + document)

    assert _decode(document) is None
    assert found is None or found == msgspec.json.decode(document, type=AgentState)


def test_a_state_file_of_deep_nesting_is_nothing() -> None:
    document = b"[" * 100_000

    assert _decode(hashlib.sha256(document).hexdigest().encode() + b"\n" + document) is None


def test_a_second_version_fetches_only_what_differs(store: Store) -> None:
    assert len(stage(store, FIRST)) == 3
    assert stage(store, SECOND) == [model_entry(SECOND)]


def test_a_staged_version_is_installed_and_verifies(store: Store) -> None:
    stage(store, FIRST)
    store.verify(FIRST.verified)

    assert store.installed(FIRST.digest) == FIRST.verified.document
    assert store.installed(SECOND.digest) is None


def test_a_download_goes_on_where_it_stopped(store: Store) -> None:
    entry = model_entry(FIRST)
    data = FIRST.blobs[entry.sha256]
    with store.blob_writer(entry) as writer:
        writer.append(data[:10])
    with store.blob_writer(entry) as writer:
        assert writer.offset == 10
        writer.append(data[10:])
        writer.commit()

    assert entry not in store.missing(FIRST.verified)


def test_wrong_bytes_are_tampering_and_leave_nothing(store: Store, folder: Path) -> None:
    entry = model_entry(FIRST)
    with store.blob_writer(entry) as writer:
        writer.append(b"x" * entry.length)
        with pytest.raises(TrustError, match="expected sha256") as caught:
            writer.commit()

    assert caught.value.reason is Reason.TAMPERED
    assert list((folder / "blobs").iterdir()) == []


def test_garbage_from_an_earlier_run_is_a_failed_download_and_not_an_attack(
    store: Store, folder: Path
) -> None:
    entry = model_entry(FIRST)
    (folder / (blob_name(entry) + PART)).write_bytes(b"\0" * 5)
    with store.blob_writer(entry) as writer:
        writer.append(FIRST.blobs[entry.sha256][5:])
        with pytest.raises(TransferError):
            writer.commit()

    assert stage(store, FIRST)


def test_a_part_that_is_longer_than_the_file_is_begun_anew(store: Store, folder: Path) -> None:
    entry = model_entry(FIRST)
    (folder / (blob_name(entry) + PART)).write_bytes(b"x" * (entry.length + 1))

    with store.blob_writer(entry) as writer:
        assert writer.offset == 0


def test_more_bytes_than_signed_are_refused_before_they_are_written(store: Store) -> None:
    entry = model_entry(FIRST)
    with store.blob_writer(entry) as writer, pytest.raises(TransferError) as caught:
        writer.append(b"x" * (entry.length + 1))

    assert caught.value.reason is Reason.TOO_LARGE


def test_fewer_bytes_than_signed_do_not_become_a_file(store: Store) -> None:
    entry = model_entry(FIRST)
    with store.blob_writer(entry) as writer:
        writer.append(b"x")
        with pytest.raises(TransferError, match=f"expected {entry.length} bytes, got 1"):
            writer.commit()


@pytest.mark.parametrize("damage", ["changed", "cut short", "gone"])
def test_a_file_that_is_not_what_was_signed_is_found_and_fetched_anew(
    store: Store, folder: Path, damage: str
) -> None:
    stage(store, FIRST)
    path = folder / blob_name(model_entry(FIRST))
    match damage:
        case "changed":
            path.write_bytes(b"x" * model_entry(FIRST).length)
        case "cut short":
            path.write_bytes(b"")
        case _:
            path.unlink()

    with pytest.raises(TrustError) as caught:
        store.verify(FIRST.verified)

    assert caught.value.reason is Reason.TAMPERED
    assert stage(store, FIRST) == [model_entry(FIRST)]
    store.verify(FIRST.verified)


def test_a_version_too_large_for_the_disk_is_refused_before_the_first_byte() -> None:
    disk = SimulatedDisk(capacity=HEADROOM_BYTES + 50)
    store = Store(disk)
    calls = disk.calls
    with pytest.raises(FitError, match=r"digits@1\.0\.0 needs \d+ bytes, 50 are free") as caught:
        store.put_manifest(FIRST.verified)

    assert caught.value.reason is Reason.NO_SPACE
    assert disk.calls == calls


def test_a_file_too_large_for_the_disk_is_refused_before_the_first_byte() -> None:
    store = Store(SimulatedDisk(capacity=HEADROOM_BYTES + 10))

    with pytest.raises(FitError, match="are free"):
        store.blob_writer(model_entry(FIRST))


def test_what_is_exposed_is_private_and_under_its_own_names(store: Store, tmp_path: Path) -> None:
    stage(store, FIRST)
    exposed = store.expose(FIRST.verified, tmp_path / "run")

    assert stat.S_IMODE(exposed.stat().st_mode) == 0o700
    assert {path.name: path.read_bytes() for path in exposed.iterdir()} == {
        entry.name: FIRST.blobs[entry.sha256] for entry in FIRST.verified.manifest.files
    }


def test_a_folder_left_from_an_earlier_life_is_replaced(store: Store, tmp_path: Path) -> None:
    stage(store, FIRST)
    store.expose(FIRST.verified, tmp_path / "run").joinpath("stray").write_text("left")
    exposed = store.expose(FIRST.verified, tmp_path / "run")

    assert not exposed.joinpath("stray").exists()


def test_collecting_keeps_what_the_saved_state_names_and_nothing_else(store: Store, folder: Path) -> None:
    third = make_version("1.2.0", baseline=b"another")
    for version in (FIRST, SECOND, third):
        stage(store, version)
    with store.blob_writer(model_entry(make_version("1.3.0"))) as writer:
        writer.append(b"model")
    store.save(running(SECOND, FIRST))
    store.collect()

    assert {path.name for path in (folder / "manifests").iterdir()} == {FIRST.digest, SECOND.digest}
    assert {path.name for path in (folder / "blobs").iterdir()} == {*FIRST.blobs, *SECOND.blobs}


def test_collecting_keeps_what_the_caller_still_needs(store: Store) -> None:
    stage(store, FIRST)
    store.collect(keep={FIRST.digest})

    store.verify(FIRST.verified)


def test_collecting_keeps_a_download_of_a_candidate_that_has_not_ended(store: Store, folder: Path) -> None:
    entry = model_entry(FIRST)
    store.put_manifest(FIRST.verified)
    with store.blob_writer(entry) as writer:
        writer.append(b"model")
    state = running(FIRST)
    model = replace(state.models["digits"], current=None, candidate=state.models["digits"].current)
    store.save(replace(state, models={"digits": model}))
    store.collect()

    assert (folder / (blob_name(entry) + PART)).read_bytes() == b"model"


def test_one_content_is_written_by_one_download_at_a_time(store: Store) -> None:
    with store.blob_writer(model_entry(FIRST)), pytest.raises(TransferError, match="another model"):
        store.blob_writer(model_entry(FIRST))

    store.blob_writer(model_entry(FIRST)).close()


def test_collecting_does_not_disturb_a_download_that_is_under_way(store: Store) -> None:
    entry = model_entry(FIRST)
    with store.blob_writer(entry) as writer:
        writer.append(FIRST.blobs[entry.sha256])
        store.collect()
        writer.commit()
        store.collect()

        assert entry not in store.missing(FIRST.verified)


def test_threads_that_stage_save_and_collect_do_not_disturb_each_other(store: Store) -> None:
    versions = [make_version(f"2.{number}.0") for number in range(3)]
    slots = [SlotReport(version.digest, version.verified.manifest.version) for version in versions]
    models = {f"model-{slot.version[2]}": ModelState("digits", candidate=slot) for slot in slots}
    state = AgentState(models=models)
    store.save(state)

    def prepare(version: Version) -> None:
        for _ in range(20):
            with contextlib.suppress(TransferError):  # another thread writes a shared file just now
                stage(store, version)

    with ThreadPoolExecutor() as pool:
        staged = [pool.submit(prepare, version) for version in versions]
        while not all(one.done() for one in staged):
            store.save(state)
            store.collect()
        for one in staged:
            one.result()

    for version in versions:
        stage(store, version)
        store.verify(version.verified)


def test_collecting_removes_nothing_while_a_kept_manifest_is_damaged(store: Store, folder: Path) -> None:
    stage(store, FIRST)
    stage(store, SECOND)
    store.save(running(SECOND))
    (folder / "manifests" / SECOND.digest).write_bytes(b"?")
    store.collect()

    assert store.missing(FIRST.verified) == []


def test_collecting_before_loading_is_a_mistake_of_the_caller(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="load the state"):
        Store(RealDisk(folder)).collect()


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StorageError, match="file"):
        RealDisk(tmp_path / "file" / "store")


def test_the_simulated_disk_and_the_real_one_agree(folder: Path) -> None:
    real, simulated = RealDisk(folder), SimulatedDisk()
    for disk in (real, simulated):
        disk.make_folder("blobs")
        file = disk.create("blobs/a")
        file.write(b"one")
        file.sync()
        file.close()
        more = disk.append("blobs/a")
        more.write(b" two")
        more.close()
        disk.create("blobs/b").close()
        disk.rename("blobs/a", "blobs/c")
        disk.remove("blobs/b")
        disk.remove("blobs/b")
        disk.sync_folder("blobs")

        assert disk.names("blobs") == ["c"]
        assert disk.names("nowhere") == []
        assert disk.read("blobs/c") == b"".join(disk.chunks("blobs/c")) == b"one two"
        assert (disk.size("blobs/c"), disk.size("blobs/a")) == (7, None)
        assert disk.free_bytes() > 0
        with pytest.raises(StorageError):
            disk.read("blobs/a")


def test_a_state_that_is_damaged_in_every_copy_is_told_and_kept_aside(disk: SimulatedDisk) -> None:
    store = Store(disk)
    store.load()
    store.save(running(FIRST))
    store.save(running(SECOND, FIRST))
    for name in (STATE, OLD_STATE):
        disk.damage(name, Random(1))
    damaged = disk.read(STATE)
    again = Store(disk)
    state = again.load()
    again.save(running(FIRST))

    assert state == AgentState()
    assert again.mishap.startswith("the state was damaged in every copy: the device begins anew")
    assert disk.read(ASIDE) == damaged
    assert Store(disk).load() == running(FIRST)
    assert state_trouble(disk) == ""


def test_a_state_of_another_format_is_kept_aside_and_not_overwritten(disk: SimulatedDisk) -> None:
    document = b'{"sequence": "none of ours"}'
    content = hashlib.sha256(document).hexdigest().encode() + b"\n" + document
    write(disk, STATE, content)
    store = Store(disk)
    state = store.load()
    store.save(running(FIRST))

    assert state == AgentState()
    assert "has a format that this agent does not know" in store.mishap
    assert disk.read(ASIDE) == content


def test_one_good_copy_is_no_mishap(disk: SimulatedDisk) -> None:
    store = Store(disk)
    store.load()
    store.save(running(FIRST))
    store.save(running(SECOND, FIRST))
    disk.damage(STATE, Random(1))
    again = Store(disk)

    assert again.load() == running(FIRST)
    assert again.mishap == ""
    assert disk.size(ASIDE) is None


def write(disk: SimulatedDisk, name: str, content: bytes) -> None:
    file = disk.create(name)
    file.write(content)
    file.sync()
    disk.sync_folder("")

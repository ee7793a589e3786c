"""A device that is killed at any moment of a refresh still knows what it knew, and goes on afterwards."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from muster_models import durable
from muster_models.errors import StorageError
from muster_models.manifest import digest, encode
from muster_models.trust import publisher
from muster_models.trust.client import TrustClient
from muster_models.trust.repository import Repository
from muster_models.trust.verified import VerifiedManifest
from support.repository import NOW, FolderFetcher, SignedRepository, make_signer

# What the interpreter says before it changes the disk; torn files below stand for writes to an open file.
CHANGES = frozenset({"os.rename", "os.remove", "os.symlink", "os.mkdir", "os.truncate"})
ENOUGH = 80


def changes_disk(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in CHANGES


def die_before_change(number: int) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if changes_disk(event, arguments):
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(hook)


def lives_through(action: Callable[[], object], number: int) -> bool:
    """Do ``action`` in a child that is killed before its change ``number``; tell whether it lived."""
    child = os.fork()
    if child == 0:
        try:
            die_before_change(number)
            action()
        except BaseException:  # noqa: BLE001  # the child must not return into the test runner
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in {0, -signal.SIGKILL}
    return status == 0


def test_a_kill_before_any_change_of_the_disk_loses_nothing(tmp_path: Path) -> None:
    repository = SignedRepository(tmp_path / "repository")
    first = repository.release()
    before = tmp_path / "before"
    repository.client(before).manifest("digits", "1.0.0", first.digest)
    old = repository.roots[:2]
    repository.roots = [make_signer() for _ in range(3)]
    root = publisher.rotate_root(
        repository.document("root"),
        repository.root_keys(),
        signers=[*old, *repository.roots[:2]],
        now=NOW,
    )
    repository.controller.accept("root", root, NOW)
    second = repository.release(version="2.0.0", release=2)

    for number in range(ENOUGH):
        folder = tmp_path / f"killed-{number}"
        shutil.copytree(before, folder, symlinks=True)
        client = repository.client(folder)
        lived = lives_through(partial(install, client, second), number)
        again = repository.client(folder)

        assert again.reverify(first.document).digest == first.digest
        assert again.time_floor == NOW.timestamp()
        assert install(again, second).digest == second.digest
        if lived:
            break
    assert 10 < number < ENOUGH - 1


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_a_torn_file_beside_the_memory_is_of_no_account(tmp_path: Path, kept: float) -> None:
    repository = SignedRepository(tmp_path / "repository")
    released = repository.release()
    folder = tmp_path / "trust"
    repository.client(folder).manifest("digits", "1.0.0", released.digest)
    content = (folder / "memory").read_bytes()
    (folder / ".memory.new").write_bytes(content[: int(kept * len(content))])

    assert repository.client(folder).reverify(released.document).digest == released.digest


def test_a_disk_that_refuses_leaves_the_old_content(tmp_path: Path) -> None:
    durable.replace(tmp_path / "file", b"old")
    (tmp_path / ".file.new").mkdir()

    with pytest.raises(StorageError, match="file: Is a directory"):
        durable.replace(tmp_path / "file", b"new")

    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_controller_killed_while_it_accepts_serves_the_old_state_or_the_new(tmp_path: Path) -> None:
    repository = SignedRepository(tmp_path / "repository")
    first = repository.release()
    document = encode(repository.manifest(version="2.0.0", release=2))
    repository.put_blob(document)
    role = publisher.release(
        repository.document("model-digits"), document, signers=repository.release_keys["digits"], now=NOW
    )

    for number in range(ENOUGH):
        folder = tmp_path / f"killed-{number}"
        shutil.copytree(repository.folder, folder)
        lived = lives_through(
            partial(open_controller(repository, folder).accept, "model-digits", role, NOW), number
        )
        again = open_controller(repository, folder)
        device = repository.client(tmp_path / f"device-{number}", fetcher=FolderFetcher(folder))

        assert device.manifest("digits", "1.0.0", first.digest).digest == first.digest
        assert set(again.listed("digits")) in ({"1.0.0"}, {"1.0.0", "2.0.0"})
        if lived:
            break
        if "2.0.0" not in again.listed("digits"):
            again.accept("model-digits", role, NOW)
        device.refresh()
        assert device.manifest("digits", "2.0.0", digest(document)).document == document
    assert 5 < number < ENOUGH - 1


def install(client: TrustClient, version: VerifiedManifest) -> VerifiedManifest:
    client.refresh()
    return client.manifest(version.manifest.model, version.manifest.version, version.digest)


def open_controller(repository: SignedRepository, folder: Path) -> Repository:
    return Repository(folder, repository.snapshot_key, repository.timestamp_key)

"""Files by content: whole and verified, or not there."""

import hashlib
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from muster_controller.store import blobs as module
from muster_controller.store.blobs import Blobs
from muster_models.errors import NotFoundError, Reason, RequestError, StorageError, TrustError

CONTENT = b"weights " * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "blobs").iterdir())


def test_a_file_is_stored_by_its_hash_and_read_back(blobs: Blobs, tmp_path: Path) -> None:
    length = blobs.put(SHA256, [CONTENT[:10], CONTENT[10:]])

    assert (length, blobs.has(SHA256), blobs.read(SHA256) == CONTENT) == (len(CONTENT), True, True)
    assert files(tmp_path) == [SHA256]


def test_the_same_file_again_changes_nothing(blobs: Blobs, tmp_path: Path) -> None:
    blobs.put(SHA256, [CONTENT])
    blobs.put(SHA256, [CONTENT])

    assert files(tmp_path) == [SHA256]


def test_other_content_than_the_name_says_is_refused_and_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(TrustError) as refused:
        blobs.put(SHA256, [CONTENT, b"more"])

    assert refused.value.reason is Reason.TAMPERED
    assert (blobs.has(SHA256), files(tmp_path)) == (False, [])


def test_an_upload_that_breaks_off_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    with blobs.writer(SHA256) as writer:
        writer.write(CONTENT[:100])

    assert (blobs.has(SHA256), files(tmp_path)) == (False, [])


def test_a_file_that_is_too_large_is_refused_while_it_comes(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BLOB_BYTES", 100)

    with pytest.raises(RequestError) as refused:
        blobs.put(SHA256, [CONTENT])

    assert refused.value.reason is Reason.TOO_LARGE
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["../secret", "", SHA256.upper(), SHA256 + "\n", SHA256[:-1], "a/b"])
def test_what_is_no_hash_is_no_name(blobs: Blobs, name: str) -> None:
    with pytest.raises(RequestError, match="expected a SHA-256"):
        blobs.has(name)
    with pytest.raises(RequestError, match="expected a SHA-256"):
        blobs.put(name, [CONTENT])


def test_a_file_that_is_not_there_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFoundError, match=SHA256):
        blobs.path(SHA256)


def test_a_disk_that_refuses_is_told_as_such(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "blobs").rmdir()

    with pytest.raises(StorageError, match="No such file or directory"):
        blobs.put(SHA256, [CONTENT])


DYING = """
import os, pathlib, sys, tempfile
from muster_controller.store.blobs import Blobs
folder, sha256, number = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
calls = iter(range(1000))
def watched(real):
    def call(*args, **kwargs):
        if next(calls) == number:
            os._exit(9)
        return real(*args, **kwargs)
    return call
for owner, name in ((tempfile, "mkstemp"), (os, "fsync"), (pathlib.Path, "replace")):
    setattr(owner, name, watched(getattr(owner, name)))
Blobs(folder).put(sha256, [b"weights " * 1000])
"""


@pytest.mark.parametrize("number", range(5))
def test_an_upload_that_was_killed_anywhere_is_whole_or_not_there(tmp_path: Path, number: int) -> None:
    """A process dies before each of the calls that change the disk; the last number lets it live."""
    command = [sys.executable, "-c", DYING, str(tmp_path / "blobs"), SHA256, str(number)]

    status = subprocess.run(command, check=False).returncode
    blobs = Blobs(tmp_path / "blobs")
    survived = blobs.has(SHA256)

    assert (status, survived) in {(9, False), (9, True), (0, True)}
    assert not survived or blobs.read(SHA256) == CONTENT
    assert blobs.put(SHA256, [CONTENT]) == len(CONTENT)


def test_stored_files_are_private(blobs: Blobs) -> None:
    blobs.put(SHA256, [CONTENT])

    assert stat.S_IMODE(blobs.path(SHA256).stat().st_mode) == 0o600

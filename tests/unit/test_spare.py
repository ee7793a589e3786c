"""Where a device goes whose own disk cannot be written."""

import stat
import tempfile
from pathlib import Path

import pytest

from muster_agent.api import socket_of
from muster_agent.serving import localsocket
from muster_agent.spare import find_spare, is_writable, make_spare
from muster_models.errors import StorageError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    (tmp_path / "device").mkdir()
    return tmp_path / "device"


def test_a_place_is_made_once_and_found_by_whoever_knows_the_folder(root: Path) -> None:
    before = find_spare(root)
    place = make_spare(root)

    assert before is None
    assert (find_spare(root), make_spare(root)) == (place, place)
    assert stat.S_IMODE(place.stat().st_mode) & 0o027 == 0


def test_two_devices_have_two_places(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()

    assert make_spare(root) != make_spare(tmp_path / "other")


def test_the_service_managers_place_is_taken_where_there_is_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path / 'run'}:{tmp_path / 'second'}")

    assert make_spare(root) == tmp_path / "run"


def test_a_place_where_others_may_write_is_neither_taken_nor_found(root: Path) -> None:
    make_spare(root).chmod(0o777)

    assert find_spare(root) is None
    with pytest.raises(StorageError, match="alone"):
        make_spare(root)


def test_a_link_in_its_place_is_neither_taken_nor_found(root: Path, tmp_path: Path) -> None:
    place = make_spare(root)
    place.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(tmp_path / "elsewhere")

    assert find_spare(root) is None
    with pytest.raises(StorageError, match="alone"):
        make_spare(root)


def test_a_client_asks_there_only_while_somebody_answers_there(root: Path) -> None:
    usual, spare = root / "agent.sock", make_spare(root) / "agent.sock"
    nobody = socket_of(root)
    listener = localsocket.listen(spare)
    somebody = socket_of(root)
    listener.close()

    assert (nobody, somebody, socket_of(root)) == (usual, spare, usual)


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path) -> None:
    assert (is_writable(tmp_path), is_writable(tmp_path / "nowhere")) == (True, False)

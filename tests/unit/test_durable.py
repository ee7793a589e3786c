from pathlib import Path

import pytest

from muster_models import durable
from muster_models.errors import Reason, StorageError


def test_a_full_disk_is_called_so_and_the_old_content_stays(tmp_path: Path) -> None:
    path = tmp_path / "state"
    durable.replace(path, b"old")
    (tmp_path / ".state.new").symlink_to("/dev/full")

    with pytest.raises(StorageError) as caught:
        durable.replace(path, b"new")

    assert caught.value.reason is Reason.NO_SPACE
    assert path.read_bytes() == b"old"


def test_every_other_refusal_is_a_failure_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StorageError) as caught:
        durable.replace(tmp_path / "file/below", b"new")

    assert caught.value.reason is Reason.STORAGE_FAILED

"""Replace a whole file so that a power cut leaves the old bytes or the new ones, never a mixture."""

import os
from pathlib import Path

from muster_models.errors import Reason, StorageError


def replace(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path``, sync it, rename it into place and sync the folder.

    Raises:
        StorageError: The disk refused; the old content is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.new")
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", Reason.STORAGE_FAILED) from error


def sync_folder(folder: Path) -> None:
    """Make renames within ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

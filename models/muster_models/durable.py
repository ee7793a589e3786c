"""Replace a whole file so that a power cut leaves the old bytes or the new ones, never a mixture."""

import os
from pathlib import Path

from muster_models.errors import Reason, StorageError


def replace(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write ``content`` beside ``path``, sync it, rename it into place and sync the folder.

    Args:
        mode: Who may read the file, before the process's mask; 0o600 for its owner alone.

    Raises:
        StorageError: The disk refused; the old content is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
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

"""Replace a whole file so that a power cut leaves the old bytes or the new ones, never a mixture."""

import contextlib
import errno
import os
from pathlib import Path

from muster_models.errors import Reason, StorageError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def refusal(error: OSError, name: str) -> StorageError:
    """Return the error for what the operating system refused: ``no-space`` when the disk is full."""
    reason = Reason.NO_SPACE if error.errno in _FULL else Reason.STORAGE_FAILED
    return StorageError(f"{name or 'folder'}: {error.strerror or error}", reason)


def replace(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write ``content`` beside ``path``, sync it, rename it into place and sync the folder.

    Args:
        mode: Who may read the file, before the process's mask; 0o600 for its owner alone.

    Raises:
        StorageError: The disk refused, with ``no-space`` where it is full; the old content is still there.
    """
    try:
        if not path.parent.is_dir():
            make_folder(path.parent)
        beside = path.with_name(f".{path.name}.new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise refusal(error, str(path)) from error


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder and those above it that are missing, so that a power cut does not take them away again.

    One that is there is made safe too, as far as the disk allows: a process that was killed may have left it.

    Args:
        mode: Who may enter the last one, before the process's mask.

    Raises:
        OSError: The disk refused.
    """
    try:
        folder.mkdir(mode=mode)
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(mode=mode)
    except FileExistsError:
        if not folder.is_dir():
            raise
        with contextlib.suppress(OSError):
            sync_folder(folder.parent)
        return
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make renames within ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

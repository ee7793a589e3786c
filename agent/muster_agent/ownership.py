"""One agent per folder: whoever holds the lock file may write there; it ends with the process."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from muster_models.errors import StorageError


def own(path: Path) -> Callable[[], None]:
    """Take the folder for this process, also where the disk is read-only; return what gives it back.

    Raises:
        StorageError: Another agent runs from it, or the disk refuses.
    """
    try:
        handle = _open(path)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StorageError(f"another agent runs from {path.parent}") from error
    return lambda: os.close(handle)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

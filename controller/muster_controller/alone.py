"""Holding a controller's folder, so that no second process decides over the same devices."""

import contextlib
import fcntl
from collections.abc import Iterator

from muster_controller.config import Folder
from muster_models.errors import ConflictError, StorageError


@contextlib.contextmanager
def alone(folder: Folder) -> Iterator[None]:
    """Hold the folder; the system lets go of it when the process ends, however it ends.

    Raises:
        ConflictError: Another process holds it.
        StorageError: The disk refuses the lock's file.
    """
    path = folder.root / "lock"
    try:
        file = path.open("w")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(f"{folder.root}: a controller of this folder runs already") from error
        yield

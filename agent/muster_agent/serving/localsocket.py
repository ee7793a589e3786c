"""Unix sockets by path: listening and connecting, also where the path is longer than the system allows."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muster_models.errors import StorageError

_MODE = 0o660  # the owner's group may call; the folder decides who gets that far
_BACKLOG = 64


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at ``path``; what a dead process left there is replaced.

    Raises:
        StorageError: Something answers there already, or the folder refuses.
    """
    if is_answered(path):
        raise StorageError(f"{path} is served by another process")
    listener = socket.socket(socket.AF_UNIX)
    try:
        _remove(path)
        with _address(path) as address:
            listener.bind(address)
            path.chmod(_MODE)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StorageError(f"cannot listen at {path}: {error.strerror}") from error
    return listener


def connect(path: Path) -> socket.socket:
    """Return a connection to whatever listens at ``path``.

    Raises:
        OSError: Nothing does.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        with _address(path) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _remove(path: Path) -> None:
    """Remove what a dead process left; a disk that is read-only says so for one that is not there as well."""
    try:
        path.unlink()
    except OSError as error:
        if error.errno != errno.ENOENT and path.exists():
            raise


def is_answered(path: Path) -> bool:
    """Tell whether something listens at ``path``."""
    try:
        connect(path).close()
    except OSError:
        return False
    return True


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Yield an address for ``path`` within the system's 107 bytes: through an open handle on its folder."""
    handle = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)

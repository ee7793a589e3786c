"""The disk as the store sees it: one folder, few operations, and nothing is safe until it was synced.

A protocol, so that tests can drive the real store over a disk that loses power at any call. Names are
relative, with at most one folder. Only ``StorageError`` leaves this module.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from muster_models.durable import make_folder, refusal

CHUNK_BYTES = 1024 * 1024


class File(Protocol):
    """A file open for writing at its end."""

    def write(self, data: bytes) -> None:
        """Append ``data``; it may be lost until ``sync`` returns."""
        ...

    def sync(self) -> None:
        """Return once everything written is on the medium."""
        ...

    def close(self) -> None:
        """Close without syncing."""
        ...


class Disk(Protocol):
    """One folder. Every method raises ``StorageError`` when the disk refuses."""

    def size(self, name: str) -> int | None:
        """Return the length of a file in bytes, or None when there is none."""
        ...

    def read(self, name: str) -> bytes:
        """Return a whole (small) file."""
        ...

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a file piece by piece."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the plain names in ``folder``, sorted; none when the folder does not exist."""
        ...

    def make_folder(self, folder: str) -> None:
        """Create a folder unless it exists, and make it durable."""
        ...

    def create(self, name: str) -> File:
        """Open an empty file, replacing what had the name."""
        ...

    def append(self, name: str) -> File:
        """Open a file at its end, creating it if need be."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Give a file another name in its folder, replacing what had it; durable after ``sync_folder``."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; no error when there is none."""
        ...

    def sync_folder(self, folder: str) -> None:
        """Return once every creation, renaming and removal in ``folder`` (``""``: the root) is durable."""
        ...

    def free_bytes(self) -> int:
        """Return how many bytes can still be written."""
        ...

    def export(self, name: str, path: Path) -> None:
        """Make the file visible outside the folder as ``path``, without copying where that is possible."""
        ...


class RealDisk:
    """A folder of the real file system, private to this user."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with refusals(folder):
            make_folder(folder, mode=0o700)

    def size(self, name: str) -> int | None:
        """Return the length of a file in bytes, or None when there is none."""
        with refusals(name):
            try:
                return (self._folder / name).stat().st_size
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes:
        """Return a whole (small) file."""
        with refusals(name):
            return (self._folder / name).read_bytes()

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a file piece by piece."""
        with refusals(name), (self._folder / name).open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece

    def names(self, folder: str) -> list[str]:
        """Return the plain names in ``folder``, sorted; none when the folder does not exist."""
        with refusals(folder):
            try:
                return sorted(entry.name for entry in (self._folder / folder).iterdir() if entry.is_file())
            except FileNotFoundError:
                return []

    def make_folder(self, folder: str) -> None:
        """Create a folder unless it exists, and make it durable."""
        with refusals(folder):
            (self._folder / folder).mkdir(mode=0o700, exist_ok=True)
        self.sync_folder("")

    def create(self, name: str) -> "RealFile":
        """Open an empty file, replacing what had the name."""
        return RealFile(self._folder / name, os.O_TRUNC)

    def append(self, name: str) -> "RealFile":
        """Open a file at its end, creating it if need be."""
        return RealFile(self._folder / name, os.O_APPEND)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name in its folder, replacing what had it; durable after ``sync_folder``."""
        with refusals(target):
            (self._folder / source).replace(self._folder / target)

    def remove(self, name: str) -> None:
        """Remove a file; no error when there is none."""
        with refusals(name):
            (self._folder / name).unlink(missing_ok=True)

    def sync_folder(self, folder: str) -> None:
        """Return once every creation, renaming and removal in ``folder`` (``""``: the root) is durable."""
        with refusals(folder):
            descriptor = os.open(self._folder / folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def free_bytes(self) -> int:
        """Return how many bytes can still be written."""
        with refusals(self._folder):
            found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def export(self, name: str, path: Path) -> None:
        """Link the file as ``path``; where links are not possible, copy it."""
        with refusals(path):
            try:
                os.link(self._folder / name, path)
            except OSError:
                # Another file system, or one without hard links.
                shutil.copyfile(self._folder / name, path)


class RealFile:
    """A real file open for writing at its end."""

    def __init__(self, path: Path, flags: int) -> None:
        self._path = path
        with refusals(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)

    def write(self, data: bytes) -> None:
        """Append ``data``; it may be lost until ``sync`` returns."""
        with refusals(self._path):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        """Return once everything written is on the medium."""
        with refusals(self._path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close without syncing."""
        with refusals(self._path):
            os.close(self._descriptor)


@contextlib.contextmanager
def refusals(name: Path | str) -> Iterator[None]:
    """Turn whatever the operating system refuses into a ``StorageError`` that names the file."""
    try:
        yield
    except OSError as error:
        raise refusal(error, str(name)) from error

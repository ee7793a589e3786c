"""The answers of a batch while they come in: raw values in a folder beside the output, whole at every moment.

1. Answers are appended to one file per output.
2. Now and then these are synced, and then ``progress.json`` is replaced: so many rows, so many bytes.
3. A repeat cuts the files to what ``progress.json`` says and goes on behind it.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from msgspec import Struct

from muster_agent.batch.source import Array, invalid, readable
from muster_agent.ownership import own
from muster_models import durable
from muster_models.errors import StorageError

PROGRESS = "progress.json"
TEXT = "str"


class Job(Struct, frozen=True):
    """What is done, so that a repeat goes on with nothing else.

    Attributes:
        source: Where the rows come from.
        length, modified: Of the file, or of all in a folder together; in bytes and nanoseconds.
        version: The one that answers.
    """

    source: str
    length: int
    modified: int
    model: str
    version: str


class Column(Struct, frozen=True):
    """One output.

    Attributes:
        dtype: As numpy names it, with its byte order; ``str`` for text.
        shape: Of one row.
        bytes: Length of its file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int = 0

    @property
    def width(self) -> int:
        """Values of one row."""
        return math.prod(self.shape)


class Progress(Struct, frozen=True):
    """What is safe on the disk."""

    job: Job
    rows: int = 0
    columns: tuple[Column, ...] = ()


def job_of(source: Path, *, model: str, version: str) -> Job:
    """Return what is to be done.

    Raises:
        InvalidInputError: The source cannot be read.
    """
    with readable(source):
        abouts = [path.stat() for path in (source, *(source.iterdir() if source.is_dir() else ()))]
    length = sum(about.st_size for about in abouts)
    modified = max(about.st_mtime_ns for about in abouts)
    return Job(str(source.resolve()), length, modified, model, version)


class Parts:
    """Takes the answers of one job.

    Attributes:
        rows: How many are held.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.rows = progress.rows
        self._job = progress.job
        self._columns = list(progress.columns)
        self._stack = ExitStack()
        self._files: dict[str, IO[bytes]] = {}
        # What belongs to whole rows: a disk that fills up within a row leaves more than that behind.
        self._lengths = {column.name: column.bytes for column in progress.columns}
        for column in self._columns:
            self._open(column.name).truncate(column.bytes)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The outputs, in the order of the model."""
        return tuple(self._columns)

    def append(self, outputs: Mapping[str, Array], *, rows: int) -> None:
        """Add the answers to some rows.

        Raises:
            InvalidInputError: An output is not one answer per row, or not of one shape throughout.
            OSError: The disk refused.
        """
        found = [_column(name, array, rows) for name, array in outputs.items()]
        if not self._columns:
            self._columns = found
        held = {column.name: (column.dtype, column.shape) for column in self._columns}
        if {column.name: (column.dtype, column.shape) for column in found} != held:
            raise invalid(f"expected outputs {held}, got {found}: they have to be the same for all rows")
        encoded = {name: _encoded(array) for name, array in outputs.items()}
        for name, data in encoded.items():
            self._open(name).write(data)
        for name, data in encoded.items():
            self._lengths[name] = self._lengths.get(name, 0) + len(data)
        self.rows += rows

    def save(self) -> None:
        """Make what was added survive a power cut.

        Raises:
            StorageError: The disk refused.
        """
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self._columns = [
            msgspec.structs.replace(column, bytes=self._lengths.get(column.name, 0))
            for column in self._columns
        ]
        progress = Progress(self._job, self.rows, tuple(self._columns))
        durable.replace(self.folder / PROGRESS, msgspec.json.encode(progress))

    def read(self, size: int) -> Iterator[dict[str, Array]]:
        """Yield everything that is held, some rows at a time; texts are arrays of objects."""
        with ExitStack() as stack:
            files = {
                column.name: stack.enter_context(_path(self.folder, column.name).open("rb"))
                for column in self._columns
            }
            for begin in range(0, self.rows, size):
                count = min(size, self.rows - begin)
                yield {column.name: _decoded(column, files[column.name], count) for column in self._columns}

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def _open(self, name: str) -> IO[bytes]:
        if name not in self._files:
            path = _path(self.folder, name)
            self._files[name] = self._stack.enter_context(path.open("ab"))
        return self._files[name]


@contextmanager
def open_parts(folder: Path, job: Job) -> Iterator[Parts]:
    """Open what an earlier attempt at the same job left, or begin anew; nobody else may meanwhile.

    Raises:
        StorageError: Another process does the same, or the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            parts = Parts(folder, _held(folder, job))
            try:
                yield parts
            finally:
                parts.close()
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        give_back = own(folder / "lock")
    except StorageError as error:
        raise StorageError(f"{folder}: another command makes the same output") from error
    try:
        yield
    finally:
        give_back()


def remove_parts(folder: Path) -> None:
    """Remove what is not needed any more."""
    shutil.rmtree(folder, ignore_errors=True)


def _held(folder: Path, job: Job) -> Progress:
    try:
        progress = msgspec.json.decode((folder / PROGRESS).read_bytes(), type=Progress)
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        progress = None
    if progress is not None and progress.job == job and _is_whole(folder, progress):
        return progress
    for path in folder.glob("*.part"):
        path.unlink()
    (folder / PROGRESS).unlink(missing_ok=True)
    return Progress(job)


def _is_whole(folder: Path, progress: Progress) -> bool:
    paths = [(_path(folder, column.name), column.bytes) for column in progress.columns]
    return all(path.exists() and path.stat().st_size >= length for path, length in paths)


def _path(folder: Path, name: str) -> Path:
    # A tensor's name may be anything, also what is no file name.
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.part"


def _column(name: str, array: Array, rows: int) -> Column:
    if array.shape[:1] != (rows,):
        raise invalid(f"output {name!r}: expected an answer for each of {rows} rows, got {list(array.shape)}")
    return Column(name, TEXT if array.dtype.kind in "OUS" else array.dtype.str, array.shape[1:])


def _encoded(array: Array) -> bytes:
    if array.dtype.kind not in "OUS":
        return array.tobytes()
    return b"".join(msgspec.json.encode(str(value)) + b"\n" for value in array.ravel().tolist())


def _decoded(column: Column, file: IO[bytes], rows: int) -> Array:
    shape = (rows, *column.shape)
    if column.dtype == TEXT:
        texts = [msgspec.json.decode(file.readline(), type=str) for _ in range(math.prod(shape))]
        return np.array(texts, dtype=object).reshape(shape)
    dtype = np.dtype(column.dtype)
    return np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)

"""Carrying out a batch: rows from a source, answers from a running agent, one file at the end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from msgspec import Struct

from muster_agent.api import Client, ModelDescription
from muster_agent.batch.arrays import ArraySource
from muster_agent.batch.images import ImageSource
from muster_agent.batch.parts import Parts, job_of, open_parts, remove_parts
from muster_agent.batch.source import Array, Batch, Source, Tensors, invalid, row_shape
from muster_agent.batch.tables import CsvSource, ParquetSource
from muster_agent.batch.written import write, writer_of
from muster_models.errors import PredictionError

ROWS = 256
SAVE_SECONDS = 5.0
_MAX_BYTES = 16 * 1024 * 1024  # of one request; the agent takes four times that
NAMES = "file"  # the column of what rows are called


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        source: A file of rows, or a folder of images.
        output: The file to make; its suffix says its form.
        rows: At most so many in one request.
        scale: What pixels are multiplied with, see ``open_source``.
    """

    model: str
    source: Path
    output: Path
    rows: int = ROWS
    scale: float | None = None


class Summary(Struct, frozen=True):
    """What was done.

    Attributes:
        resumed: Rows that an earlier attempt had done.
        seconds: That this one took.
    """

    model: str
    version: str
    rows: int
    resumed: int
    seconds: float
    output: str


# Takes rows done, and rows in all where that is known.
Tell = Callable[[int, int | None], None]


def run(client: Client, wish: Wish, tell: Tell) -> Summary:
    """Have every row of a file answered by the version that runs now, and write the answers to another file.

    After a failure of any kind, the same call goes on where it ended.

    Raises:
        InvalidInputError: The source or the output is not of a form that fits the model.
        PredictionError: The agent is gone, runs another version meanwhile, or the model failed at a row.
        StorageError: The disk refused.
    """
    began = time.monotonic()
    how = writer_of(wish.output)
    model = client.describe(wish.model)
    version = model.versions[0]
    source = open_source(wish.source, model.inputs, scale=wish.scale)
    job = job_of(wish.source, model=wish.model, version=version)
    folder = wish.output.with_name(f"{wish.output.name}.part")
    with open_parts(folder, job) as parts:
        resumed = parts.rows
        try:
            _answer(client, parts, source, name=(wish.model, version), size=_size(wish, model), tell=tell)
        finally:
            parts.save()
        if parts.rows == 0:
            raise invalid(f"{wish.source}: expected rows, found none")
        write(parts, wish.output, how)
        rows = parts.rows
    remove_parts(folder)
    return Summary(wish.model, version, rows, resumed, time.monotonic() - began, str(wish.output))


def open_source(path: Path, inputs: Tensors, *, scale: float | None = None) -> Source:
    """Return the rows at ``path``; its suffix says what it is, and a folder holds images.

    Args:
        path: .csv, .npy, .npz, .parquet, or a folder.
        inputs: Of the model.
        scale: What pixels are multiplied with; None for 1/255 where the input is floating, and 1 elsewhere.

    Raises:
        InvalidInputError: It is none of these, or does not have the form of the inputs.
    """
    if path.is_dir():
        return ImageSource(path, inputs, scale)
    match path.suffix.lower():
        case ".csv":
            return CsvSource(path, inputs)
        case ".npy" | ".npz":
            return ArraySource(path, inputs)
        case ".parquet":
            return ParquetSource(path, inputs)
        case other:
            raise invalid(
                f"{path}: expected .csv, .npy, .npz, .parquet or a folder of images, "
                f"got {other or 'no suffix'}"
            )


class Meter:
    """Shows how far a batch is: a line that is written over on a terminal, one now and then elsewhere."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._began = clock()
        self._first: int | None = None
        self._next = 0.0
        self._unsaid = ""

    def tell(self, done: int, rows: int | None) -> None:
        """Take how many rows are done, of how many where that is known."""
        if self._first is None:
            self._first = done
        now = self._clock()
        rate = (done - self._first) / max(now - self._began, 1e-9)
        share = f" of {rows} ({done / max(rows, 1):.0%})" if rows is not None else ""
        self._unsaid = f"{done}{share} rows, {rate:.0f} per second"
        if now < self._next and done != rows:
            return
        self._next = now + (0.5 if self._is_terminal else 10.0)
        self._say()

    def _say(self) -> None:
        self._stream.write(f"\r{self._unsaid}\x1b[K" if self._is_terminal else f"{self._unsaid}\n")
        self._stream.flush()
        self._unsaid = ""

    def close(self) -> None:
        """Say how far it came, and end the line."""
        if self._unsaid:
            self._say()
        if self._is_terminal and self._first is not None:
            self._stream.write("\n")


def _size(wish: Wish, model: ModelDescription) -> int:
    """Return the rows of one request."""
    fixed = {tensor.shape[0] for tensor in model.inputs if tensor.shape and tensor.shape[0] > 0}
    if fixed:
        return min(fixed)
    per_row = sum(8 * int(np.prod(row_shape(tensor), dtype=np.int64)) for tensor in model.inputs)
    return max(1, min(wish.rows, _MAX_BYTES // max(per_row, 1)))


def _answer(
    client: Client, parts: Parts, source: Source, *, name: tuple[str, str], size: int, tell: Tell
) -> None:
    model, version = name
    saved = time.monotonic()
    tell(parts.rows, source.rows)
    for batch in source.read(parts.rows, size):
        count = len(next(iter(batch.inputs.values())))
        try:
            outputs = client.predict(model, batch.inputs, version=version)
        except PredictionError as error:
            last = parts.rows + count - 1
            raise PredictionError(error.reason, f"rows {parts.rows} to {last}: {error}") from error
        parts.append(_named(batch) | outputs, rows=count)
        tell(parts.rows, source.rows)
        if time.monotonic() - saved > SAVE_SECONDS:
            parts.save()
            saved = time.monotonic()


def _named(batch: Batch) -> dict[str, Array]:
    return {} if batch.names is None else {NAMES: np.array(batch.names, dtype=object)}

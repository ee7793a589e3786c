"""Rows from numpy's files: one array for a model of one input, or an archive with an array for each input."""

import math
import tokenize
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from muster_agent.api import TensorDescription
from muster_agent.batch.source import Array, Batch, Tensors, dtype_for, invalid, readable, row_shape

_MAX_TEXT = 65_536  # bytes; a header may ask for any number of them


class ArraySource:
    """The rows of a .npy or .npz; it is read as a stream."""

    def __init__(self, path: Path, inputs: Tensors) -> None:
        self._path = path
        self._inputs = inputs
        lengths: dict[str, int] = {}
        with readable(path), self._members() as members:
            for tensor in inputs:
                shape, dtype = _header(members[tensor.name], tensor.name)
                if shape[1:] != row_shape(tensor):
                    raise invalid(
                        f"{path}: input {tensor.name!r}: expected {list(tensor.shape)}, got {list(shape)}"
                    )
                _check_cast(dtype, tensor)
                lengths[tensor.name] = shape[0]
        if len(set(lengths.values())) != 1:
            raise invalid(f"{path}: expected as many rows for each input, got {lengths}")
        self.rows: int | None = next(iter(lengths.values()))

    def read(self, start: int, size: int) -> Iterator[Batch]:
        """Yield the rows from ``start`` on, see ``Source``."""
        assert self.rows is not None
        with readable(self._path), self._members() as members:
            dtypes = {tensor.name: self._skip(members[tensor.name], tensor, start) for tensor in self._inputs}
            for begin in range(start, self.rows, size):
                count = min(size, self.rows - begin)
                yield Batch(
                    {
                        tensor.name: _take(members[tensor.name], tensor, dtypes[tensor.name], count)
                        for tensor in self._inputs
                    }
                )

    def _members(self) -> "_Members":
        return _Members(self._path, [tensor.name for tensor in self._inputs])

    @staticmethod
    def _skip(member: IO[bytes], tensor: TensorDescription, rows: int) -> "np.dtype[np.generic]":
        _, dtype = _header(member, tensor.name)
        member.seek(rows * math.prod(row_shape(tensor)) * dtype.itemsize, 1)
        return dtype


class _Members:
    """The open arrays of a file, by input."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path = path
        self._names = names
        self._stack = ExitStack()

    def __enter__(self) -> Mapping[str, IO[bytes]]:
        try:
            return self._open()
        except BaseException:
            self._stack.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> Mapping[str, IO[bytes]]:
        if self._path.suffix.lower() == ".npy":
            if len(self._names) != 1:
                raise invalid(
                    f"{self._path}: the model has inputs {list(self._names)}: expected a .npz with these"
                )
            return {self._names[0]: self._stack.enter_context(self._path.open("rb"))}
        try:
            archive = self._stack.enter_context(zipfile.ZipFile(self._path))
            return {name: self._stack.enter_context(archive.open(f"{name}.npy")) for name in self._names}
        except KeyError as error:
            raise invalid(
                f"{self._path}: expected a .npz with arrays {list(self._names)}: {error}"
            ) from error


def _header(member: IO[bytes], name: str) -> tuple[tuple[int, ...], "np.dtype[np.generic]"]:
    try:
        version = npy.read_magic(member)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(member)
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError) as error:
        # The header is Python source, and numpy lets what its tokenizer says of damage through.
        raise invalid(f"array {name!r}: not in numpy's format: {error}") from error
    if dtype.itemsize > _MAX_TEXT:
        raise invalid(f"array {name!r}: texts have at most {_MAX_TEXT} bytes, got {dtype}")
    if is_fortran or dtype.hasobject or not shape:
        raise invalid(
            f"array {name!r}: expected rows in C order and no Python objects; save it again from numpy"
        )
    return shape, dtype


def _take(member: IO[bytes], tensor: TensorDescription, dtype: "np.dtype[np.generic]", count: int) -> Array:
    shape = (count, *row_shape(tensor))
    wanted = math.prod(shape) * dtype.itemsize
    data = member.read(wanted)
    if len(data) != wanted:
        raise invalid(f"array {tensor.name!r} is cut off")
    return _as_declared(np.frombuffer(data, dtype).reshape(shape), tensor)


def _check_cast(dtype: "np.dtype[np.generic]", tensor: TensorDescription) -> None:
    wanted = dtype_for(tensor, is_real=dtype.kind == "f")
    text = dtype.kind in "US" and wanted.kind == "O"
    if not text and not np.can_cast(dtype, wanted, "same_kind"):
        raise invalid(f"input {tensor.name!r}: expected {tensor.datatype}, got {dtype}")


def _as_declared(array: Array, tensor: TensorDescription) -> Array:
    wanted = dtype_for(tensor, is_real=array.dtype.kind == "f")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")  # type: ignore[arg-type]  # it is an array of bytes
    with np.errstate(over="ignore"):
        made = array.astype(wanted)
    if wanted.kind in "iu" and not np.array_equal(made, array):
        raise invalid(f"input {tensor.name!r}: a value lies outside {tensor.datatype}")
    return made

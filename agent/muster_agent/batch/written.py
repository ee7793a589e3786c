"""The output of a batch: whole under its name, or not there. Its suffix says its form."""

import csv
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from muster_agent.batch.parts import TEXT, Column, Parts
from muster_agent.batch.source import Array, invalid
from muster_models import durable
from muster_models.errors import StorageError

SUFFIXES = (".csv", ".npy", ".npz", ".parquet")
_ROWS = 1024  # in memory at once
Write = Callable[[Parts, Path], None]


def writer_of(path: Path) -> Write:
    """Return what writes the form that a file's suffix names; asked before any work is done.

    Raises:
        InvalidInputError: It is none that is known, or needs what is not installed.
    """
    match path.suffix.lower():
        case ".csv":
            return _write_csv
        case ".npy":
            return _write_npy
        case ".npz":
            return _write_npz
        case ".parquet":
            try:
                import pyarrow as pa  # noqa: F401, PLC0415 - a device need not have it
            except ImportError as error:
                raise invalid(f"{path}: writing .parquet needs pyarrow: pip install pyarrow") from error
            return _write_parquet
        case other:
            raise invalid(f"{path}: expected {', '.join(SUFFIXES)}, got {other or 'no suffix'}")


def write(parts: Parts, path: Path, how: Write) -> None:
    """Put everything that ``parts`` holds into one file, which appears under its name when it is complete.

    Raises:
        InvalidInputError: It does not fit the form.
        StorageError: The disk refused.
    """
    beside = parts.folder / f"whole{path.suffix}"
    try:
        how(parts, beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        durable.sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error


def _write_csv(parts: Parts, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        written = csv.writer(file)
        written.writerow([name for column in parts.columns for name in _names(column)])
        for outputs in parts.read(_ROWS):
            flat = [values for column in parts.columns for values in _flat(column, outputs[column.name])]
            written.writerows(zip(*(_shortest(values) for values in flat), strict=True))


def _names(column: Column) -> Sequence[str]:
    if column.shape == ():
        return [column.name]
    return [f"{column.name}[{','.join(map(str, index))}]" for index in np.ndindex(column.shape)]


def _flat(column: Column, array: Array) -> Iterator[Array]:
    table = array.reshape(len(array), column.width)
    return (table[:, index] for index in range(column.width))


def _shortest(values: Array) -> list[object]:
    # The fewest digits that give the same float32 back; a Python float would show those of a float64.
    return list((values.astype(str) if values.dtype.kind == "f" else values).tolist())


def _write_npy(parts: Parts, path: Path) -> None:
    if len(parts.columns) != 1:
        names = [column.name for column in parts.columns]
        raise invalid(f"a .npy holds one output, this batch has {names}: take .npz or .csv")
    with path.open("wb") as file:
        _write_array(parts, parts.columns[0], file)


def _write_npz(parts: Parts, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for column in parts.columns:
            with archive.open(f"{column.name}.npy", "w", force_zip64=True) as file:
                _write_array(parts, column, file)


def _write_array(parts: Parts, column: Column, file: IO[bytes]) -> None:
    dtype = _text_type(parts, column) if column.dtype == TEXT else np.dtype(column.dtype)
    head = io.BytesIO()
    shape = (parts.rows, *column.shape)
    about = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(head, about)
    file.write(head.getvalue())
    for outputs in parts.read(_ROWS):
        file.write(outputs[column.name].astype(dtype).tobytes())


def _text_type(parts: Parts, column: Column) -> "np.dtype[np.generic]":
    """Return the type that holds the longest text of a column."""
    longest = [
        max((len(text) for text in outputs[column.name].ravel().tolist()), default=0)
        for outputs in parts.read(_ROWS)
    ]
    return np.dtype(f"<U{max([1, *longest])}")


def _write_parquet(parts: Parts, path: Path) -> None:
    import pyarrow as pa  # noqa: PLC0415 - a device need not have it
    from pyarrow import parquet  # noqa: PLC0415

    names = [name for column in parts.columns for name in _names(column)]
    writer = None
    try:
        for outputs in parts.read(_ROWS):
            flat = [values for column in parts.columns for values in _flat(column, outputs[column.name])]
            table = pa.table(dict(zip(names, flat, strict=True)))
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
        if writer is None:
            parquet.write_table(pa.table({}), path)
    finally:
        if writer is not None:
            writer.close()

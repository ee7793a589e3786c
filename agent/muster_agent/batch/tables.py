"""Rows from tables: CSV, and Parquet where pyarrow is installed.

An input of one value per row takes the column of its name, a wider one the columns ``name[0]``, ``name[1]``
and so on. Where a model has one input and the table as many columns as it is wide, the columns are taken in
order.
"""

import csv
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from muster_agent.api import TensorDescription
from muster_agent.batch.source import Array, Batch, Tensors, invalid, readable, row_shape
from muster_agent.serving import oip
from muster_models.errors import InvalidInputError

Columns = Mapping[str, Sequence[object]]
_TRUTH = {"0": False, "1": True, "false": False, "true": True}


class CsvSource:
    """The rows of a .csv, whose first line names the columns."""

    rows: int | None = None

    def __init__(self, path: Path, inputs: Tensors) -> None:
        self._path = path
        with readable(path), path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
        self._plan = _plan(path, header, inputs)

    def read(self, start: int, size: int) -> Iterator[Batch]:
        """Yield the rows from ``start`` on, see ``Source``."""
        with self._path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            lines = itertools.islice((line for line in reader if line), start, None)
            try:
                for batch in _batches(lines, size):
                    yield self._plan.batch(self._columns(header, batch, reader.line_num))
            except (csv.Error, UnicodeDecodeError, InvalidInputError) as error:
                raise invalid(f"{self._path}: up to line {reader.line_num}: {error}") from error

    def _columns(self, header: Sequence[str], lines: Sequence[Sequence[str]], line: int) -> Columns:
        if any(len(fields) != len(header) for fields in lines):
            raise invalid(f"expected {len(header)} fields in each line before line {line}")
        return dict(zip(header, zip(*lines, strict=True), strict=True))


def _batches(lines: Iterable[list[str]], size: int) -> Iterator[list[list[str]]]:
    lines = iter(lines)
    while batch := list(itertools.islice(lines, size)):
        yield batch


class ParquetSource:
    """The rows of a .parquet."""

    def __init__(self, path: Path, inputs: Tensors) -> None:
        try:
            from pyarrow import parquet  # noqa: PLC0415 - a device need not have it
        except ImportError as error:
            raise invalid(f"{path}: reading .parquet needs pyarrow: pip install pyarrow") from error
        self._path = path
        with readable(path):
            self._file = parquet.ParquetFile(path)
        self.rows: int | None = self._file.metadata.num_rows
        self._plan = _plan(path, self._file.schema_arrow.names, inputs)

    def read(self, start: int, size: int) -> Iterator[Batch]:
        """Yield the rows from ``start`` on, see ``Source``."""
        left = start
        with readable(self._path):
            for batch in self._file.iter_batches(batch_size=size):
                columns = {name: batch.column(name).to_pylist()[left:] for name in self._plan.columns}
                left = max(0, left - batch.num_rows)
                if any(columns.values()):
                    yield self._plan.batch(columns)


@dataclass(frozen=True)
class _Plan:
    """Which columns make which input."""

    inputs: Mapping[str, tuple[TensorDescription, Sequence[str]]]

    @property
    def columns(self) -> Sequence[str]:
        return [name for _, names in self.inputs.values() for name in names]

    def batch(self, columns: Columns) -> Batch:
        return Batch(
            {name: _stacked(tensor, columns, names) for name, (tensor, names) in self.inputs.items()}
        )


def _plan(path: Path, header: Sequence[str], inputs: Tensors) -> _Plan:
    """Decide which columns make which input, by name, or by order where one input takes all of them."""
    plan: dict[str, tuple[TensorDescription, Sequence[str]]] = {}
    for tensor in inputs:
        width = math.prod(row_shape(tensor))
        names = [tensor.name] if width == 1 else [f"{tensor.name}[{index}]" for index in range(width)]
        if len(inputs) == 1 and len(header) == width and not set(names) <= set(header):
            names = list(header)
        missing = [name for name in names if name not in header]
        if missing or len(set(header)) != len(header):
            raise invalid(
                f"{path}: input {tensor.name!r} is {width} wide: expected each of the columns {names[0]!r} "
                f"to {names[-1]!r} once in the first line, got {len(header)} columns "
                f"{[name[:40] for name in header[:6]]}"
            )
        plan[tensor.name] = (tensor, names)
    return _Plan(plan)


def _stacked(tensor: TensorDescription, columns: Columns, names: Sequence[str]) -> Array:
    wanted = oip.dtype_of(tensor.datatype)
    made = [_column(columns[name], name, wanted) for name in names]
    stacked = np.stack(made, axis=1) if made else np.empty((0, 0), wanted)
    return stacked.reshape(len(made[0]) if made else 0, *row_shape(tensor))


def _column(values: Sequence[object], name: str, wanted: "np.dtype[np.generic]") -> Array:
    try:
        match wanted.kind:
            case "O":
                return np.array([str(value) for value in values], dtype=object)
            case "b":
                return np.array([_TRUTH[str(value).strip().lower()] for value in values])
            case "i" | "u":
                return np.array([_integer(value) for value in values], dtype=wanted)
            case _:
                return np.array([float(str(value)) for value in values], dtype=wanted)
    except (ValueError, KeyError, OverflowError) as error:
        raise invalid(f"column {name!r}: expected {wanted.name}: {error}") from error


def _integer(value: object) -> int:
    return value if isinstance(value, int) else int(str(value))

"""Rows from tables: CSV, and Parquet where pyarrow is installed.

An input of one value per row takes the column of its name, a wider one the columns ``name[0]``, ``name[1]``
and so on. Where a model has one input and the table as many columns as it is wide, the columns are taken in
order.
"""

import csv
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from muster_agent.api import TensorDescription
from muster_agent.batch.source import Array, Batch, Tensors, dtype_for, invalid, readable, row_shape
from muster_models.errors import InvalidInputError

Columns = Mapping[str, Sequence[object]]
_SURELY_COUNTS = 2
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")
_TRUTH = {"0": False, "1": True, "false": False, "true": True}


class CsvSource:
    """The rows of a .csv, whose first line names the columns."""

    def __init__(self, path: Path, inputs: Tensors) -> None:
        self._path = path
        with readable(path), path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
        plan = _plan(path, header, inputs)
        if any(names == header for _, names in plan.inputs.values()):
            _check_names(path, header, inputs)
        # The whole file decides: a batch of whole numbers alone must not mean another thing.
        places = {name: [header.index(column) for column in plan.inputs[name][1]] for name in plan.quantised}
        self.rows, real = _survey(path, places)
        self._plan = replace(plan, real=real)

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


def _survey(path: Path, places: Mapping[str, Sequence[int]]) -> tuple[int | None, frozenset[str]]:
    """Return how many rows there are, and those of ``places`` where not every number is whole.

    No number of rows where the file is damaged, which reading says with the place.
    """
    rows, real = -1, set[str]()  # the first line is no row
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for line in filter(None, csv.reader(file)):
                rows += 1
                for name in places.keys() - real if rows else ():
                    if not all(_WHOLE.fullmatch(line[place]) for place in places[name] if place < len(line)):
                        real.add(name)
    except (csv.Error, UnicodeDecodeError):
        return None, frozenset(real)
    return max(0, rows), frozenset(real)


def _check_names(path: Path, header: Sequence[str], inputs: Tensors) -> None:
    """Refuse a first line of numbers that names nothing: it is a row, which would be lost."""
    # What a data frame without names writes counts from 0, as no row that is wider than two does.
    counts = len(header) > _SURELY_COUNTS and header == [str(index) for index in range(len(header))]
    if not counts and not {tensor.name for tensor in inputs} & set(header) and all(map(_is_number, header)):
        raise invalid(
            f"{path}: expected the names of the columns in the first line, "
            f"got numbers: {', '.join(header[:3])} …; put a line of names before them"
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell or "0")
    except ValueError:
        return False
    return True


def _batches(lines: Iterable[list[str]], size: int) -> Iterator[list[list[str]]]:
    lines = iter(lines)
    while batch := list(itertools.islice(lines, size)):
        yield batch


class ParquetSource:
    """The rows of a .parquet."""

    def __init__(self, path: Path, inputs: Tensors) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - a device need not have it
            from pyarrow import parquet  # noqa: PLC0415 - as above
        except ImportError as error:
            raise invalid(f"{path}: reading .parquet needs pyarrow: pip install pyarrow") from error
        self._path = path
        with readable(path):
            self._file = parquet.ParquetFile(path)
        self.rows: int | None = self._file.metadata.num_rows
        schema = self._file.schema_arrow
        plan = _plan(path, schema.names, inputs)
        whole = {field.name for field in schema if pa.types.is_integer(field.type)}
        self._plan = replace(
            plan,
            real=frozenset(name for name in plan.quantised if not whole.issuperset(plan.inputs[name][1])),
        )

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
    """Which columns make which input.

    Attributes:
        real: Quantised inputs whose columns hold real numbers, not steps.
    """

    inputs: Mapping[str, tuple[TensorDescription, Sequence[str]]]
    real: frozenset[str] = frozenset()

    @property
    def quantised(self) -> frozenset[str]:
        return frozenset(name for name, (tensor, _) in self.inputs.items() if tensor.quantisation is not None)

    @property
    def columns(self) -> Sequence[str]:
        return [name for _, names in self.inputs.values() for name in names]

    def batch(self, columns: Columns) -> Batch:
        return Batch(
            {
                name: _stacked(tensor, columns, names, is_real=name in self.real)
                for name, (tensor, names) in self.inputs.items()
            }
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


def _stacked(tensor: TensorDescription, columns: Columns, names: Sequence[str], *, is_real: bool) -> Array:
    wanted = dtype_for(tensor, is_real=is_real)
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

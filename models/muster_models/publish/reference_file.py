"""The rows of a reference: .npz, .npy, .csv or .parquet, as the inputs of a model.

A table names its columns in its first line. The column of a declared feature is found under the feature's
name, any other under ``input[index]``, or ``input`` where that is one value wide. A table that names none of
them, but has as many columns as the only input is wide, is taken in order. What is left over is said.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import ManifestError, Reason, RequestError
from muster_models.manifest import FeatureSpec, TensorSpec
from muster_models.publish.source import read_arrays

Array = NDArray[np.generic]
Table = Mapping[str, Sequence[object]]
MAX_BYTES = 1024 * 1024 * 1024
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
_TRUTH = {"0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True, eq=False)
class ReferenceRows:
    """What a model is asked in order to make a baseline.

    Attributes:
        inputs: One array per input, in the order of the file.
        unused: Columns or arrays of the file that the model does not read.
    """

    inputs: Mapping[str, Array]
    unused: tuple[str, ...]

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def read_reference(
    path: Path, inputs: Sequence[TensorSpec], features: Sequence[FeatureSpec]
) -> ReferenceRows:
    """Read reference rows.

    Args:
        inputs: Of the model.
        features: Under whose names columns of a table are looked for.

    Raises:
        RequestError: The file cannot be read, is none of the four kinds, or pyarrow is missing for .parquet.
        ManifestError: It does not hold what the model reads; says what was expected.
    """
    match path.suffix.lower():
        case ".npz":
            return _from_arrays(path, read_arrays(path), inputs)
        case ".npy":
            return _from_matrix(path, inputs)
        case ".csv":
            return _from_table(path, _read_csv(path), inputs, features)
        case ".parquet":
            return _from_table(path, _read_parquet(path), inputs, features)
        case other:
            raise RequestError(f"{path}: expected .npz, .npy, .csv or .parquet, got {other or 'no suffix'!r}")


def _from_arrays(path: Path, arrays: dict[str, Array], inputs: Sequence[TensorSpec]) -> ReferenceRows:
    missing = [spec.name for spec in inputs if spec.name not in arrays]
    if missing:
        raise ManifestError(f"{path}: expected the arrays {missing}, got {sorted(arrays)}")
    held = {spec.name: arrays.pop(spec.name) for spec in inputs}
    lengths = {name: len(array) if array.ndim else None for name, array in held.items()}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        raise ManifestError(f"{path}: expected the same number of rows in every input, got {lengths}")
    return ReferenceRows(held, tuple(sorted(arrays)))


def _from_matrix(path: Path, inputs: Sequence[TensorSpec]) -> ReferenceRows:
    if len(inputs) != 1:
        names = [spec.name for spec in inputs]
        raise ManifestError(f"{path}: the model has the inputs {names}; expected an .npz with one array each")
    try:
        _check_size(path)
        loaded: object = np.load(path, allow_pickle=False)
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError) as error:
        raise ManifestError(f"{path}: expected one array without pickle: {error}") from error
    if not isinstance(loaded, np.ndarray) or loaded.ndim == 0 or len(loaded) == 0:
        raise ManifestError(f"{path}: expected rows, got {getattr(loaded, 'shape', 'several arrays')}")
    array: Array = loaded
    (spec,) = inputs
    row = spec.shape[1:]
    if array.shape[1:] != row and None not in row and math.prod(array.shape[1:]) == _width(spec, path):
        array = array.reshape(len(array), *(axis or 0 for axis in row))
    return ReferenceRows({spec.name: array}, ())


def _from_table(
    path: Path, table: Table, inputs: Sequence[TensorSpec], features: Sequence[FeatureSpec]
) -> ReferenceRows:
    names = _plan(path, list(table), inputs, features)
    rows = len(next(iter(table.values()), ()))
    if rows == 0:
        raise ManifestError(f"{path}: expected rows below the names of the columns, got none")
    held: dict[str, Array] = {}
    for spec in inputs:
        columns = [_column(path, name, table[name], spec) for name in names[spec.name]]
        shape = (axis or 0 for axis in spec.shape[1:])
        held[spec.name] = np.stack(columns, axis=1).reshape(rows, *shape)
    used = {name for columns in names.values() for name in columns}
    return ReferenceRows(held, tuple(name for name in table if name not in used))


def _plan(
    path: Path, header: Sequence[str], inputs: Sequence[TensorSpec], features: Sequence[FeatureSpec]
) -> dict[str, list[str]]:
    """Return the names of the columns that make each input, in order."""
    wanted = {spec.name: list(_names(spec, _width(spec, path), features)) for spec in inputs}
    held = set(header)
    found = {
        name: [next((one for one in names if one in held), None) for names in columns]
        for name, columns in wanted.items()
    }
    plan = {name: [one for one in columns if one is not None] for name, columns in found.items()}
    if len(inputs) == 1 and not any(plan.values()) and len(header) == len(wanted[inputs[0].name]):
        return {inputs[0].name: list(header)}
    missing = [
        " or ".join(map(repr, names))
        for name, columns in wanted.items()
        for names, one in zip(columns, found[name], strict=True)
        if one is None
    ]
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""  # noqa: PLR2004 - a line's worth
        raise ManifestError(
            f"{path}: expected the columns {'; '.join(missing[:4])}{more}, got {list(header)[:8]}"
        )
    return plan


def _names(spec: TensorSpec, width: int, features: Sequence[FeatureSpec]) -> Iterator[list[str]]:
    for index in range(width):
        named = [one.name for one in features if one.input == spec.name and one.column == index]
        yield [*named, f"{spec.name}[{index}]", *([spec.name] if width == 1 else [])]


def _width(spec: TensorSpec, path: Path) -> int:
    row = spec.shape[1:]
    if None in row:
        raise ManifestError(
            f"{path}: the rows of input {spec.name!r} have any length; expected an .npz with arrays"
        )
    return math.prod(axis or 0 for axis in row)


def _column(path: Path, name: str, cells: Sequence[object], spec: TensorSpec) -> Array:
    try:
        if spec.dtype == "str":
            return np.array(["" if cell is None else str(cell) for cell in cells], dtype=object)
        dtype = np.dtype("float32" if spec.quantisation else spec.dtype)
        if dtype.kind == "f":
            return np.array([_number(cell) for cell in cells], dtype=dtype)
        if dtype.kind == "b":
            return np.array([_TRUTH[str(cell).strip().lower()] for cell in cells])
        return np.array([int(str(cell)) for cell in cells], dtype=dtype)
    except (KeyError, ValueError, OverflowError, TypeError) as error:
        raise ManifestError(f"{path}: column {name!r}: expected {spec.dtype}: {error}") from error


def _number(cell: object) -> float:
    text = "" if cell is None else str(cell).strip()
    return math.nan if text.lower() in _MISSING else float(text)


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ManifestError(f"{path}: expected at most {MAX_BYTES} bytes, got {size}", Reason.TOO_LARGE)


def _read_csv(path: Path) -> Table:
    try:
        _check_size(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *lines = [line for line in csv.reader(file, strict=True) if line] or [[]]
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {error}") from error
    wrong = next((at for at, line in enumerate(lines) if len(line) != len(header)), None)
    if wrong is not None:
        got = len(lines[wrong])
        raise ManifestError(f"{path}: row {wrong + 1}: expected {len(header)} fields, got {got}")
    if len(set(header)) != len(header):
        raise ManifestError(f"{path}: the names of the columns must differ, got {sorted(header)[:8]}")
    columns = zip(*lines, strict=True) if lines else [()] * len(header)
    return dict(zip(header, columns, strict=True))


def _read_parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - need not be installed
    except ImportError as error:
        raise RequestError(f"{path}: reading .parquet needs pyarrow: pip install pyarrow") from error
    try:
        _check_size(path)
        read = parquet.ParquetFile(path).read()
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ArrowException as error:
        raise ManifestError(f"{path}: {error}") from error
    return {name: read.column(name).to_pylist() for name in read.column_names}

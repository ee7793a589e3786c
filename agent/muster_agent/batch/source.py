"""Rows as the inputs of a model, some at a time: what every source looks like from outside."""

import csv
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from muster_agent.api import TensorDescription
from muster_agent.serving import oip
from muster_models.errors import InvalidInputError, Reason

Array = NDArray[np.generic]
Tensors = Sequence[TensorDescription]
# What the readers of files raise; the last is for archives that are encrypted or packed in an unknown way.
_UNREADABLE = (OSError, EOFError, ValueError, csv.Error, zipfile.BadZipFile, zlib.error, RuntimeError)


@dataclass(frozen=True)
class Batch:
    """Some rows.

    Attributes:
        inputs: One array per input, the rows along the first axis.
        names: What each row is called; None where it has no name but its number.
    """

    inputs: dict[str, Array]
    names: Sequence[str] | None = None


class Source(Protocol):
    """Where rows come from.

    Attributes:
        rows: How many there are; None where only reading tells.
    """

    rows: int | None

    def read(self, start: int, size: int) -> Iterator[Batch]:
        """Yield the rows from ``start`` on, ``size`` at a time; the last batch may be shorter.

        Raises:
            InvalidInputError: The file cannot be read, or a row does not have the form of the inputs.
        """
        ...


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever a reader says of a damaged file into one error.

    Raises:
        InvalidInputError: The file cannot be read.
    """
    try:
        yield
    except _UNREADABLE as error:
        said = (
            error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        )
        raise invalid(f"{path}: {said[:200]}") from error


def invalid(message: str) -> InvalidInputError:
    """Return the error of rows that do not fit."""
    return InvalidInputError(Reason.BAD_MESSAGE, message)


def dtype_for(tensor: TensorDescription, *, is_real: bool) -> "np.dtype[np.generic]":
    """Return the type that values of an input are sent in.

    Integers of a quantised input are its own steps; numbers of any other kind are what the steps stand for,
    and the agent finds the nearest ones.
    """
    if is_real and tensor.quantisation is not None:
        return np.dtype(np.float32)
    return oip.dtype_of(tensor.datatype)


def row_shape(tensor: TensorDescription) -> tuple[int, ...]:
    """Return the shape of one row of an input."""
    shape = tensor.shape[1:]
    if not tensor.shape or any(length < 0 for length in shape):
        raise invalid(
            f"input {tensor.name!r} has shape {list(tensor.shape)}: expected rows along the first axis, "
            "each of one fixed shape"
        )
    return shape

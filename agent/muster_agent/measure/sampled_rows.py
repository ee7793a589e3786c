"""Rows of calls as a sample holds them: cut from calls, put together, and split to the size of a message."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import MessageError, Reason
from muster_models.tensors import encode_tensors
from muster_models.wire import MAX_SAMPLE_BYTES

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Rows:
    """Some rows of one version: tensors that share their first axis.

    Attributes:
        digest: Of the version's manifest.
    """

    digest: str
    count: int
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def size(self) -> int:
        """Bytes in memory, texts not counted."""
        return sum(array.nbytes for array in (*self.inputs.values(), *self.outputs.values()))

    def part(self, start: int, end: int) -> "Rows":
        """Return some of the rows; they share memory with these."""
        end = min(end, self.count)
        return Rows(self.digest, end - start, _cut(self.inputs, start, end), _cut(self.outputs, start, end))


@dataclass(frozen=True)
class Encoded:
    """Rows as bytes; without any where ``reason`` says why."""

    digest: str
    count: int
    inputs: bytes = b""
    outputs: bytes = b""
    reason: Reason | None = None
    detail: str = ""


def rows_of(
    digest: str, inputs: Mapping[str, Array], outputs: Mapping[str, Array], *, most: int
) -> Rows | None:
    """Return a copy of the first rows of a call; None where its tensors share no first axis.

    The application may write to its arrays as soon as its call returns.
    """
    tensors = [*inputs.values(), *outputs.values()]
    lengths = {len(tensor) if tensor.ndim else -1 for tensor in tensors}
    if len(lengths) != 1 or max(lengths) < 1:
        return None
    count = min(max(lengths), most)
    copies = [{name: array[:count].copy() for name, array in side.items()} for side in (inputs, outputs)]
    return Rows(digest, count, copies[0], copies[1])


def together(parts: Sequence[Rows]) -> Iterator[Rows]:
    """Yield the same rows in the same order, neighbours of one form together."""
    run: list[Rows] = []
    for rows in parts:
        if run and _form(run[0]) != _form(rows):
            yield _joined(run)
            run = []
        run.append(rows)
    if run:
        yield _joined(run)


def encoded(rows: Rows) -> Iterator[Encoded]:
    """Yield rows as bytes, each part within the size of a message; a row that does not fit is left out."""
    try:
        inputs, outputs = encode_tensors(rows.inputs), encode_tensors(rows.outputs)
    except MessageError as error:
        yield Encoded(rows.digest, 0, reason=error.reason, detail="a tensor has no form on the wire")
        return
    if max(len(inputs), len(outputs)) <= MAX_SAMPLE_BYTES:
        yield Encoded(rows.digest, rows.count, inputs, outputs)
    elif rows.count == 1:
        detail = f"a row takes more than {MAX_SAMPLE_BYTES} bytes"
        yield Encoded(rows.digest, 0, reason=Reason.TOO_LARGE, detail=detail)
    else:
        half = rows.count // 2
        yield from encoded(rows.part(0, half))
        yield from encoded(rows.part(half, rows.count))


def _cut(tensors: Mapping[str, Array], start: int, end: int) -> dict[str, Array]:
    return {name: array[start:end] for name, array in tensors.items()}


def _form(rows: Rows) -> tuple[object, ...]:
    sides = (rows.inputs, rows.outputs)
    tensors = (
        sorted((name, array.dtype.str, array.shape[1:]) for name, array in side.items()) for side in sides
    )
    return (rows.digest, *map(tuple, tensors))


def _joined(run: Sequence[Rows]) -> Rows:
    first = run[0]
    inputs = {name: np.concatenate([rows.inputs[name] for rows in run]) for name in first.inputs}
    outputs = {name: np.concatenate([rows.outputs[name] for rows in run]) for name in first.outputs}
    return Rows(first.digest, sum(rows.count for rows in run), inputs, outputs)

"""Rows of calls as they came, copied in the caller's thread and made arrays again off it."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

ROWS = 1024  # per sketch: in smaller pieces its fixed cost would count
BUFFER_BYTES = 4 * 1024 * 1024  # of one buffer, however large a row is


class RowBuffer:
    """Raw rows of the tensors that are sketched, as they came; made arrays again off the caller's thread.

    Args:
        names: Of the input tensors, in order; the last of ``tensors`` is the output.
        tensors: Of a first call, which the later ones have to look like but for the number of rows.
    """

    def __init__(self, names: Sequence[str], tensors: Sequence[Array]) -> None:
        row_bytes = sum(tensor[:1].nbytes for tensor in tensors)
        self.capacity = max(1, min(ROWS, BUFFER_BYTES // max(row_bytes, 1)))
        self.rows = 0
        self.kinds = [(tensor.shape[1:], tensor.dtype) for tensor in tensors]
        self._pieces: list[list[bytes | Array]] = [[] for _ in tensors]
        self.batch = len(tensors[0])
        # A call that repeats the first one is copied without a closer look, and without making arrays: a
        # copy as bytes takes 0.1 us, one into a slice of an array 0.4 us.
        *inputs, self._usual_output = (
            (tensor.shape, tensor.dtype, pieces.append, _copier(tensor))
            for tensor, pieces in zip(tensors, self._pieces, strict=True)
        )
        self._usual_inputs = [(name, *usual) for name, usual in zip(names, inputs, strict=True)]
        self._usual_rows = self.capacity - self.batch - 1

    def take_usual(self, inputs: Mapping[str, Array], output: Array) -> bool:
        """Copy a call that looks like the first one; False when it does not, or would fill the buffer."""
        if self.rows > self._usual_rows:
            return False
        shape, dtype, add, copy_output = self._usual_output
        if output.dtype is not dtype or output.shape != shape:
            return False
        for name, shape, dtype, add_input, copy in self._usual_inputs:
            tensor = inputs[name]
            if tensor.dtype is not dtype or tensor.shape != shape:
                self._forget_half_a_call()
                return False
            add_input(copy(tensor))
        add(copy_output(output))
        self.rows += self.batch
        return True

    def _forget_half_a_call(self) -> None:
        calls = len(self._pieces[-1])  # the output is added last
        for pieces in self._pieces:
            del pieces[calls:]

    def take(self, tensors: Sequence[Array], start: int, stop: int) -> int:
        """Copy rows from ``start`` on, as many as there is room for; return how many."""
        count = min(stop - start, self.capacity - self.rows)
        for pieces, tensor in zip(self._pieces, tensors, strict=True):
            rows = tensor[start : start + count]
            pieces.append(_copier(rows)(rows))
        self.rows += count
        return count

    def arrays(self) -> list[Array]:
        """Return the rows of each tensor."""
        return [
            _joined(pieces, shape, dtype)
            for pieces, (shape, dtype) in zip(self._pieces, self.kinds, strict=True)
        ]


def _copier(tensor: Array) -> Callable[[Array], bytes | Array]:
    return np.ndarray.copy if tensor.dtype.hasobject else np.ndarray.tobytes


def as_objects(tensor: Array) -> Array:
    """Return text as objects: fixed-width text has another type for every longest value."""
    return tensor.astype(object) if tensor.dtype.kind in "US" else tensor


def drain(buffers: list[RowBuffer]) -> list[RowBuffer]:
    """Return what a list holds, and empty it."""
    drained = list(buffers)
    buffers.clear()
    return drained


def _joined(pieces: Sequence[bytes | Array], shape: tuple[int, ...], dtype: "np.dtype[np.generic]") -> Array:
    if dtype.hasobject:
        return np.concatenate(cast("Sequence[Array]", pieces))
    return np.frombuffer(b"".join(cast("Sequence[bytes]", pieces)), dtype).reshape(-1, *shape)

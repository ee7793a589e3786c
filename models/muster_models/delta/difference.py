"""Differences of two files as bytes that compress well, and back.

    runs    u32: how many; for each u32 length and i64 shift: bytes of the new file that are held against
            the base ``shift`` bytes further on; bytes beyond its ends count as zero
    tails   the last bytes of each run that are no whole word, as differences of bytes
    words   the other bytes as differences of words, in blocks; in each block first the first byte of every
            word, then the second ... (planes)

The words of a fine-tuned float differ in their low bits only. Their difference as integers is therefore small
(the bits of floats of one sign are ordered as the floats are); written with its sign in the lowest bit it has
zeros for its high bytes, and the planes gather those.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import TransferError

Bytes = NDArray[np.uint8]

BLOCK_BYTES: Final = 512 * 1024  # a plane of four is then one block of zstd, with an alphabet of its own
MAX_RUNS: Final = 65_536
_COUNT = struct.Struct("<I")
_RUN = struct.Struct("<Iq")
_UNSIGNED: Final[Mapping[int, str]] = {2: "<u2", 4: "<u4"}


@dataclass(frozen=True)
class Run:
    """Bytes of the new file that are held against the base ``shift`` bytes further on."""

    length: int
    shift: int


@dataclass(frozen=True)
class Scheme:
    """How two files are held against each other.

    Attributes:
        width: Bytes of a word.
        is_xor: Differing bits instead of differences.
    """

    width: int
    is_xor: bool = False


class Reader(Protocol):
    """What decoding reads from."""

    def read(self, count: int) -> bytes:
        """Return exactly so many bytes."""
        ...


def subtract(base: bytes, new: bytes, *, runs: Sequence[Run], scheme: Scheme) -> bytes:
    """Return the difference; ``runs`` cover ``new``."""
    known, wanted = np.frombuffer(base, np.uint8), np.frombuffer(new, np.uint8)
    tails, words, at = [], [], 0
    for run in runs:
        whole, end = at + run.length // scheme.width * scheme.width, at + run.length
        words.append(_subtract(wanted[at:whole], _reference(known, at + run.shift, whole - at), scheme))
        tails.append(wanted[whole:end] - _reference(known, whole + run.shift, end - whole))
        at = end
    head = _COUNT.pack(len(runs)) + b"".join(_RUN.pack(run.length, run.shift) for run in runs)
    return b"".join((head, *(tail.tobytes() for tail in tails), *_to_planes(words, scheme)))


def add(base: bytes, reader: Reader, length: int, scheme: Scheme) -> Iterator[bytes]:
    """Yield the new file, of ``length`` bytes, piece by piece.

    Raises:
        TransferError: What is read is no difference of such a file.
    """
    known = np.frombuffer(base, np.uint8)
    runs = _read_runs(reader, length)
    tails = [np.frombuffer(reader.read(run.length % scheme.width), np.uint8) for run in runs]
    words = _Words(reader, sum(run.length // scheme.width * scheme.width for run in runs), scheme.width)
    at = 0
    for run, tail in zip(runs, tails, strict=True):
        end = at + run.length - len(tail)
        while at < end:
            difference = words.take(end - at)
            reference = _reference(known, at + run.shift, len(difference))
            yield _add(difference, reference, scheme).tobytes()
            at += len(difference)
        if len(tail):
            yield (tail + _reference(known, at + run.shift, len(tail))).tobytes()
            at += len(tail)


def _read_runs(reader: Reader, length: int) -> list[Run]:
    (count,) = _COUNT.unpack(reader.read(_COUNT.size))
    if count > MAX_RUNS:
        raise TransferError(f"patch: at most {MAX_RUNS} runs, got {count}")
    runs = [Run(*held) for held in _RUN.iter_unpack(reader.read(count * _RUN.size))]
    covered = sum(run.length for run in runs)
    if covered != length:
        raise TransferError(f"patch: expected runs of {length} bytes, got {covered}")
    return runs


def _reference(base: Bytes, start: int, length: int) -> Bytes:
    """Return ``length`` bytes of the base from ``start``, with zeros beyond its ends."""
    first, last = max(start, 0), min(start + length, len(base))
    if first == start and last == start + length:
        return base[first:last]
    found = np.zeros(length, np.uint8)
    if first < last:
        found[first - start : last - start] = base[first:last]
    return found


def _subtract(new: Bytes, base: Bytes, scheme: Scheme) -> Bytes:
    if scheme.is_xor:
        return new ^ base
    if scheme.width == 1:
        return new - base
    difference = _words(new, scheme.width) - _words(base, scheme.width)
    sign = difference >> (8 * scheme.width - 1)
    return ((difference << 1) ^ -sign).view(np.uint8)


def _add(difference: Bytes, base: Bytes, scheme: Scheme) -> Bytes:
    if scheme.is_xor:
        return difference ^ base
    if scheme.width == 1:
        return difference + base
    folded = _words(difference, scheme.width)
    return ((folded >> 1 ^ -(folded & 1)) + _words(base, scheme.width)).view(np.uint8)


def _words(data: Bytes, width: int) -> NDArray[np.uint32]:
    copied = data.tobytes()  # starts where a word may start
    return np.frombuffer(copied, _UNSIGNED[width])  # sums wrap around, as those of bytes


def _to_planes(pieces: Sequence[Bytes], scheme: Scheme) -> Iterator[bytes]:
    words = np.concatenate([np.empty(0, np.uint8), *pieces])
    for at in range(0, len(words), BLOCK_BYTES):
        yield words[at : at + BLOCK_BYTES].reshape(-1, scheme.width).T.tobytes()


class _Words:
    """The words of a difference, out of their planes."""

    def __init__(self, reader: Reader, length: int, width: int) -> None:
        self._reader = reader
        self._left = length  # not read yet
        self._width = width
        self._block = np.empty(0, np.uint8)

    def take(self, most: int) -> Bytes:
        """Return the next bytes: whole words, at most ``most`` bytes of them and at least one word."""
        if not len(self._block):
            count = min(self._left, BLOCK_BYTES)
            planes = np.frombuffer(self._reader.read(count), np.uint8)
            self._block = planes.reshape(self._width, -1).T.reshape(-1)
            self._left -= count
        taken, self._block = self._block[:most], self._block[most:]
        return taken

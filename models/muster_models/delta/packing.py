"""Patches packed and read: zstd, which a device may lack, and bzip2, which every Python has.

Reading is bounded: in memory by the longest window that is accepted, and in time and output because the
caller asks for a number of bytes and no more are made. The only module that imports zstandard.
"""

import bz2
import io
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Protocol

from muster_models.errors import TransferError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from zstandard import ZstdCompressionDict

PLAIN_WINDOW: Final = 23  # log2 of the longest window of a frame without a base: what level 19 uses
# Of a frame with a base; what 32-bit devices can hold, far above what any device's memory rule lets through.
LONGEST_WINDOW: Final = 30
_LONG: Final = 16 * 1024 * 1024  # from here on matches far apart are worth a search of their own


class Stream(Protocol):
    """A file that is read."""

    def read(self, count: int, /) -> bytes:
        """Return up to ``count`` bytes, fewer at the end only."""
        ...


class ExactReader:
    """Reads what a patch holds, as many bytes at a time as are asked for.

    Args:
        stream: Unpacks it.
        failures: What ``stream`` raises on damaged bytes.
    """

    def __init__(self, stream: Stream, failures: tuple[type[Exception], ...]) -> None:
        self._stream = stream
        self._failures: tuple[type[Exception], ...] = (*failures, MemoryError)

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes.

        Raises:
            TransferError: The patch is damaged, or holds fewer.
        """
        found = self._read(count)
        if len(found) != count:
            raise TransferError(f"patch: expected {count} more bytes, got {len(found)}")
        return found

    def end(self) -> None:
        """Return if the patch holds nothing more.

        Raises:
            TransferError: It does, or is damaged.
        """
        if self._read(1):
            raise TransferError("patch: expected its end, got more bytes")

    def _read(self, count: int) -> bytes:
        try:
            return self._stream.read(count)
        except self._failures as error:
            raise TransferError(f"patch: {error}") from error


def has_zstd() -> bool:
    """Tell whether this machine has zstandard."""
    return find_spec("zstandard") is not None


def pack_zstd(data: bytes, level: int, *, base: bytes | None = None) -> bytes:
    """Return ``data`` as one frame, made with the knowledge of ``base`` where one is given."""
    import zstandard  # noqa: PLC0415 - a device may lack it

    total = len(data) + len(base or b"")
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=total,
        window_log=_window(total) if base is not None else min(PLAIN_WINDOW, _window(total)),
        enable_ldm=base is not None and total > _LONG,
        write_checksum=False,  # the signed hash of the whole file says more
    )
    known = None if base is None else _dictionary(base)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=known).compress(data)


def read_zstd(pieces: Iterable[bytes], *, base: bytes | None, length: int) -> ExactReader:
    """Return a reader of a frame.

    Args:
        pieces: The frame, in order.
        base: What it was made with.
        length: Of what it holds, in bytes; bounds the window that is accepted together with ``base``.
    """
    import zstandard  # noqa: PLC0415 - a device may lack it

    window = PLAIN_WINDOW if base is None else _window(len(base) + length)
    known = None if base is None else _dictionary(base)
    decompressor = zstandard.ZstdDecompressor(dict_data=known, max_window_size=1 << window)
    return ExactReader(decompressor.stream_reader(_buffered(pieces)), (zstandard.ZstdError,))


def pack_bz2(data: bytes) -> bytes:
    """Return ``data`` packed."""
    return bz2.compress(data, 9)


def read_bz2(pieces: Iterable[bytes]) -> ExactReader:
    """Return a reader of what ``pack_bz2`` made; it takes 4 MB."""
    return ExactReader(bz2.BZ2File(_buffered(pieces)), (OSError, EOFError))


def _buffered(pieces: Iterable[bytes]) -> io.BufferedReader:
    return io.BufferedReader(_Source(iter(pieces)))


class _Source(io.RawIOBase):
    """Pieces as a file that is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill a buffer with the next bytes; 0 at the end."""
        view = memoryview(buffer)
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        given, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(given)] = given
        return len(given)


def _window(total: int) -> int:
    # A match may reach back over everything made so far and the whole base.
    return min(LONGEST_WINDOW, max(10, total.bit_length()))


def _dictionary(base: bytes) -> "ZstdCompressionDict":
    import zstandard  # noqa: PLC0415 - a device may lack it

    return zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)

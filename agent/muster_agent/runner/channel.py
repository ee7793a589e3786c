"""Whole messages over a socket between two processes of this device: a length, then the bytes.

At most one message is under way in each direction, so that a small one is read by one system call.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence

from muster_models.errors import MessageError, Reason

_LENGTH = struct.Struct("<I")
_CHUNK = 64 * 1024
_SECOND = 1_000_000  # microseconds


def set_timeout(sock: socket.socket, seconds: float) -> None:
    """Bound every read and write by the kernel; ``settimeout`` would cost a system call each time."""
    value = struct.pack("ll", int(seconds), int(seconds % 1 * _SECOND))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


def send(sock: socket.socket, body: bytes, handles: Sequence[int] = ()) -> None:
    """Send one message, and copies of open files with it.

    Raises:
        OSError: The other side is gone, or does not read in time (``BlockingIOError``).
    """
    frame = _LENGTH.pack(len(body)) + body
    sent = socket.send_fds(sock, [frame], handles) if handles else sock.send(frame)
    while sent < len(frame):
        sent += sock.send(memoryview(frame)[sent:])


def receive(sock: socket.socket, most: int) -> bytes:
    """Return one message.

    Args:
        sock: A blocking socket.
        most: Bytes that the message may have.

    Raises:
        EOFError: The other side is gone.
        MessageError: The message is larger than ``most`` or is followed by something.
        OSError: The other side is gone, or says nothing in time (``BlockingIOError``).
    """
    return _complete(sock, sock.recv(_CHUNK), most)


def receive_with_handles(sock: socket.socket, most: int, *, handles: int) -> tuple[bytes, list[int]]:
    """Return one message and the open files that came with it; otherwise as ``receive``."""
    head, received, _, _ = socket.recv_fds(sock, _CHUNK, handles)
    try:
        return _complete(sock, head, most), received
    except BaseException:
        for handle in received:
            os.close(handle)
        raise


def _complete(sock: socket.socket, head: bytes, most: int) -> bytes:
    while len(head) < _LENGTH.size:
        more = sock.recv(_CHUNK)
        if not more or not head:
            raise EOFError("the other process closed the channel")
        head += more
    (length,) = _LENGTH.unpack_from(head)
    if length > most:
        raise MessageError(f"a message here has at most {most} bytes, got {length}", Reason.TOO_LARGE)
    end = _LENGTH.size + length
    if len(head) < end:
        head = b"".join((head, *_rest(sock, end - len(head))))
    if len(head) != end:
        raise MessageError(f"expected a message of {length} bytes, got {len(head) - _LENGTH.size}")
    return head[_LENGTH.size :]


def _rest(sock: socket.socket, missing: int) -> Iterator[bytes]:
    while missing > 0:
        part = sock.recv(min(missing, 1024 * 1024))
        if not part:
            raise EOFError("the other process closed the channel within a message")
        missing -= len(part)
        yield part


def close_quietly(*handles: int) -> None:
    """Close open files whose state does not matter any more."""
    for handle in handles:
        with contextlib.suppress(OSError):
            os.close(handle)

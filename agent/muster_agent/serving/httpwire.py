"""HTTP/1.1 for a local socket: one request or response at a time, every size and time bounded.

Hand-written because a web framework costs more per request than the models that are served here.
"""

import time
import zlib
from collections.abc import Mapping
from http import HTTPStatus
from socket import socket
from typing import Literal

from msgspec import Struct

from muster_models.errors import MusterError, Reason

MAX_HEAD = 16 * 1024
MAX_HEADERS = 64
MAX_BODY = 64 * 1024 * 1024
REQUEST_SECONDS = 30.0  # from the first byte of a request to its last
_CHUNK = 64 * 1024
_BODY_CHUNK = 1024 * 1024
_Read = tuple[tuple[str, str, str], Mapping[str, str], int]  # the first line, the headers, length of the body


class HttpError(MusterError):
    """What came is not a request, or is one that this server refuses.

    Attributes:
        status: The HTTP status to answer with.
    """

    def __init__(self, status: HTTPStatus, message: str, reason: Reason = Reason.BAD_MESSAGE) -> None:
        super().__init__(reason, message)
        self.status = status


class Message(Struct, frozen=True):
    """A request or a response.

    Attributes:
        start: The three words of its first line.
        headers: By lower-case name.
    """

    start: tuple[str, str, str]
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """Reads and writes messages on one socket, whose timeout bounds each single wait."""

    def __init__(self, sock: socket) -> None:
        self.sock = sock
        self._rest = b""
        # A client mostly repeats its head word for word: one that was read needs no closer look.
        self._head_before: bytes | None = None
        self._read_before: _Read = ("", "", ""), {}, 0

    def receive(self) -> Message | None:
        """Return the next message, its body decoded, or None when the other side is done.

        Raises:
            HttpError: It is malformed, too large or too slow; the connection cannot be used any more.
            OSError: The connection broke, or was silent for longer than the socket's timeout.
        """
        head = self._head()
        if head is None:
            return None
        deadline = time.monotonic() + REQUEST_SECONDS
        if head != self._head_before:
            self._read_before = _parse_head(head)
            self._head_before = head
        start, headers, length = self._read_before
        if headers.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._body(length, deadline)
        return Message(start, headers, _decoded(headers.get("content-encoding", "identity"), body))

    def send(self, start: str, headers: Mapping[str, str], body: bytes) -> None:
        """Send one message.

        Raises:
            OSError: The connection broke.
        """
        lines = [start, *(f"{name}: {value}" for name, value in headers.items())]
        lines.append(f"Content-Length: {len(body)}\r\n\r\n")
        self.sock.sendall("\r\n".join(lines).encode("latin-1") + body)

    def _head(self) -> bytes | None:
        deadline: float | None = None
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > MAX_HEAD:
                break
            more = self.sock.recv(_CHUNK)
            if not more:
                if data.strip():
                    raise HttpError(HTTPStatus.BAD_REQUEST, "the connection ended within the headers")
                return None
            now = time.monotonic()
            deadline = deadline or now + REQUEST_SECONDS
            if now > deadline:
                raise _too_slow()
            data += more
        if not 0 <= end <= MAX_HEAD:
            raise HttpError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the headers have at most {MAX_HEAD} bytes",
                Reason.TOO_LARGE,
            )
        self._rest = data[end + 4 :]
        return data[:end]

    def _body(self, length: int, deadline: float) -> bytes:
        data, self._rest = self._rest[:length], self._rest[length:]
        if len(data) == length:
            return data
        parts = [data]
        missing = length - len(data)
        while missing > 0:
            part = self.sock.recv(min(missing, _BODY_CHUNK))
            if not part:
                raise HttpError(
                    HTTPStatus.BAD_REQUEST, f"expected a body of {length} bytes, {missing} are missing"
                )
            if time.monotonic() > deadline:
                raise _too_slow()
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def accepted_encoding(accepted: str) -> Literal["gzip", "deflate"] | None:
    """Return the form in which a body may be sent to somebody with this ``Accept-Encoding``; None for plain.

    Only what is named counts: ``*`` would compress for clients that never think of it.
    """
    offers = [offer.replace(" ", "").lower().partition(";q=") for offer in accepted.split(",")[:16]]
    named = {name for name, _, weight in offers if weight.strip("0.") or not weight}
    if "gzip" in named:
        return "gzip"
    return "deflate" if "deflate" in named else None


def compressed(encoding: Literal["gzip", "deflate"], body: bytes) -> bytes:
    """Return a body in an encoding, at the speed that suits a local connection."""
    wbits = zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS
    return zlib.compress(body, level=1, wbits=wbits)


def _too_slow() -> HttpError:
    return HttpError(
        HTTPStatus.REQUEST_TIMEOUT, f"a request arrives within {REQUEST_SECONDS:g} s", Reason.TIMED_OUT
    )


def _parse_head(head: bytes) -> _Read:
    first, *lines = head.lstrip(b"\r\n").decode("latin-1").split("\r\n")
    match first.split(" ", 2):
        case [one, two, three] if "HTTP/1." in (one[:7], three[:7]):
            start = (one, two, three)
        case _:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"expected an HTTP/1.1 message, got {first[:80]!r}")
    if len(lines) > MAX_HEADERS:
        raise HttpError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a message has at most {MAX_HEADERS} headers"
        )
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.lower()
        # Two lengths, or a name with a space, are how a request is smuggled past another reader.
        if not colon or not name or name != name.strip() or (key == "content-length" and key in headers):
            raise HttpError(
                HTTPStatus.BAD_REQUEST, f"expected a header once as 'Name: value', got {line[:80]!r}"
            )
        headers[key] = value.strip()
    return start, headers, _length(headers)


def _length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise HttpError(HTTPStatus.LENGTH_REQUIRED, "a body comes with Content-Length, not in chunks")
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise HttpError(HTTPStatus.BAD_REQUEST, f"expected Content-Length in bytes, got {text[:40]!r}")
    # The number of digits is bounded first: turning a long one into a number takes long.
    if len(text) > len(str(MAX_BODY)) or int(text) > MAX_BODY:
        raise _too_large()
    return int(text)


def _too_large() -> HttpError:
    return HttpError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {MAX_BODY} bytes", Reason.TOO_LARGE
    )


def _decoded(encoding: str, body: bytes) -> bytes:
    match encoding.lower():
        case "identity" | "":
            return body
        case "gzip" | "deflate":
            return _inflated(body)
        case _:
            raise HttpError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"expected gzip, deflate or identity, got {encoding[:40]!r}",
            )


def _inflated(body: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # it tells gzip and zlib apart by itself
    try:
        data = inflater.decompress(body, MAX_BODY)
    except zlib.error as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"the body does not decompress: {error}") from error
    if inflater.unconsumed_tail:
        raise _too_large()
    if not inflater.eof or inflater.unused_data:
        raise HttpError(HTTPStatus.BAD_REQUEST, "the compressed body is cut off or is followed by something")
    return data

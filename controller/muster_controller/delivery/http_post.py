"""One POST to a receiver, bounded in time and bytes. It follows no redirect, and asks no proxy.

The receiver's answer is not believed further than its status: nothing of its body is read.
"""

import email.utils
import io
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, parse_headers
from urllib.parse import urlsplit

from muster_models.errors import TransferError

MAX_HEAD_BYTES = 16_384
MAX_BODY_BYTES = 262_144
CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: |\r?\n)")
_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """What the receiver answered.

    Attributes:
        retry_after: Seconds that it asks to be left alone; 0 when it does not say.
    """

    status: int
    retry_after: float = 0.0


@dataclass(frozen=True)
class Place:
    """Where a receiver is.

    Attributes:
        timeout: Seconds for everything together, from the connection to the answer. Looking up the name is
            left to the system's own limits.
    """

    url: str
    timeout: float
    ca_file: str | None = None


def post(place: Place, body: bytes, headers: Mapping[str, str], *, now: float) -> Answer:
    """Send a body and return the answer, whatever its status.

    Args:
        now: Unix seconds: a date in ``Retry-After`` is held against it.

    Raises:
        TransferError: There was no answer in time, or what came is not one.
    """
    if len(body) > MAX_BODY_BYTES:
        raise TransferError(f"a message has at most {MAX_BODY_BYTES} bytes, got {len(body)}")
    deadline = time.monotonic() + place.timeout
    try:
        with _connect(place, deadline) as connection:
            _send(connection, _request(place.url, body, headers) + body, deadline)
            return _answer(_read_head(connection, deadline), now)
    except TimeoutError as error:
        raise TransferError(f"no answer within {place.timeout:g} s") from error
    except (OSError, HTTPException, UnicodeError) as error:
        raise TransferError(f"{type(error).__name__}: {error}"[:200]) from error


def _connect(place: Place, deadline: float) -> socket.socket:
    parts = urlsplit(place.url)
    assert parts.hostname is not None
    is_secret = parts.scheme == "https"
    port = parts.port or (443 if is_secret else 80)
    plain = socket.create_connection((parts.hostname, port), timeout=_left(deadline))
    if not is_secret:
        return plain
    try:
        context = ssl.create_default_context(cafile=place.ca_file)
        plain.settimeout(_left(deadline))
        return context.wrap_socket(plain, server_hostname=parts.hostname)
    except BaseException:
        plain.close()
        raise


def _request(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    held = {
        "Host": parts.netloc,
        "User-Agent": "muster-webhook/1",
        "Content-Type": CONTENT_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in held.items()), "", ""]
    return "\r\n".join(lines).encode("ascii")


def _send(connection: socket.socket, data: bytes, deadline: float) -> None:
    # Some at a time, because a limit on ``sendall`` alone would start anew with each part that is taken.
    view = memoryview(data)
    while view:
        connection.settimeout(_left(deadline))
        view = view[connection.send(view) :]


def _read_head(connection: socket.socket, deadline: float) -> bytes:
    head = b""
    while _END not in head:
        connection.settimeout(_left(deadline))
        more = connection.recv(4096)
        if not more:
            raise TransferError(f"the receiver hung up after {len(head)} bytes of an answer")
        head += more
        if len(head) > MAX_HEAD_BYTES:
            raise TransferError(f"the head of the answer has more than {MAX_HEAD_BYTES} bytes")
        if head.startswith(b"HTTP/1.1 1") and _END in head:
            head = head.partition(_END)[2]  # an interim answer: the real one follows
    return head


def _answer(head: bytes, now: float) -> Answer:
    found = _STATUS.match(head)
    if found is None:
        raise TransferError(f"expected an answer of HTTP/1.1, got {head[:40]!r}")
    fields = parse_headers(io.BytesIO(head.partition(b"\r\n")[2]))
    return Answer(int(found[1]), _retry_after(fields.get("Retry-After", ""), now))


def _retry_after(text: str, now: float) -> float:
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left

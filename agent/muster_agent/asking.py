"""Questions to the controller's side for devices: one request, one answer of bounded length, one error."""

import contextlib
import http.client
import ssl
from collections.abc import Iterator
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from muster_models.errors import Reason, TransferError
from muster_models.network_words import in_words

T = TypeVar("T")
ANSWER_BYTES = 256 * 1024
TIMEOUT_SECONDS = 20.0


class _Problem(Struct, frozen=True):
    message: str = ""


class _Refusal(Struct, frozen=True):
    error: _Problem = _Problem()


def fetch_unproven(url: str) -> bytes:
    """Return what a server that has not proved who it is says; only a hash makes it worth anything."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _exchange("GET", url, None, context=context)


def post(url: str, body: dict[str, str], form: type[T], *, context: ssl.SSLContext) -> T:
    """Send a question to the controller and return its answer.

    Raises:
        TransferError: It cannot be reached, refuses, or answers in another form.
    """
    answer = _exchange("POST", url, msgspec.json.encode(body), context=context)
    try:
        return msgspec.json.decode(answer, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TransferError(f"{url}: unexpected answer: {error}") from error


def _exchange(method: str, url: str, body: bytes | None, *, context: ssl.SSLContext) -> bytes:
    parts = urlsplit(url)
    with (
        _as_transfer_error(url),
        contextlib.closing(
            http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS, context=context
            )
        ) as connection,
    ):
        connection.request(method, parts.path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        content = answer.read(ANSWER_BYTES + 1)
    if answer.status != http.client.OK:
        raise TransferError(f"{url}: {answer.status} {_said(content) or answer.reason}")
    if len(content) > ANSWER_BYTES:
        raise TransferError(f"{url}: expected at most {ANSWER_BYTES} bytes", Reason.TOO_LARGE)
    return content


def _said(content: bytes) -> str:
    try:
        return msgspec.json.decode(content, type=_Refusal).error.message[:400]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


@contextlib.contextmanager
def _as_transfer_error(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TransferError(f"{url}: {in_words(error)}") from error

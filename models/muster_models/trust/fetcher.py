"""Fetch static files over HTTP from a server that may be slow, endless or lying about its lengths.

A transfer of n bytes may take ``patience + n / minimum_rate`` seconds, measured while it runs, so one byte
now and then does not hold the caller. Only identity encoding is taken (no bombs), no redirect is followed,
nothing is retried here. What arrives is not trusted: callers compare hashes.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import urllib3
from tuf.api import exceptions as tuf
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import BaseHTTPResponse, HTTPResponse

from muster_models.errors import Reason, TransferError
from muster_models.network_words import in_words
from muster_models.trust.glance import Changed, RepositoryFetcher, harmless

CHUNK = 64 * 1024  # bytes
METADATA_LIMIT = 5_000_000  # bytes; the largest that python-tuf asks for
_HEADERS = {"Accept-Encoding": "identity"}


class StatusError(TransferError):
    """The server answered with a status that is not the wanted one."""

    def __init__(self, url: str, status: int) -> None:
        super().__init__(f"{url}: HTTP status {status}")
        self.status = status


@dataclass(frozen=True)
class Limits:
    """How long a server may take.

    Attributes:
        silence: Seconds without any byte, also while connecting.
        patience: Seconds before the rate counts; headers must be complete by then.
        minimum_rate: Bytes per second.
    """

    silence: float = 10.0
    patience: float = 20.0
    minimum_rate: float = 1024.0


class Fetcher(RepositoryFetcher):
    """Fetches for python-tuf (metadata) and for the agent (ranges of files) under one set of limits.

    Args:
        context: TLS with the device's certificate and the pinned CA; None for plain HTTP.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits or Limits()
        self._clock = clock
        self._pool = urllib3.PoolManager(
            retries=False,
            timeout=urllib3.Timeout(connect=self.limits.silence, read=self.limits.silence),
            ssl_context=context,
        )
        self._pool.pool_classes_by_scheme = {
            "http": _pool_class(self.limits.patience),
            "https": _tls_pool_class(self.limits.patience),
        }
        # Else an error that somebody holds keeps connections open: its traceback leads to their pool.
        self._pool.pools.dispose_func = HTTPConnectionPool.close

    def close(self) -> None:
        """Close idle connections."""
        self._pool.clear()

    def fetch_range(self, url: str, *, offset: int, length: int, limit: int) -> Generator[bytes, None, None]:
        """Yield exactly ``length`` bytes of a file from ``offset`` on.

        A server that knows no ranges sends the whole file; what lies before ``offset`` is then skipped.

        Whoever stops before the end closes what this returns, and with it the connection.

        Args:
            limit: The most bytes this caller takes in one request.

        Raises:
            TransferError: Refused, cut short, too slow, encoded, redirected, or ``length`` above ``limit``.
                What was yielded before stays usable: continue with a higher offset.
        """
        if length > limit:
            raise TransferError(f"{url}: {length} bytes wanted, at most {limit} allowed", Reason.TOO_LARGE)
        if length == 0:
            return
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        with self._open(url, headers) as (response, started):
            skip = _first_byte(url, response, offset)
            yield from self._exactly(url, response, skip=skip, length=length, started=started)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a whole file, without the temporary file that python-tuf would write.

        Raises:
            tuf.DownloadError: As ``fetch``; DownloadLengthMismatchError if there is more than ``max_length``.
        """
        content = bytearray()
        for chunk in self.fetch(url):
            content += chunk
            if len(content) > max_length:
                raise tuf.DownloadLengthMismatchError(f"{url}: more than {max_length} bytes")
        return bytes(content)

    def fetch_changed(self, url: str, *, tag: str | None, limit: int) -> Changed | None:
        """Return a whole file, or None where the server says that it is still the one with ``tag``.

        Raises:
            TransferError: As ``fetch_range``; ``StatusError`` also for "unchanged" where no tag was given.
        """
        headers = {} if tag is None else {"If-None-Match": tag}
        with self._open(url, headers) as (response, started):
            if tag is not None and response.status == HTTPStatus.NOT_MODIFIED:
                # Nothing, by the protocol; only after its end may the connection serve again.
                if next(self._chunks(url, response, started=started, most=1), b""):
                    raise TransferError(f"{url}: expected no bytes with HTTP status 304")
                return None
            _first_byte(url, response, 0)
            content = b"".join(self._chunks(url, response, started=started, most=limit + 1))
            found = harmless(response.headers.get("ETag"))
        if len(content) > limit:
            raise TransferError(f"{url}: more than {limit} bytes", Reason.TOO_LARGE)
        return Changed(content, found)

    def _fetch(self, url: str) -> Iterator[bytes]:
        """Yield the chunks of a whole file, with python-tuf's errors."""
        try:
            with self._open(url, {}) as (response, started):
                _first_byte(url, response, 0)
                yield from self._chunks(url, response, started=started, most=METADATA_LIMIT + 1)
        except StatusError as error:
            raise tuf.DownloadHTTPError(str(error), error.status) from error
        except TransferError as error:
            raise tuf.DownloadError(str(error)) from error

    @contextmanager
    def _open(self, url: str, headers: dict[str, str]) -> Iterator[tuple[BaseHTTPResponse, float]]:
        started = self._clock()
        try:
            response = self._pool.request(
                "GET", url, headers=_HEADERS | headers, preload_content=False, redirect=False
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise TransferError(f"{url}: {in_words(error)}") from error
        try:
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise TransferError(f"{url}: expected no content encoding, got {encoding[:40]!r}")
            yield response, started
        finally:
            # Only a connection whose response was read to its end may serve again.
            if isinstance(response, HTTPResponse) and response.isclosed():
                response.release_conn()
            else:
                response.close()

    def _exactly(
        self, url: str, response: BaseHTTPResponse, *, skip: int, length: int, started: float
    ) -> Iterator[bytes]:
        position = 0
        end = skip + length
        for chunk in self._chunks(url, response, started=started, most=end):
            kept = chunk[max(0, skip - position) :]
            position += len(chunk)
            if kept:
                yield kept
        if position < end:
            raise TransferError(f"{url}: expected {end} bytes, the connection ended after {position}")

    def _chunks(self, url: str, response: BaseHTTPResponse, *, started: float, most: int) -> Iterator[bytes]:
        received = 0
        while received < most:
            try:
                # read1 returns after one read of the socket; read would wait for the whole chunk.
                chunk = response.read1(min(CHUNK, most - received), decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise TransferError(f"{url}: {in_words(error)}") from error
            if not chunk:
                return
            received += len(chunk)
            self._check_pace(url, received, started)
            yield chunk

    def _check_pace(self, url: str, received: int, started: float) -> None:
        elapsed = self._clock() - started
        if elapsed > self.limits.patience + received / self.limits.minimum_rate:
            raise TransferError(
                f"{url}: {received} bytes in {elapsed:.1f} s; the slowest allowed is "
                f"{self.limits.minimum_rate:.0f} bytes/s after {self.limits.patience:.0f} s"
            )


def _first_byte(url: str, response: BaseHTTPResponse, offset: int) -> int:
    """Return how many bytes of the body lie before ``offset``."""
    match response.status:
        case HTTPStatus.PARTIAL_CONTENT:
            given = response.headers.get("Content-Range", "")
            if not given.startswith(f"bytes {offset}-"):
                raise TransferError(f"{url}: expected the range from {offset}, got {given[:60]!r}")
            return 0
        case HTTPStatus.OK:
            return offset
        case status:
            raise StatusError(url, status)


@contextmanager
def _cut_after(connection: HTTPConnection, seconds: float) -> Iterator[None]:
    # A timeout of the socket counts from the last byte, so a server could send a header for days.
    cut = _Cut(connection.sock)
    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if cut.was_made:
        # What came before would pass for complete headers and an empty body.
        raise TimeoutError(f"no complete headers within {seconds:g} s")


class _Cut:
    """Ends a connection from another thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.was_made = False

    def __call__(self) -> None:
        self.was_made = True
        with contextlib.suppress(OSError):  # closed already
            # The base class's shutdown leaves the TLS object alone, which another thread is using.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


def _pool_class(seconds: float) -> type[HTTPConnectionPool]:
    class Connection(HTTPConnection):
        def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself
            with _cut_after(self, seconds):
                return super().getresponse()

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    return Pool


def _tls_pool_class(seconds: float) -> type[HTTPSConnectionPool]:
    class Connection(HTTPSConnection):
        def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself
            with _cut_after(self, seconds):
                return super().getresponse()

    class Pool(HTTPSConnectionPool):
        ConnectionCls = Connection

    return Pool

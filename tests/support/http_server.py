"""A real HTTP server on loopback whose routes misbehave in the ways that a hostile or broken server may."""

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Route = Callable[["Handler"], None]
PAUSE = 0.02  # seconds between the drops of a slow server


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the route of its path; below ``/files/`` serves a folder with ranges."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes, and the second would wait 40 ms
    server: "LoopbackServer"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        route = self.server.routes.get(self.path)
        if route is not None:
            route(self)
        elif self.server.folder is not None and (self.server.folder / self.path[1:]).is_file():
            with_ranges((self.server.folder / self.path[1:]).read_bytes())(self)
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """Send a whole response; underscores in the names of headers become hyphens."""
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, content: Iterator[bytes]) -> None:
        """Send piece by piece, slowly, until the client or the server has had enough."""
        self.close_connection = True
        for piece in content:
            if self.server.stopping.wait(PAUSE):
                return
            try:
                self.wfile.write(piece)
                self.wfile.flush()
            except OSError:
                return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Say nothing: tests read ``requests``."""


class QuietServer(ThreadingHTTPServer):
    """A client that hangs up, during the handshake or later, is what some tests are about."""

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


class LoopbackServer(QuietServer):
    """The server.

    Attributes:
        requests: Path and Range header of every request.
        connections: How many connections were made.
        ended: How many of them are over.
        stopping: Set when the test is over; slow routes wait on it.
    """

    daemon_threads = True

    def __init__(self, routes: Mapping[str, Route], *, folder: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes = routes
        self.folder = folder
        self.requests: list[tuple[str, str | None]] = []
        self.connections = 0
        self.ended = 0
        self.stopping = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def process_request(self, request: object, client_address: object) -> None:
        self.connections += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]  # passed through

    def shutdown_request(self, request: object) -> None:
        super().shutdown_request(request)  # type: ignore[arg-type]  # passed through
        self.ended += 1


@contextmanager
def serving(
    routes: Mapping[str, Route] | None = None,
    *,
    folder: Path | None = None,
    context: ssl.SSLContext | None = None,
) -> Iterator[LoopbackServer]:
    """Run a server for the length of a test."""
    server = LoopbackServer(routes or {}, folder=folder)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with running(server, release=server.stopping.set):
        yield server


@contextmanager
def running(server: QuietServer, *, release: Callable[[], None]) -> Iterator[None]:
    """Serve in a thread until the block ends; ``release`` then frees the requests that still wait."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        release()
        server.shutdown()
        thread.join()
        server.server_close()


def with_ranges(content: bytes) -> Route:
    def route(handler: Handler) -> None:
        asked = handler.headers.get("Range")
        if asked is None:
            handler.answer(200, content)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content)), len(content) - 1)
        if start >= len(content):
            handler.answer(416, b"")
            return
        handler.answer(206, content[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(content)}")

    return route


def fixed(status: int, body: bytes = b"", **headers: str) -> Route:
    """Answer always the same; see ``Handler.answer``."""
    return lambda handler: handler.answer(status, body, **headers)


def cut_short(content: bytes, sent: int) -> Route:
    """Announce all of ``content``, send the first bytes, and hang up."""

    def route(handler: Handler) -> None:
        handler.answer(200, content[:sent], Content_Length=str(len(content)))
        handler.close_connection = True

    return route


def dripping(content: Iterator[bytes], *, head: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Route:
    """Send ``head`` at once and then ``content`` in slow drops."""

    def route(handler: Handler) -> None:
        handler.wfile.write(head)
        handler.drip(content)

    return route


def endless() -> Route:
    """Send as fast as the client takes it, without end."""

    def route(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not handler.server.stopping.is_set():
            try:
                handler.wfile.write(b"x" * 65_536)
            except OSError:
                return

    return route

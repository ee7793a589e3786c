"""A folder over HTTP on the loopback interface, in a thread, with every byte of it counted."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

# As the controller answers.
MISSING = b"""{"error":{"code":"not-found","message":"no metadata '%b'","reason":""}}"""


@dataclass
class Traffic:
    """What went over the wire since the last ``take``, without TLS.

    Attributes:
        requests: All of them.
        files: How many were answered with a file; the others got a 404.
        file_bytes: Of these files.
        wire_bytes: Requests and answers with their heads.
    """

    requests: int = 0
    files: int = 0
    file_bytes: int = 0
    wire_bytes: int = 0


class Server:
    """Hands out the files below a folder.

    Attributes:
        traffic: Counted since it was last replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.traffic = Traffic()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, folder))
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def take(self) -> Traffic:
        """Return what was counted, and begin anew."""
        taken, self.traffic = self.traffic, Traffic()
        return taken


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Serve a folder."""
    server = Server(folder)
    thread = Thread(target=server.http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()


def _answer(name: str, content: bytes | None, known: str | None) -> tuple[str, bytes, str]:
    """Return status, body and the line of the tag, as the controller gives them."""
    if content is None:
        return "404 Not Found", MISSING % name.encode(), ""
    if name[0].isdecimal():
        return "200 OK", content, ""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    line = f"ETag: {tag}\r\n"
    return ("304 Not Modified", b"", line) if tag == known else ("200 OK", content, line)


def _handler(server: Server, folder: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path = folder / self.path.lstrip("/")
            content = path.read_bytes() if path.is_file() else None
            status, body, tag = _answer(path.name, content, self.headers.get("If-None-Match"))
            found = status.startswith("200")
            kind = "" if status.startswith("304") else "Content-Type: application/json\r\n"
            head = f"HTTP/1.1 {status}\r\n{kind}{tag}Content-Length: {len(body)}\r\n\r\n".encode()
            lines = sum(len(f"{name}: {value}\r\n") for name, value in self.headers.items())
            traffic = server.traffic
            traffic.requests += 1
            traffic.files += found
            traffic.file_bytes += len(body) if found else 0
            traffic.wire_bytes += len(self.requestline) + lines + 4 + len(head) + len(body)
            self.wfile.write(head + body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler

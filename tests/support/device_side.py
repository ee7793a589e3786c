"""The controller's side for devices, as small as tests need it: enrolment and static files over real TLS."""

import datetime as dt
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from muster_controller.pki import Authority
from support.http_server import QuietServer, running

Answer = tuple[int, bytes]
Handler = Callable[[dict[str, Any], str | None], Answer]


@dataclass
class DeviceSide:
    """Answers by path; a handler gets the JSON of the request and the common name of the peer.

    Attributes:
        requests: Paths in the order they were asked for, with the common name of the peer.
        files: What lies below ``/repository/``, for peers with a certificate.
        refused: Peers that are answered 403, as revoked ones are.
        gate: Blobs are sent while it is set.
        blob_asked: Set whenever a blob is asked for.
    """

    url: str
    authority: Authority
    handlers: dict[str, Handler] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    files: Path | None = None
    refused: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    blob_asked: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str, body: bytes, peer: str | None) -> Answer:
        self.requests.append((path, peer))
        if path == "/ca.pem":
            return 200, self.authority.pem.encode()
        if self.files is not None and path.startswith("/repository/"):
            return self._file(self.files / path.removeprefix("/repository/"), peer)
        handler = self.handlers.get(path)
        return (404, b"nothing") if handler is None else handler(json.loads(body), peer)

    def _file(self, path: Path, peer: str | None) -> Answer:
        if peer is None or peer in self.refused:
            return 403, b""
        if path.parent.name == "blobs":
            self.blob_asked.set()
            self.gate.wait()
        return (200, path.read_bytes()) if path.is_file() else (404, b"")


def sign(authority: Authority, device: str, csr: str) -> str:
    return authority.issue_device(device, csr.encode(), dt.datetime.now(dt.UTC)).pem


@contextmanager
def serving(
    authority: Authority, *, at: dt.datetime | None = None, revoked: Path | None = None
) -> Iterator[DeviceSide]:
    """Serve on a free loopback port with a server certificate of ``authority``.

    Args:
        at: When that was issued; None for now.
        revoked: A list of certificates (PEM) that are refused during the handshake.
    """
    authority.issue_server("device-side", ["127.0.0.1"], at or dt.datetime.now(dt.UTC))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.folder / "ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    if revoked is not None:
        context.load_verify_locations(revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    context.load_cert_chain(authority.folder / "device-side.pem", authority.folder / "device-side.key")

    class Requests(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(b"")

        def do_POST(self) -> None:
            self._reply(self.rfile.read(int(self.headers["Content-Length"])))

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

        def _reply(self, body: bytes) -> None:
            status, content = side.answer(self.path, body, self._peer())
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _peer(self) -> str | None:
            assert isinstance(self.connection, ssl.SSLSocket)
            certificate: Any = self.connection.getpeercert() or {}
            names = dict(pair[0] for pair in certificate.get("subject", ()))
            return names.get("commonName")

    server = QuietServer(("127.0.0.1", 0), Requests)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    side = DeviceSide(f"https://127.0.0.1:{server.server_port}", authority)
    side.gate.set()
    with running(server, release=side.gate.set):
        yield side

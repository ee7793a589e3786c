"""A receiver of webhooks on loopback: it answers as a test says, and remembers what it was sent."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from muster_controller.config import WebhookSettings
from support.http_server import QuietServer, running

SECRET = base64.b64encode(b"a secret of thirty-two bytes, ha").decode()


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        return str(self.event["type"])

    @property
    def is_genuine(self) -> bool:
        """Check it as the specification of Standard Webhooks tells receivers to."""
        content = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        digest = hmac.new(base64.b64decode(SECRET), content, hashlib.sha256).digest()
        return f"v1,{base64.b64encode(digest).decode()}" in self.headers["webhook-signature"].split(" ")


Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Keeps each POST and answers by the server's behaviour."""

    protocol_version = "HTTP/1.1"
    server: "Receiver"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        got = Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        with self.server.lock:
            self.server.got.append(got)
        self.server.behaviour(self)

    def answer(self, status: int, **headers: str) -> None:
        """Send an empty response; underscores in the names of headers become hyphens."""
        self.send_response(status)
        for name, value in ({"Content_Length": "0"} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Say nothing: tests read ``got``."""


@dataclass
class Receiver(QuietServer):
    """The server; ``behaviour`` may be changed while it runs."""

    behaviour: Behaviour
    got: list[Got] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)
    daemon_threads = True

    def __post_init__(self) -> None:
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", 0), Handler)

    def __hash__(self) -> int:
        return id(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{int(self.server_address[1])}/hook"

    def types(self) -> list[str]:
        return [one.type for one in self.got]


def says(status: int, **headers: str) -> Behaviour:
    """Answer always the same."""
    return lambda handler: handler.answer(status, **headers)


def hangs(handler: Handler) -> None:
    """Never answer."""
    handler.server.stopping.wait()
    handler.close_connection = True


def dribbles(handler: Handler) -> None:
    """Begin an answer and never end it."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.stopping.wait(0.05):
        try:
            handler.wfile.write(b"x: y\r\n")
        except OSError:
            break
    handler.close_connection = True


def babbles(handler: Handler) -> None:
    """Answer what is no HTTP."""
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n")
    handler.close_connection = True


def hangs_up(handler: Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


@contextmanager
def receiving(behaviour: Behaviour | None = None) -> Iterator[Receiver]:
    """Run a receiver for the length of a test."""
    server = Receiver(behaviour or says(204))
    with running(server, release=server.stopping.set):
        yield server


def webhook(folder: Path, url: str, **changes: Any) -> WebhookSettings:
    """Return the settings of a receiver whose secret lies in ``folder``."""
    (folder / "desk.secret").write_text(f"whsec_{SECRET}\n")
    values: dict[str, Any] = {"name": "desk", "url": url, "secret_file": str(folder / "desk.secret")}
    return WebhookSettings(**(values | changes))

"""Listening: sockets that are bound before anything starts, and both HTTP servers in one event loop."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from muster_controller.api.peer import PeerProtocol
from muster_models.errors import ConflictError, RequestError

BACKLOG = 512
# Requests that are being answered when it is time to end get so long.
GRACE_SECONDS = 3
KEEP_ALIVE_SECONDS = 30
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceTls:
    """What the devices' listener shows, and whom it believes.

    Attributes:
        pki: Holds ``ca.pem``, ``server.pem`` and ``server.key``.
    """

    pki: Path


def bind(host: str, port: int, *, setting: str) -> socket.socket:
    """Return a listening socket.

    Args:
        host: An address of this machine.
        port: 0 lets the machine choose.
        setting: The line of ``controller.toml`` that says the port, for the message.

    Raises:
        ConflictError: Something else listens there.
        RequestError: The address is not this machine's, or the port is not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        said = error.strerror if error.errno is None else os.strerror(error.errno)
        told = f"cannot listen on {host} port {port}: {said}; change {setting} in controller.toml"
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(f"{told}, or end what uses it") from error
        raise RequestError(told) from error


class _OperatorProtocol(H11Protocol):
    """HTTP that tells when a connection ends before its answer, which neither uvicorn nor asyncio does."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell of a request that was taken and whose answer nobody will read."""
        # uvicorn says that there always is a cycle; before the first request there is none.
        begun = self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]
        if begun and self.client is not None:
            # As it was sent: decoded, it could hold a line's end and forge the log.
            asked = f"{self.scope['method']} {self.scope['raw_path'].decode('ascii')}"
            why = exc or "closed by the other side"
            _log.warning("%s: the connection of %s:%d ended before its answer: %s", asked, *self.client, why)
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    """A server that leaves signals to who runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def make_server(app: FastAPI, tls: DeviceTls | None = None) -> uvicorn.Server:
    """Return a server for ``app``; with ``tls``, one that tells the application who its peer is."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ws="websockets-sansio" if tls is None else "none",
        http=_OperatorProtocol if tls is None else PeerProtocol,
        ssl_certfile=None if tls is None else tls.pki / "server.pem",
        ssl_keyfile=None if tls is None else tls.pki / "server.key",
        ssl_ca_certs=None if tls is None else str(tls.pki / "ca.pem"),
        ssl_cert_reqs=ssl.CERT_NONE if tls is None else ssl.CERT_OPTIONAL,
    )
    return _Server(config)


async def serve(servers: Sequence[tuple[uvicorn.Server, socket.socket]]) -> None:
    """Serve until the process is told to end; requests that are being answered are finished."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        for server, _ in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        await asyncio.gather(*(server.serve(sockets=[listener]) for server, listener in servers))
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

"""Ports for processes that are about to start."""

import contextlib
import secrets
import socket

PORTS = range(15_000, 32_000)


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on.

    From below the ports that outgoing connections are given, which would take one before it is used.
    """
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port

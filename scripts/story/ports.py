"""Ports for processes that are about to start."""

import contextlib
import secrets
import socket
import sys

PORTS = range(15_000, 32_000)


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on, and that nobody else is given by this.

    From below the ports that outgoing connections are given, which would take one before it is used.
    """
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            if _claim(port):
                return port


def _claim(port: int) -> bool:
    """Claim a port until this process ends, and tell whether that worked: whoever listens may take seconds.

    It is a name that one process at a time may hold. Only Linux has such names; elsewhere it is left to luck.
    """
    if sys.platform != "linux":
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
        try:
            claim.bind(f"\0muster-port-{port}")
        except OSError:
            return False
        claim.detach()  # it stays open
    return True

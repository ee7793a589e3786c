"""Telling the service manager that the agent is there and makes progress: systemd's protocol by datagrams.

Not here: what progress is; whoever makes it says so.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping

log = logging.getLogger(__name__)
_MICROSECONDS = 1_000_000
# Parts of the watchdog's time between two signs of life: one may get lost.
_PARTS = 4


class Notifier:
    """Tells a service manager, or nobody where there is none. It never raises and never waits.

    Args:
        address: Of the manager's socket; ``@`` begins an abstract one. None for no manager.
        watchdog_seconds: Without a sign of life for this long the service is killed; None for no watchdog.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        address: str | None,
        *,
        watchdog_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._every = None if watchdog_seconds is None else watchdog_seconds / _PARTS
        self._clock = clock
        self._next = clock()

    def ready(self) -> None:
        """Say that the service is up."""
        self._send("READY=1")

    def alive(self) -> None:
        """Say that progress is made; called as often as one likes, sent as often as the watchdog needs."""
        now = self._clock()
        if self._every is not None and now >= self._next:
            self._next = now + self._every
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service goes down by itself."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), address)
        except OSError as error:
            log.warning("the service manager was not told %s: %s", text, error)


def take_notifier(environment: MutableMapping[str, str]) -> Notifier:
    """Return a notifier for this process, and take what names it out of the environment of its children."""
    address = environment.pop("NOTIFY_SOCKET", "")
    microseconds = environment.pop("WATCHDOG_USEC", "")
    process = environment.pop("WATCHDOG_PID", "")
    watched = microseconds.isdigit() and int(microseconds) > 0 and process in {"", str(os.getpid())}
    return Notifier(
        address if address.startswith(("/", "@")) else None,
        watchdog_seconds=int(microseconds) / _MICROSECONDS if watched else None,
    )

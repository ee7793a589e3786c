"""The controller's MQTT session: every message of every device comes up here, and everything goes down here.

One thread owns the connection. A message is acknowledged to the broker only after whoever took it says so,
and the session is kept by the broker while the controller is away, so that a restart loses nothing.
"""

import logging
import threading
import time

from muster_controller.session import (
    KEEPALIVE_SECONDS,
    Address,
    Done,
    Session,
    Take,
    nothing,
)
from muster_models.errors import MusterError
from muster_models.mqtt import GreetingRefusedError, Level

__all__ = ["Address", "Link"]

RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 5.0
_log = logging.getLogger(__name__)


class Link:
    """Keeps a session with the broker until it is stopped."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._take: Take = _drop
        self._tell_online: Done = nothing
        self._level = Level.V5
        self._session: Session | None = None
        self._online = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self, take: Take, online: Done) -> None:
        """Connect, and connect again whenever the session is lost.

        Args:
            take: Called with topic, payload and what to call once the message is stored; may block, which
                stops the network from being read.
            online: Called when a session stands. What was sent before may have got lost.
        """
        self._take = take
        self._tell_online = online
        self._thread.start()

    def stop(self) -> None:
        """End the session and the thread; whoever ``take`` calls must have been told to stop before."""
        self._stopping.set()
        session = self._session
        if session is not None:
            session.wake()
        self._thread.join()

    def wait_online(self, seconds: float) -> bool:
        """Wait until a session stands; tell whether it does."""
        return self._online.wait(seconds)

    def publish(self, topic: str, payload: bytes, sent: Done | None = None) -> bool:
        """Send at least once, for any thread; return whether there is a session to send it on.

        ``sent`` is called, on the link's thread, once the broker has it. When the session is lost before, it
        is not called, and the message must be sent again by who cares.
        """
        session = self._session
        return session is not None and self._online.is_set() and session.publish(topic, payload, sent)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._serve()
            except GreetingRefusedError as error:
                self._level = self._level.other
                _log.warning("broker: %s", error)
            except MusterError as error:
                _log.warning("broker: %s", error)
            except Exception:  # noqa: BLE001 - a fault of ours must not leave the fleet unheard for ever
                _log.exception("the link failed")
            failures = 0 if time.monotonic() - began > MAX_RETRY_SECONDS else failures + 1
            self._stopping.wait(min(MAX_RETRY_SECONDS, RETRY_SECONDS * 2.0 ** min(failures, 10)))

    def _serve(self) -> None:
        session = Session(self._address, self._level, self._take)
        try:
            self._session = session
            session.open()
            self._online.set()
            _log.info("online at %s:%d", self._address.host, self._address.port)
            self._tell_online()
            while not self._stopping.is_set():
                session.turn(KEEPALIVE_SECONDS / 4)
        finally:
            self._online.clear()
            self._session = None
            session.close()


def _drop(_topic: str, _payload: bytes, _done: Done) -> None:
    """Take nothing: it stays with the broker."""

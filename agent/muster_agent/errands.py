"""What needs the network and may wait: envelopes, the repository, the certificate."""

import contextlib
import datetime as dt
import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from muster_agent.notices import Notice, Notices
from muster_agent.update.verifier import Verifier
from muster_models.errors import MusterError, TrustError
from muster_models.wire import Desired

log = logging.getLogger(__name__)

WAITING = 16  # envelopes; a broker that sends more than can be opened is not obliged
RENEWAL_SECONDS = 3600.0  # between two looks at the certificate
PATIENCE_SECONDS = 30.0  # before the controller is asked for an envelope again that could not be opened


@dataclass(frozen=True)
class Outside:
    """What errands are done for.

    Attributes:
        held: Returns the sequence of the newest desired state that was accepted.
        agree: Takes a verified desired state.
        greet: Asks the controller for the newest desired state.
        life: Returns when to renew the certificate and when it ends.
        renew: Renews it.
    """

    held: Callable[[], int]
    agree: Callable[[Desired], None]
    greet: Callable[[], None]
    life: Callable[[], tuple[dt.datetime, dt.datetime]]
    renew: Callable[[], None]


class Errands:
    """Does errands in a thread of its own.

    Args:
        refresh_seconds: About how often the repository is looked at.
        chance: Spreads a fleet.
    """

    def __init__(
        self,
        verifier: Verifier,
        notices: Notices,
        outside: Outside,
        *,
        refresh_seconds: float,
        chance: random.Random,
    ) -> None:
        self._verifier = verifier
        self._notices = notices
        self._outside = outside
        self._refresh_seconds = refresh_seconds
        self._chance = chance
        self._envelopes: queue.Queue[bytes | None] = queue.Queue(WAITING)
        self._stop = threading.Event()
        self._greet_at: float | None = None
        self._refresh_at = self._soon(refresh_seconds)
        self._renew_at = 0.0
        self._thread = threading.Thread(target=self._run, name="errands", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def open(self, envelope: bytes) -> None:
        """Open an envelope when its turn comes; for any thread."""
        with contextlib.suppress(queue.Full):
            self._envelopes.put_nowait(envelope)

    def stop(self, seconds: float) -> None:
        """End after the present errand, for which this waits up to ``seconds``."""
        self._stop.set()
        self.open(b"")
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            due = min(self._refresh_at, self._renew_at, self._greet_at or self._refresh_at)
            try:
                envelope = self._envelopes.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                envelope = None
            if self._stop.is_set():
                return
            try:
                if envelope is not None:
                    self._open(envelope)
                self._do_what_is_due(time.monotonic())
            except Exception:
                log.exception("an errand failed")  # the next one is another

    def _open(self, envelope: bytes) -> None:
        try:
            desired = self._verifier.desired(envelope, held=self._outside.held())
        except TrustError as error:
            log.warning("refused a desired state: %s", error)
            self._notices.tell_rarely(Notice("refused", reason=error.reason, detail=str(error)))
        except MusterError as error:
            log.info("a desired state has to wait: %s", error)
            self._greet_at = self._soon(PATIENCE_SECONDS)
        else:
            self._outside.agree(desired)

    def _do_what_is_due(self, now: float) -> None:
        if self._greet_at is not None and now >= self._greet_at:
            self._greet_at = None
            self._outside.greet()
        if now >= self._renew_at:
            self._renew_at = self._soon(RENEWAL_SECONDS)
            self._renew_if_due()
        if now >= self._refresh_at:
            self._refresh_at = self._soon(self._refresh_seconds)
            self._refresh()

    def _refresh(self) -> None:
        try:
            self._verifier.check()
        except TrustError as error:
            log.warning("refused what the repository holds: %s", error)
            self._notices.tell_rarely(Notice("refused", reason=error.reason, detail=str(error)))
        except MusterError as error:
            log.info("the repository could not be looked at: %s", error)

    def _renew_if_due(self) -> None:
        try:
            due, end = self._outside.life()
            if dt.datetime.now(dt.UTC) >= due:
                log.info("the certificate ends at %s: renewing it", end)
                self._outside.renew()
        except MusterError as error:
            log.warning("the certificate could not be renewed: %s", error)

    def _soon(self, seconds: float) -> float:
        return time.monotonic() + seconds * self._chance.uniform(0.5, 1.5)

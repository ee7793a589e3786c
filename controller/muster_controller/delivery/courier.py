"""One thread per receiver that empties its part of the outbox, in order, until everything has arrived.

A courier holds nothing that matters: it can be killed anywhere. What it was sending then is sent again, with
the same id and the same bytes, but for the time of the try and the signature over it.
"""

import datetime as dt
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Engine

from muster_controller.config import Folder, WebhookSettings
from muster_controller.delivery.http_post import Answer, Place, post
from muster_controller.delivery.signature import load_keys, sign
from muster_controller.domain.alarms.notices import LONGEST_RETRY_SECONDS, backoff, cloud_event
from muster_controller.store import outbox
from muster_controller.store.engine import Reading, Unit
from muster_controller.store.outbox import Message, Outcome
from muster_models.errors import MusterError

POLL_SECONDS = 1.0
GONE = 410
SUCCESS = range(200, 300)
REDIRECTS = range(300, 400)
_log = logging.getLogger(__name__)


class Send(Protocol):
    """What makes one try: ``http_post.post``."""

    def __call__(self, place: Place, body: bytes, headers: Mapping[str, str], *, now: float) -> Answer:
        """Send a body and return the answer, whatever its status."""
        ...


class Courier:
    """Carries messages to one receiver."""

    def __init__(
        self,
        engine: Engine,
        folder: Folder,
        settings: WebhookSettings,
        *,
        source: str,
        clock: Callable[[], float],
        luck: Callable[[], float],
        send: Send = post,
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            folder: Where a relative path of a secret begins.
            source: Of the events: a URI that names this controller.
            clock: Unix seconds.
            luck: Returns a number between 0 and 1, for the jitter of retries.
            send: Makes one try.
        """
        self._engine = engine
        self._settings = settings
        self._secret = folder.root / settings.secret_file
        self._place = Place(settings.url, settings.timeout_seconds, settings.ca_file)
        self._source = source
        self._clock = clock
        self._luck = luck
        self._send = send
        self._wanted = threading.Event()
        self._is_stopping = False
        self.name = settings.name
        self._thread = threading.Thread(target=self._run, name=f"webhook {settings.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look now, because something was put into the outbox; for any thread."""
        self._wanted.set()

    def stop(self, seconds: float) -> None:
        """End; a try that takes longer than ``seconds`` to end is left, and made again at the next start."""
        self._is_stopping = True
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def deliver(self) -> bool:
        """Make at most one try; return whether another may be made at once."""
        now = self._clock()
        self._give_up_old(now)
        with Reading(self._engine) as session:
            message = outbox.head(session, self._settings.name)
        if message is None or message.retry_at > now:
            return False
        with Unit(self._engine) as session:
            # Written down first: what may have been sent is never changed or joined any more.
            if not outbox.begin(session, message.id):
                return True
        with Reading(self._engine) as session:
            content = outbox.content_of(session, message.id)
        answer, detail = self._try(message, self._body(message, content), now)
        self._settle(message, answer, detail)
        return answer is not None and answer.status in SUCCESS

    def _try(self, message: Message, body: bytes, now: float) -> tuple[Answer | None, str]:
        try:
            headers = sign(message.message, body, load_keys(self._secret), now)
            answer = self._send(self._place, body, headers, now=now)
        except MusterError as error:
            return None, str(error)
        if answer.status in REDIRECTS:
            return answer, f"status {answer.status}: redirects are not followed, name the new URL"
        return answer, f"status {answer.status}"

    def _settle(self, message: Message, answer: Answer | None, detail: str) -> None:
        name, url, now = self._settings.name, self._settings.url, self._clock()
        outcome = Outcome(None if answer is None else answer.status, detail)
        with Unit(self._engine) as session:
            if answer is not None and answer.status in SUCCESS:
                outbox.succeed(session, message.id, url, outcome, now)
            elif answer is not None and answer.status == GONE:
                lost = outbox.leave(session, message.id, url, outcome, now)
                _log.warning("webhook %s wants nothing any more (410); %d messages are given up", name, lost)
            else:
                tries = message.tries + 1
                wait = backoff(tries, self._luck())
                asked = 0.0 if answer is None else min(answer.retry_after, LONGEST_RETRY_SECONDS)
                retry_at = now + max(wait, asked)
                outbox.fail(session, message.id, url, outcome, retry_at=retry_at, now=now)
                _log.warning("webhook %s: try %d of %s failed: %s", name, tries, message.type, detail)

    def _give_up_old(self, now: float) -> None:
        name, url, older = self._settings.name, self._settings.url, now - self._settings.max_age_seconds
        with Reading(self._engine) as session:
            message = outbox.head(session, name)
        if message is None or message.created_at >= older:
            return
        why = f"not delivered within {self._settings.max_age_seconds:g} s"
        with Unit(self._engine) as session:
            lost = outbox.give_up(session, name, url, why, now=now, older=older)
        _log.warning("webhook %s: %d messages are given up: %s", name, lost, why)

    def _body(self, message: Message, content: dict[str, object]) -> bytes:
        at = dt.datetime.fromtimestamp(message.created_at, dt.UTC).isoformat()
        event = cloud_event(
            message.message,
            message.type,
            source=self._source,
            subject=message.subject,
            at=at,
            content=content,
        )
        return msgspec.json.encode(event)

    def _run(self) -> None:
        while not self._is_stopping:
            self._wanted.clear()
            try:
                is_more = self.deliver()
            except Exception:  # noqa: BLE001 - a full disk must not end the courier; the next step tries again
                _log.exception("webhook %s: this step failed", self._settings.name)
                is_more = False
            if not is_more and not self._is_stopping:
                self._wanted.wait(POLL_SECONDS)


def shown_url(url: str) -> str:
    """Return a URL for people: its path and query may hold a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/" + ("…" if parts.path.strip("/") or parts.query else "")

"""The device's side of MQTT: keeps a session, greets, sends what the outbox holds, takes what comes down.

What goes up is sent in order and again from the last watermark: after each connect, and when the watermark
does not move. Not here: what the outbox keeps (``outbox``), whether a desired state is genuine (``trust``).
"""

import logging
import math
import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from muster_agent.config import Broker
from muster_agent.measure.outbox import Outbox
from muster_agent.session import Answered, Arrived, Session
from muster_models import topics, wire
from muster_models.errors import MusterError, StorageError, TransferError
from muster_models.mqtt import GreetingRefusedError, Level

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How patient and how eager the link is; all in seconds but the last.

    Attributes:
        deadline: To connect, greet and subscribe.
        first_retry, last_retry: A lost session is tried again after a random time below a bound that
            doubles from the first to the last.
        resend: When the watermark does not move for this long although it should, sending starts again
            behind it. Doubles up to ten times itself.
        refused: The same where the broker said that it did not take a message, or that nobody is there to
            store it. Doubles up to ``resend``.
        hello: Between two greetings while the session stands, half of it to one and a half.
        in_flight: Messages that the broker has not answered.
    """

    deadline: float = 15.0
    first_retry: float = 1.0
    last_retry: float = 120.0
    resend: float = 30.0
    refused: float = 2.0
    hello: float = 21_600.0
    in_flight: int = 10


@dataclass
class _Flight:
    """Where sending stands within one session.

    Attributes:
        upto: The last sequence that was sent.
        oldest: The first that was sent and is not known to be stored.
        resend_at: When sending starts again at ``oldest``.
        patience, shorter: How long to wait for that, without and with a refusal of the broker.
        greeting: Ticket of the last hello.
    """

    patience: float
    shorter: float
    upto: int = 0
    oldest: int | None = None
    resend_at: float = math.inf
    unanswered: set[int] = field(default_factory=set)
    greeting: int = 0


class Link:
    """Keeps one session with the broker in a thread of its own, from ``start`` to ``stop``.

    Args:
        device: The device's id, which is also its certificate's name and its client id.
        broker: Where the broker is.
        context: Makes the TLS context of each connection, so that a renewed certificate is used at the next.
        outbox: What waits to go up.
        hello: Says who the device is and what it holds, at the moment of asking.
        on_desired: Takes each envelope that comes down; called in the link's thread.
        chance: Spreads the fleet, so that devices do not act in step.
    """

    def __init__(
        self,
        device: str,
        broker: Broker,
        *,
        context: Callable[[], ssl.SSLContext],
        outbox: Outbox,
        hello: Callable[[], wire.Hello],
        on_desired: Callable[[bytes], None],
        chance: random.Random,
        pace: Pace,
    ) -> None:
        self._device = device
        self._broker = broker
        self._context = context
        self._outbox = outbox
        self._hello = hello
        self._on_desired = on_desired
        self._chance = chance
        self._pace = pace
        self._level = Level.V5
        self._failures = 0
        self._flight = _Flight(pace.resend, pace.refused)
        self._next_hello = 0.0
        self._is_anew = False
        self._is_refused = False
        self._session: Session | None = None
        self._stop = threading.Event()
        self._online = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._trouble = ""
        self.refused = 0  # messages from the broker that were not understood

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the session and the thread."""
        self._stop.set()
        self.wake()
        if self._thread.ident is not None:
            self._thread.join()

    def wake(self) -> None:
        """Say that the outbox has something new; for any thread, cheap."""
        session = self._session
        if session is not None:
            session.wake()

    def greet(self) -> None:
        """Say hello soon, so that the controller answers with the newest desired state; for any thread."""
        self._next_hello = 0.0
        self.wake()

    def begin_again(self) -> None:
        """Say that the outbox numbers its messages anew; for any thread."""
        self._is_anew = True
        self.greet()

    @property
    def is_online(self) -> bool:
        """Whether a session stands."""
        return self._online.is_set()

    @property
    def trouble(self) -> str:
        """Why there is no session, as of the last attempt; empty while one stands, and before the first."""
        return "" if self.is_online else self._trouble

    def wait_online(self, seconds: float) -> bool:
        """Wait until a session stands; tell whether it does."""
        return self._online.wait(seconds)

    def _run(self) -> None:
        self._stop.wait(self._chance.uniform(0, self._pace.first_retry))
        while not self._stop.is_set():
            try:
                self._serve()
            except GreetingRefusedError as error:
                self._level = self._level.other
                self._failed(error)
            except MusterError as error:
                self._failed(error)
            except Exception as error:  # a fault of ours must not leave a device deaf for ever
                log.exception("the link failed")
                self._failed(TransferError(f"internal error: {error!r}"))

    def _failed(self, error: MusterError) -> None:
        bound = min(self._pace.last_retry, self._pace.first_retry * 2.0**self._failures)
        self._failures = min(self._failures + 1, 32)
        delay = self._chance.uniform(0, bound)
        self._trouble = str(error)
        log.warning("offline: %s; next attempt in %.1f s", error, delay)
        self._stop.wait(delay)

    def _serve(self) -> None:
        """Keep one session until it is lost or the link is stopped."""
        session = Session(
            self._broker,
            self._device,
            context=self._context(),
            level=self._level,
            deadline_seconds=self._pace.deadline,
        )
        try:
            session.open([topics.down(self._device, "desired"), topics.down(self._device, "stored")])
            log.info("online at %s:%d by MQTT %s", self._broker.host, self._broker.port, self._level.name)
            self._begin(session)
            while not self._stop.is_set():
                self._step(session)
        finally:
            self._online.clear()
            self._session = None
            session.close()

    def _begin(self, session: Session) -> None:
        self._flight = _Flight(self._pace.resend, self._pace.refused)
        self._next_hello = 0.0
        self._session = session
        self._online.set()

    def _step(self, session: Session) -> None:
        now = time.monotonic()
        if self._is_anew:
            self._is_anew = False
            self._flight = _Flight(self._pace.resend, self._pace.refused)
        if now >= self._next_hello:
            self._next_hello = now + self._pace.hello * self._chance.uniform(0.5, 1.5)
            self._flight.greeting = session.publish(
                topics.up(self._device, "hello"), wire.encode(self._hello())
            )
        if now >= self._flight.resend_at:
            self._send_again()
        self._send(session, now)
        for happening in session.poll(max(0.0, min(self._next_hello, self._flight.resend_at) - now)):
            match happening:
                case Arrived(topic, payload):
                    self._take(topic, payload)
                case Answered(ticket, refusal):
                    self._answered(ticket, refusal)

    def _send(self, session: Session, now: float) -> None:
        flight = self._flight
        room = self._pace.in_flight - len(flight.unanswered)
        if room <= 0:
            return
        for sequence, kind, payload in self._batch(flight.upto, room):
            flight.unanswered.add(session.publish(topics.up(self._device, kind), payload))
            flight.upto = sequence
            if flight.oldest is None:
                flight.oldest, flight.resend_at = sequence, now + flight.patience

    def _batch(self, after: int, limit: int) -> list[tuple[int, topics.Up, bytes]]:
        try:
            batch = self._outbox.batch(after, limit)
        except StorageError as error:
            # Nothing goes up without a number that is safe; but what comes down must still be heard.
            if not self._is_refused:
                log.warning("nothing can be sent: %s", error)
            self._is_refused = True
            return []
        self._is_refused = False
        return batch

    def _send_again(self) -> None:
        flight = self._flight
        log.info("not everything was stored: sending again from the watermark")
        flight.upto, flight.oldest, flight.resend_at = 0, None, math.inf
        flight.patience = min(flight.patience * 2, self._pace.resend * 10)
        flight.shorter = min(flight.shorter * 2, self._pace.resend)

    def _stored(self, message: wire.Stored) -> None:
        self._outbox.stored(message)
        flight = self._flight
        waiting = self._outbox.batch(0, 1)
        oldest = waiting[0][0] if waiting and waiting[0][0] <= flight.upto else None
        if oldest != flight.oldest:
            flight.oldest, flight.patience, flight.shorter = oldest, self._pace.resend, self._pace.refused
            flight.resend_at = math.inf if oldest is None else time.monotonic() + flight.patience

    def _answered(self, ticket: int, refusal: str) -> None:
        self._flight.unanswered.discard(ticket)
        # A session that carried a message both ways is a good one.
        self._failures = 0
        if refusal:
            log.debug("the broker did not take a message: %s", refusal)
            again = time.monotonic() + self._flight.shorter
            self._flight.resend_at = min(self._flight.resend_at, again)
            if ticket == self._flight.greeting:
                self._next_hello = min(self._next_hello, again)

    def _take(self, topic: str, payload: bytes) -> None:
        try:
            if topic == topics.down(self._device, "stored"):
                self._stored(wire.decode_stored(payload))
            elif topic == topics.down(self._device, "desired"):
                self._on_desired(payload)
            else:
                raise TransferError(f"unexpected topic {topic[:120]!r}")
        except MusterError as error:
            self.refused += 1
            log.warning("refused what came on %s: %s", topic.rpartition("/")[2][:20], error)

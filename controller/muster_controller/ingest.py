"""From MQTT to the database: gather messages, store a batch in one transaction, then acknowledge it.

The order is what makes it safe to kill: nothing is acknowledged, neither to the broker nor to a device, that
is not committed; and what is repeated because an acknowledgement was lost changes nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from muster_controller import intake
from muster_controller.store.baselines import Baselines
from muster_controller.store.engine import Unit
from muster_models import topics, wire

RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 5.0
_log = logging.getLogger(__name__)

Publish = Callable[[str, bytes], object]


@dataclass(frozen=True)
class Pace:
    """How messages are gathered into a transaction.

    Attributes:
        size: A batch that has so many messages is stored at once.
        seconds: A message waits no longer than this for others.
        room: Messages that wait for the database; the network is not read while there are so many.
    """

    size: int = 500
    seconds: float = 0.05
    room: int = 2_000


@dataclass(frozen=True)
class _Waiting:
    taken: intake.Taken
    done: Callable[[], None]


class Ingest:
    """Takes what devices send, on any thread, and stores it on its own."""

    def __init__(
        self,
        engine: Engine,
        baselines: Baselines,
        *,
        clock: Callable[[], float],
        publish: Publish,
        greeted: Callable[[], None],
        pace: Pace | None = None,
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            engine: The database.
            baselines: Of the released versions.
            clock: Unix seconds.
            publish: Sends a payload on a topic; a watermark that gets lost is told again.
            greeted: Called after devices said hello and a desired state may have to be sent.
            pace: How messages are gathered.
        """
        self._engine = engine
        self._baselines = baselines
        self._clock = clock
        self._publish = publish
        self._greeted = greeted
        self._pace = pace or Pace()
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    def start(self) -> None:
        """Begin to store what ``handle`` takes."""
        self._thread.start()

    def stop(self) -> None:
        """Store what waits, as far as the database lets, and end."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    def handle(self, topic: str, payload: bytes, done: Callable[[], None]) -> None:
        """Take one message; blocks while too many wait. ``done`` is called once it is committed."""
        waiting = _Waiting(intake.read(topic, payload), done)
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < self._pace.room or self._stopping.is_set())
            if self._stopping.is_set():
                return  # not acknowledged, so it comes again
            self._waiting.append(waiting)
            self._changed.notify_all()

    def _run(self) -> None:
        while batch := self._gather():
            self._process(batch)

    def _gather(self) -> list[_Waiting]:
        """Return the next batch; an empty one when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping.is_set())
            deadline = time.monotonic() + self._pace.seconds
            self._changed.wait_for(
                lambda: len(self._waiting) >= self._pace.size or self._stopping.is_set(),
                max(0.0, deadline - time.monotonic()),
            )
            batch, self._waiting = self._waiting[: self._pace.size], self._waiting[self._pace.size :]
            self._changed.notify_all()
            return batch

    def _process(self, batch: Sequence[_Waiting]) -> None:
        stored = self._store([waiting.taken for waiting in batch])
        if stored is None:
            return
        for waiting in batch:
            waiting.done()
        for (device, epoch), upto in stored.marks.items():
            self._publish(topics.down(device, "stored"), wire.encode(wire.Stored(epoch, upto)))
        if stored.greeted:
            self._greeted()

    def _store(self, taken: list[intake.Taken]) -> intake.Stored | None:
        """Return what was stored; None when the database refused until it was time to end."""
        delay = RETRY_SECONDS
        while True:
            try:
                return self._commit(taken)
            except OperationalError as error:  # locked, full, read-only: nothing is lost, it may get better
                _log.warning("the database refuses, %d messages wait: %s", len(taken), error.orig)
            except Exception:  # noqa: BLE001 - one message that we cannot handle must not stop the fleet
                if len(taken) == 1:
                    _log.exception("a message of %s cannot be stored", taken[0].device)
                    taken = [intake.as_refused(taken[0], "the controller could not store it")]
                else:
                    return self._store_singly(taken)
            if self._stopping.wait(delay):
                return None
            delay = min(2 * delay, MAX_RETRY_SECONDS)

    def _store_singly(self, taken: list[intake.Taken]) -> intake.Stored | None:
        """Store messages one by one, so that the one that fails does not hold up the others."""
        whole = intake.Stored()
        for one in taken:
            stored = self._store([one])
            if stored is None:
                return None
            whole = intake.Stored({**whole.marks, **stored.marks}, whole.greeted | stored.greeted)
        return whole

    def _commit(self, taken: Sequence[intake.Taken]) -> intake.Stored:
        with Unit(self._engine) as session:
            return intake.store(session, taken, baselines=self._baselines, now=self._clock())

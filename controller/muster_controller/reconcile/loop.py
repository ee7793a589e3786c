"""The loop that decides: load, judge, save, sign, send; again and again.

It holds nothing that matters in memory. Every step reads what it needs, stores what follows in one
transaction, and can be killed anywhere: the next pass finds the same, or finishes what was begun. A fault in
one model's step is logged and does not hold up the others.
"""

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec

from securesystemslib.signer import Signer
from sqlalchemy import Engine

from muster_controller.broker.config import Revoked
from muster_controller.config import Settings
from muster_controller.delivery.post import Post
from muster_controller.reconcile.advancing import Advancing
from muster_controller.reconcile.listening import Listening
from muster_controller.reconcile.sampling import end_samples
from muster_controller.reconcile.telling import DAY_SECONDS, Publish, Telling
from muster_controller.reconcile.training import Training
from muster_controller.reconcile.truth import Truth
from muster_controller.reconcile.watching import Watching
from muster_controller.store import certificates, enrolment, labels, outbox, windows
from muster_controller.store.baselines import Baselines
from muster_controller.store.device_facts import GroupBook
from muster_controller.store.engine import Reading, Unit

P = ParamSpec("P")
PRUNE_AT_ONCE = 5_000  # windows removed in one pass, so that no transaction is long
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outside:
    """What the loop acts upon besides the database.

    Attributes:
        publish: Sends a payload on a topic.
        refuse: Tells the broker which devices and certificates are revoked.
        renew: Signs the repository's metadata again where it is due.
        rehearse: Carries drills on, before rollouts are.
    """

    publish: Publish
    refuse: Callable[[Revoked], None]
    renew: Callable[[dt.datetime], object]
    rehearse: Callable[[float], object] = lambda _now: None


@dataclass(frozen=True)
class Pass:
    """The last pass of the loop.

    Attributes:
        at: Unix seconds.
        seconds: How long it took.
        faults: Steps that failed; the log says why.
    """

    at: float
    seconds: float
    faults: int


class Reconcile:
    """The loop, on a thread of its own between ``start`` and ``stop``."""

    def __init__(
        self,
        engine: Engine,
        baselines: Baselines,
        settings: Settings,
        *,
        director: Signer,
        outside: Outside,
        clock: Callable[[], float],
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            engine: The database.
            baselines: Of the released versions.
            settings: Of this controller.
            director: Signs desired states.
            outside: The broker and the repository.
            clock: Unix seconds.
        """
        self._engine = engine
        self._settings = settings
        self._outside = outside
        self._clock = clock
        groups = GroupBook(settings.drift.group_labels)
        self._watching = Watching(engine, baselines, settings, groups)
        self._truth = Truth(engine, settings, groups)
        self._advancing = Advancing(engine, baselines, settings)
        self._listening = Listening(engine, settings)
        self._training = Training(engine, settings)
        self._post = Post(settings)
        self._telling = Telling(
            engine, settings, director=director, publish=outside.publish, wake=self.send_soon
        )
        self._changed = threading.Condition()
        self._is_tick_wanted = self._is_send_wanted = self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)
        self._faults = 0
        self.last: Pass | None = None

    def start(self) -> None:
        """Begin with a pass at once."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the pass that is under way, and end."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Make the next pass now, because something was decided; for any thread."""
        with self._changed:
            self._is_tick_wanted = True
            self._changed.notify_all()

    def send_soon(self) -> None:
        """Send what waits to be sent, because a device asked for it; for any thread."""
        with self._changed:
            self._is_send_wanted = True
            self._changed.notify_all()

    def online(self) -> None:
        """Send again what was on its way, because the session with the broker is new; for any thread."""
        self._telling.forget()
        self.send_soon()

    def tick(self, now: float) -> None:
        """Make one pass."""
        began, self._faults = time.monotonic(), 0
        self._guard("drift", self._watch, now)
        self._guard("labels", self._compare, now)
        self._guard("drills", self._outside.rehearse, now)
        self._guard("rollouts", self._advance, now)
        self._guard("desired states", self._tell, now)
        self._guard("silence", self._listening.listen, now)
        self._guard("alarms", self._remind, now)
        self._guard("jobs", self._training.train, now)
        self._guard("samples", end_samples, self._engine, now)
        self._guard("housekeeping", self._keep_house, now)
        self.last = Pass(now, time.monotonic() - began, self._faults)

    def _watch(self, now: float) -> None:
        for model, baseline in self._watching.streams():
            self._guard(f"drift of {model}", self._watch_one, (model, baseline), now)

    def _watch_one(self, stream: tuple[str, str], now: float) -> None:
        if self._watching.watch(*stream, now):
            self.wake()

    def _compare(self, now: float) -> None:
        for digest in self._truth.versions():
            self._guard(f"labels of {digest[:12]}", self._compare_one, digest, now)

    def _compare_one(self, digest: str, now: float) -> None:
        if self._truth.watch(digest, now):
            self.wake()

    def _advance(self, now: float) -> None:
        for model in self._advancing.models():
            self._guard(f"rollouts of {model}", self._advancing.advance, model, now)

    def _tell(self, now: float) -> None:
        if self._telling.sign(now):
            self.wake()
        self._send(now)

    def _send(self, now: float) -> None:
        if self._telling.send(now):
            self.send_soon()

    def _remind(self, now: float) -> None:
        with Reading(self._engine) as session:
            if not self._post.has_to_remind(session, now):
                return
        with Unit(self._engine) as session:
            self._post.remind(session, now)

    def _keep_house(self, now: float) -> None:
        oldest = now - self._settings.window_days * DAY_SECONDS
        oldest_label = now - self._settings.labels.days * DAY_SECONDS
        with Reading(self._engine) as session:
            revoked = Revoked(enrolment.revoked(session), certificates.revoked(session, now))
            is_pruning = (
                windows.has_older(session, oldest)
                or outbox.has_to_prune(session, now)
                or labels.has_older(session, oldest_label)
            )
        self._outside.refuse(revoked)
        self._outside.renew(dt.datetime.fromtimestamp(now, dt.UTC))
        if is_pruning:
            with Unit(self._engine) as session:
                windows.prune(session, oldest, PRUNE_AT_ONCE)
                outbox.prune(session, now)
                labels.prune(session, oldest_label, PRUNE_AT_ONCE)

    def _guard(self, what: str, step: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            step(*args, **kwargs)
        except Exception:  # noqa: BLE001 - a fault in one step must not stop the fleet; the next pass tries again
            self._faults += 1
            _log.exception("%s: this step failed", what)

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(self._is_wanted, max(0.0, due - time.monotonic()))
                if self._is_stopping:
                    return
                is_tick = self._is_tick_wanted or time.monotonic() >= due
                self._is_send_wanted = False
                if is_tick:
                    self._is_tick_wanted = False
            if is_tick:
                due = time.monotonic() + self._settings.tick_seconds
                self.tick(self._clock())
            else:
                self._guard("sending", self._send, self._clock())

    def _is_wanted(self) -> bool:
        return self._is_tick_wanted or self._is_send_wanted or self._is_stopping

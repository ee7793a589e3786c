"""Events on their way into the outbox, which never drops one: so nobody may make a device write without end.

What happened to an update goes in at once. What a stranger can cause (messages that are refused) or a model
can repeat (a worker that dies and is started again) goes in once per kind and minute, with its count. What a
disk that refuses lost of the measurements is counted, and told when it takes something again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from muster_agent.measure.outbox import Outbox
from muster_agent.update.steps import EventKind
from muster_models.errors import MusterError, Reason, StorageError
from muster_models.trust.verified import VerifiedManifest

log = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
_EXPECTED = frozenset({"installed", "activated", "committed"})  # kinds that are no warning
BACKLOG = 100  # events that a full disk keeps waiting in memory
DETAIL_LENGTH = 600


@dataclass(frozen=True)
class Notice:
    """One event to be sent."""

    kind: EventKind
    model: str = ""
    manifest: str = ""
    reason: Reason | None = None
    detail: str = ""


class Notices:
    """Puts events into the outbox. Thread safe.

    Args:
        outbox: Where they go.
        wake: Called after each, so that it is sent.
        clock: Monotonic seconds.
    """

    def __init__(self, outbox: Outbox, *, wake: Callable[[], None], clock: Callable[[], float]) -> None:
        self._outbox = outbox
        self._wake = wake
        self._clock = clock
        self._lock = threading.Lock()
        self._backlog: deque[Notice] = deque(maxlen=BACKLOG)
        self._quiet: dict[tuple[str, str, Reason | None], tuple[float, int]] = {}
        self._lost: dict[tuple[str, str, Reason], tuple[int, int]] = {}
        self._is_waiting = False

    def tell(self, notice: Notice) -> None:
        """Send an event, and log it; one that the disk refuses is kept in memory until ``retry``."""
        _log_event(notice)
        with self._lock:
            self._backlog.append(replace(notice, detail=notice.detail[:DETAIL_LENGTH]))
        self.retry()

    def tell_rarely(self, notice: Notice) -> None:
        """Send an event, or count it if one of its kind, model and reason was sent within the last minute."""
        key, now = (notice.kind, notice.model, notice.reason), self._clock()
        with self._lock:
            since, more = self._quiet.get(key, (-QUIET_SECONDS, 0))
            if now - since < QUIET_SECONDS:
                self._quiet[key] = (since, more + 1)
                return
            self._quiet[key] = (now, 0)
        before = f" ({more} more since the last one)" if more else ""
        self.tell(replace(notice, detail=notice.detail[: DETAIL_LENGTH - len(before)] + before))

    def tell_failed_patch(self, verified: VerifiedManifest, error: MusterError) -> None:
        """Send that a file is fetched whole because its patch failed, as seldom as ``tell_rarely``."""
        detail = f"a patch failed, the file is fetched whole: {error}"
        self.tell_rarely(Notice("refused", verified.manifest.model, verified.digest, error.reason, detail))

    def lose(self, model: str, manifest: str, *, calls: int, reason: Reason) -> None:
        """Count a window that the disk refused; how much was lost is told once that is possible."""
        with self._lock:
            windows, before = self._lost.get((model, manifest, reason), (0, 0))
            self._lost[model, manifest, reason] = (windows + 1, before + calls)

    def retry(self) -> None:
        """Send what waits in memory."""
        with self._lock:
            if not self._backlog and not self._lost:
                return
            try:
                self._tell_lost()
                while self._backlog:
                    self._add(self._backlog[0])
                    self._backlog.popleft()
            except StorageError as error:
                if not self._is_waiting:  # said once, not at every tick: the log may be on the same disk
                    log.warning("events wait for the disk: %s", error)
                self._is_waiting = True
                return
            self._is_waiting = False
        self._wake()

    def _tell_lost(self) -> None:
        for (model, manifest, reason), (windows, calls) in tuple(self._lost.items()):
            detail = f"windows that the disk refused: {windows}, with {calls} calls"
            self._add(Notice("dropped", model, manifest, reason, detail))
            del self._lost[model, manifest, reason]

    def _add(self, notice: Notice) -> None:
        self._outbox.add_event(
            notice.kind,
            model=notice.model,
            manifest=notice.manifest,
            reason=notice.reason,
            detail=notice.detail,
        )


def _log_event(notice: Notice) -> None:
    """Say on the device what the controller is told: a log is what people read who stand before it."""
    level = logging.INFO if notice.kind in _EXPECTED else logging.WARNING
    what = " ".join(
        word for word in (notice.model, f"version {notice.manifest[:12]}" * bool(notice.manifest)) if word
    )
    why = ": ".join(word for word in (notice.reason and str(notice.reason), notice.detail) if word)
    log.log(level, "%s%s%s", notice.kind, f" {what}" if what else "", f": {why}" if why else "")

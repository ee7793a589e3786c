"""The outbox of a simulated device: the real one, a power cut at any transaction, and a witness to it."""

from collections.abc import Callable

from muster_agent.measure.outbox import Outbox, WindowPart
from muster_agent.update.steps import EventKind
from muster_models.errors import Reason
from muster_models.topics import Up
from muster_models.wire import Health, ModelReport, OutboxStatus, Stored
from simulation.invariants import Witness
from support.disk import PowerCut


class Mailbox(Outbox):
    """Stands before an outbox.

    SQLite keeps a transaction whole or not at all, so a cut falls before it or after it; both are drawn here.

    Args:
        inner: The real outbox.
        is_cut: Tells, before and after every transaction, whether the power goes now.
    """

    def __init__(self, inner: Outbox, device: str, *, witness: Witness, is_cut: Callable[[], bool]) -> None:
        self._inner = inner
        self._device = device
        self._witness = witness
        self._is_cut = is_cut

    def add_report(self, models: tuple[ModelReport, ...], health: Health | None = None) -> None:
        """Add a report."""
        self._may_cut()
        self._inner.add_report(models, health)
        self._may_cut()

    def add_window(self, part: WindowPart) -> None:
        """Add a window."""
        self._may_cut()
        self._inner.add_window(part)
        self._witness.window_added(self._device, part)
        self._may_cut()

    def add_event(
        self,
        kind: EventKind,
        *,
        model: str = "",
        manifest: str = "",
        reason: Reason | None = None,
        detail: str = "",
    ) -> None:
        """Add an event."""
        self._may_cut()
        self._inner.add_event(kind, model=model, manifest=manifest, reason=reason, detail=detail)
        self._witness.event_added(self._device, kind, manifest, detail)
        self._may_cut()

    def batch(self, after: int, limit: int) -> list[tuple[int, Up, bytes]]:
        """Return messages to send."""
        self._may_cut()
        messages = self._inner.batch(after, limit)
        for _, _, payload in messages:
            self._witness.sent(payload)
        self._may_cut()
        return messages

    def stored(self, watermark: Stored) -> None:
        """Forget what is stored."""
        self._may_cut()
        before = self._inner.status()
        self._inner.stored(watermark)
        if watermark.epoch == before.epoch and watermark.upto <= before.last:
            self._witness.acknowledged(self._device, watermark)
        self._may_cut()

    def status(self) -> OutboxStatus:
        """Return how full it is."""
        return self._inner.status()

    def close(self) -> None:
        """Close it; what was not committed is gone."""
        self._inner.close()

    def _may_cut(self) -> None:
        if self._is_cut():
            raise PowerCut

"""Rows for operators: only on a signed order, only where the device's settings allow it, never above the cap.

Calls are copied in the application's thread, up to what the order still may have; the loop encodes them and
puts them into the outbox, which holds the cap across restarts. What is copied and not yet there when the
agent ends is forgotten. Nothing is sampled while messages wait in memory alone: no cap would survive that.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from muster_agent.config import Privacy
from muster_agent.measure.outbox import Outbox, Place
from muster_agent.measure.sampled_rows import Encoded, Rows, encoded, rows_of, together
from muster_agent.runner.shadow import OnCall
from muster_models.errors import PredictionError, Reason, StorageError
from muster_models.wire import Sample, SampleOrder

Array = NDArray[np.generic]
MAX_HELD_BYTES = 1024 * 1024  # of copied rows between two ticks; what is beyond is not sampled
_NOT_ALLOWED = "agent.toml does not say samples = true in [privacy]"
_log = logging.getLogger(__name__)


@dataclass
class _Open:
    """An order that is being followed.

    Attributes:
        left: Rows that may still be copied.
    """

    order: SampleOrder
    left: int
    held: list[Rows] = field(default_factory=list)
    size: int = 0


class Sampling:
    """Follows orders to hand out rows. ``beside`` is for any thread; the rest is for the loop's.

    Args:
        privacy: What the device allows.
        outbox: Returns where rows go.
        device: Its id.
        wake: Called when something was added.
        clock: Unix seconds; never before what was seen signed.
    """

    def __init__(
        self,
        privacy: Privacy,
        outbox: Callable[[], Outbox],
        *,
        device: str,
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._privacy = privacy
        self._outbox = outbox
        self._device = device
        self._wake = wake
        self._clock = clock
        self._lock = threading.Lock()
        self._orders: tuple[SampleOrder, ...] = ()
        self._held: tuple[SampleOrder, ...] | None = None  # those that ``_open`` was made for
        self._open: dict[str, list[_Open]] = {}  # by model

    def follow(self, orders: Sequence[SampleOrder]) -> None:
        """Follow these orders and no others, from the next ``work`` on."""
        if tuple(orders) != self._orders:
            self._orders, self._held = tuple(orders), None
        ids = {order.id for order in orders}
        with self._lock:  # what is withdrawn ends at once
            self._open = _only(self._open, lambda order: order.id in ids)

    def beside(self, on_call: OnCall) -> OnCall:
        """Return what tells ``on_call`` about every call, and copies rows of those that an order asks for."""

        def told(  # noqa: PLR0917 - as the runner calls it
            model: str,
            digest: str,
            inputs: Mapping[str, Array],
            outputs: dict[str, Array] | None,
            seconds: float,
            error: PredictionError | None,
        ) -> None:
            on_call(model, digest, inputs, outputs, seconds, error)
            if outputs is not None and model in self._open:
                self._take(model, digest, inputs, outputs)

        return told

    def work(self) -> None:
        """Put what was copied into the outbox, and let orders end; what the disk refuses is forgotten."""
        outbox = self._outbox()
        if outbox.place is Place.MEMORY or (not self._orders and self._held == ()):
            return
        try:
            self._settle(outbox)
            self._hand_out(outbox)
        except StorageError as error:
            if self._held is not None:  # said once, not at every tick
                _log.warning("samples wait for the disk: %s", error)
            with self._lock:  # begun anew from the counts on the disk
                self._open, self._held = {}, None

    def _take(
        self, model: str, digest: str, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        now = self._clock()
        with self._lock:
            for one in self._open.get(model, ()):
                if one.left > 0 and one.size < MAX_HELD_BYTES and now < one.order.expires:
                    _copy(one, digest, inputs, outputs)
                    return

    def _settle(self, outbox: Outbox) -> None:
        """Open the orders that hold now, say which are not allowed, and forget the others."""
        now = self._clock()
        orders = tuple(order for order in self._orders if now < order.expires)
        if orders == self._held:
            return
        outbox.keep_samples([order.id for order in orders])
        if self._privacy.samples:
            counts = {order.id: outbox.sampled(order.id) for order in orders}
            self._begin(orders, counts)
        else:
            for order in orders:
                refusal = Encoded("", 0, reason=Reason.NOT_ALLOWED, detail=_NOT_ALLOWED)
                self._add(outbox, order, refusal)
        self._held = orders

    def _begin(self, orders: Sequence[SampleOrder], counts: Mapping[int, int]) -> None:
        with self._lock:
            known = {one.order.id: one for several in self._open.values() for one in several}
            opened: dict[str, list[_Open]] = {}
            for order in orders:
                one = known.get(order.id) or _Open(order, order.rows - counts[order.id])
                opened.setdefault(order.model, []).append(one)
            self._open = opened

    def _hand_out(self, outbox: Outbox) -> None:
        with self._lock:
            ready = [one for several in self._open.values() for one in several if one.held]
            taken = [(one.order, one.held) for one in ready]
            for one in ready:
                one.held, one.size = [], 0
        for order, held in taken:
            for rows in together(held):
                for part in encoded(rows):
                    self._add(outbox, order, part)

    def _add(self, outbox: Outbox, order: SampleOrder, part: Encoded) -> None:
        sample = Sample(
            self._device,
            0,
            0,
            max(0.0, self._clock()),
            order.id,
            order.model,
            manifest=part.digest,
            rows=part.count,
            inputs=part.inputs,
            outputs=part.outputs,
            reason=part.reason,
            detail=part.detail,
        )
        if outbox.add_sample(sample, most=order.rows):
            self._wake()


def _copy(one: _Open, digest: str, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    try:
        rows = rows_of(digest, inputs, outputs, most=one.left)
    except (AttributeError, TypeError):  # no arrays: the call was answered, and that is what matters
        return
    if rows is not None:
        one.held.append(rows)
        one.left -= rows.count
        one.size += rows.size


def _only(opened: Mapping[str, list[_Open]], keep: Callable[[SampleOrder], bool]) -> dict[str, list[_Open]]:
    kept = {model: [one for one in several if keep(one.order)] for model, several in opened.items()}
    return {model: several for model, several in kept.items() if several}

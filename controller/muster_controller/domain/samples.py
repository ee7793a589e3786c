"""Orders for rows: what may be ordered, for how long, and which rows are taken for one."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import MessageError, Reason, RequestError
from muster_models.tensors import decode_tensors
from muster_models.wire import MAX_SAMPLE_ROWS, Sample, SampleOrder

Array = NDArray[np.generic]
MAX_SECONDS = 30 * 86_400.0
MAX_DEVICES = 100
MAX_ORDER_BYTES = 64 * 1024 * 1024  # of all its rows together
MAX_REASON = 400


@dataclass(frozen=True)
class Order:
    """An order for rows of a model.

    Attributes:
        where: The selector that chose the devices when it was given.
        rows: The most that each device hands out.
        since, until: Unix seconds; at ``until`` its rows are deleted.
        ended: When they were; None while they may be there.
    """

    id: int
    model: str
    where: str
    rows: int
    reason: str
    actor: str
    since: float
    until: float
    ended: float | None = None

    def is_open(self, now: float) -> bool:
        """Tell whether rows are still taken for it."""
        return self.ended is None and now < self.until

    def told(self) -> SampleOrder:
        """Return it as devices are told."""
        return SampleOrder(self.id, self.model, self.rows, self.until)


@dataclass(frozen=True)
class Held:
    """What came for an order: rows of one device, bytes of all."""

    rows: int
    bytes: int


def check_terms(*, rows: int, seconds: float, reason: str) -> None:
    """Refuse an order without a reason, a cap or an end that are as they must be.

    Raises:
        RequestError: As above.
    """
    if not 0 < len(reason.strip()) <= MAX_REASON:
        raise RequestError(f"an order for rows needs a reason of at most {MAX_REASON} characters")
    if not 1 <= rows <= MAX_SAMPLE_ROWS:
        raise RequestError(f"expected 1 to {MAX_SAMPLE_ROWS} rows of each device, got {rows}")
    if not 0 < seconds <= MAX_SECONDS:
        raise RequestError(
            f"an order for rows ends after now and within {MAX_SECONDS / 86_400:.0f} days, "
            f"got {seconds:.0f} seconds from now"
        )


def check_devices(count: int) -> None:
    """Refuse an order that names no device, or too many.

    Raises:
        RequestError: As above.
    """
    if not 1 <= count <= MAX_DEVICES:
        raise RequestError(f"an order for rows names 1 to {MAX_DEVICES} devices, got {count}")


def check_sample(sample: Sample, order: Order, held: Held, *, now: float) -> None:
    """Refuse rows that were not ordered so.

    Raises:
        MessageError: The order is over, is about another model or has had its rows, or the form is wrong.
    """
    if not order.is_open(now):
        raise MessageError(f"order {order.id} for rows is over", Reason.EXPIRED)
    if sample.model != order.model:
        raise MessageError(f"order {order.id} is for rows of {order.model}, got {sample.model}")
    if sample.reason is not None:
        return
    size = len(sample.inputs) + len(sample.outputs)
    if held.rows + sample.rows > order.rows or held.bytes + size > MAX_ORDER_BYTES:
        raise MessageError(
            f"order {order.id} has at most {order.rows} rows of a device and {MAX_ORDER_BYTES} bytes",
            Reason.TOO_LARGE,
        )
    tensors = [*decode_tensors(sample.inputs).values(), *decode_tensors(sample.outputs).values()]
    if sample.rows < 1 or any(tensor.shape[:1] != (sample.rows,) for tensor in tensors):
        raise MessageError(f"expected tensors of {sample.rows} rows, at least one")


def shown(tensors: Mapping[str, Array]) -> dict[str, list[object]]:
    """Return tensors as nested lists, one entry for each row; None stands for what JSON has no number for."""
    return {name: [_plain(row) for row in tensor.tolist()] for name, tensor in tensors.items()}


def _plain(value: object) -> object:
    match value:
        case list():
            return [_plain(one) for one in value]
        case float() if not np.isfinite(value):
            return None
        case _:
            return value

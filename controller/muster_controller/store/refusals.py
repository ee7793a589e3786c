"""What ingest refused: counted per device and reason. The bytes are not kept."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlmodel import Session

from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import Refusal
from muster_models.errors import Reason

DETAIL_LENGTH = 300


@dataclass(frozen=True)
class Refused:
    """One refused message.

    Attributes:
        device: Empty when the topic named none.
    """

    device: str
    reason: Reason
    detail: str


def count(session: Session, refused: Iterable[Refused], now: float) -> None:
    """Count refused messages."""
    counted: dict[tuple[str, str], tuple[int, Refused]] = {}
    for one in refused:
        before, _ = counted.get((one.device, one.reason.value), (0, one))
        counted[one.device, one.reason.value] = before + 1, one
    for (device, reason), (times, last) in counted.items():
        row = session.get(Refusal, (device, reason)) or Refusal(
            device=device, reason=reason, count=0, last_at=0
        )
        row.count += times
        row.last_at = milliseconds(now)
        row.last_detail = last.detail[:DETAIL_LENGTH]
        session.add(row)
        session.flush()

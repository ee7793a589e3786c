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
    for one in refused:
        row = session.get(Refusal, (one.device, one.reason.value)) or Refusal(
            device=one.device, reason=one.reason.value, count=0, last_at=0
        )
        row.count += 1
        row.last_at = milliseconds(now)
        row.last_detail = one.detail[:DETAIL_LENGTH]
        session.add(row)
        session.flush()

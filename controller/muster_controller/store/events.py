"""Events: what happened once, on a device or (``device`` empty) at the controller itself."""

from sqlmodel import Session

from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import EventRecord
from muster_models.errors import Reason
from muster_models.wire import Event


def add(session: Session, event: Event) -> None:
    """Store an event of a device; that it is new is for ``store.inbox`` to say."""
    session.add(
        EventRecord(
            device=event.device,
            at=milliseconds(event.at),
            kind=event.kind,
            model=event.model,
            digest=event.manifest,
            reason=event.reason,
            detail=event.detail,
        )
    )


def note(
    session: Session,
    kind: str,
    *,
    now: float,
    model: str = "",
    digest: str = "",
    reason: Reason | None = None,
    detail: str = "",
) -> None:
    """Store something that happened at the controller."""
    session.add(
        EventRecord(
            device="",
            at=milliseconds(now),
            kind=kind,
            model=model,
            digest=digest,
            reason=reason,
            detail=detail,
        )
    )

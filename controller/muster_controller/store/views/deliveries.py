"""Messages to receivers of webhooks, newest first."""

import datetime as dt
from dataclasses import dataclass

from sqlmodel import Session, select

from muster_controller.store.alarm_tables import Delivery
from muster_controller.store.views.instants import instant
from muster_controller.store.views.paging import Page, cut, newest_first


@dataclass(frozen=True)
class DeliveryView:
    """One message.

    Attributes:
        message: Its id for the receiver, the same at each try.
        state: ``waiting``, ``delivered`` or ``given-up``.
        items: How many things it tells of.
        next_at: When it may be tried; None once it is over.
        status, detail: Of the last try; ``status`` is None when nobody answered.
    """

    id: int
    webhook: str
    message: str
    type: str
    subject: str
    state: str
    items: int
    tries: int
    status: int | None
    detail: str
    created_at: dt.datetime
    next_at: dt.datetime | None
    ended_at: dt.datetime | None


def list_deliveries(
    session: Session, *, webhook: str | None, state: str | None, limit: int, cursor: str | None
) -> Page[DeliveryView]:
    """Return messages, newest first."""
    equal = ((Delivery.webhook, webhook), (Delivery.state, state))
    query = newest_first(select(Delivery), Delivery.id, equal=equal, limit=limit, cursor=cursor)
    return cut(session.exec(query).all(), limit, view=_view, key=_key)


def find_delivery(session: Session, number: int) -> DeliveryView | None:
    """Return one message, None when there is none with that number."""
    row = session.get(Delivery, number)
    return None if row is None else _view(row)


def _view(row: Delivery) -> DeliveryView:
    return DeliveryView(
        id=_key(row),
        webhook=row.webhook,
        message=row.message,
        type=row.type,
        subject=row.subject,
        state=row.state,
        items=len(row.content.get("items", ())) + int(row.content.get("omitted", 0)),
        tries=row.tries,
        status=row.status,
        detail=row.detail,
        created_at=instant(row.created_at),
        next_at=instant(row.retry_at) if row.ended_at is None else None,
        ended_at=instant(row.ended_at),
    )


def _key(row: Delivery) -> int:
    assert row.id is not None
    return row.id

"""The outbox of webhooks: messages are stored with the change that they tell of, and kept until they arrive.

One receiver hears in the order of ``due_at``. A try is written down before it is made: a controller that is
killed in between tries again, with the same id. What is given up is counted for ever.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import bindparam, delete, func
from sqlmodel import Session, col, select

from muster_controller.domain.alarms.notices import Told
from muster_controller.store.alarm_tables import Delivery, ReceiverRecord
from muster_controller.store.engine import ask, table
from muster_controller.store.instants import milliseconds, seconds

WAITING, DELIVERED, GIVEN_UP = "waiting", "delivered", "given-up"
KEPT_SECONDS = 7 * 86_400.0  # for people to look at, once it has arrived or was given up
PRUNE_AT_ONCE = 1000
_COLUMNS = table(Delivery).c
_OLD = sqlalchemy.select(_COLUMNS.id).where(_COLUMNS.ended_at < bindparam("before")).limit(1)


@dataclass(frozen=True)
class Message:
    """A message that waits.

    Attributes:
        message: Its id for the receiver.
        created_at, retry_at: Unix seconds; it may not be sent before ``retry_at``.
        tries: That were begun.
    """

    id: int
    message: str
    type: str
    subject: str
    content: Mapping[str, Any]
    created_at: float
    retry_at: float
    tries: int


@dataclass(frozen=True)
class Outcome:
    """How a try ended: ``status`` is None when nobody answered."""

    status: int | None
    detail: str


def add(
    session: Session,
    webhook: str,
    message: str,
    *,
    notice_type: str,
    subject: str,
    group: str,
    content: Mapping[str, Any],
    due: float,
    now: float,
) -> int:
    """Store a new message that may be sent from ``due`` on, and return its number."""
    row = Delivery(
        webhook=webhook,
        message=message,
        type=notice_type,
        subject=subject,
        cluster=group,
        content=dict(content),
        state=WAITING,
        created_at=milliseconds(now),
        due_at=milliseconds(due),
        retry_at=milliseconds(due),
    )
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id


def told(session: Session, webhook: str, group: str, since: float) -> list[Told]:
    """Return the newest message of each type of a group that is due after ``since`` or still waits."""
    query = select(Delivery).where(
        Delivery.webhook == webhook,
        Delivery.cluster == group,
        (col(Delivery.due_at) >= milliseconds(since)) | (col(Delivery.state) == WAITING),
    )
    newest: dict[str, Told] = {}
    for row in session.exec(query.order_by(col(Delivery.id))):
        assert row.id is not None
        is_open = row.state == WAITING and row.tries == 0
        newest[row.type] = Told(row.id, row.type, seconds(row.due_at), is_open)
    return list(newest.values())


def content_of(session: Session, number: int) -> dict[str, Any]:
    """Return the content of a message."""
    return session.get_one(Delivery, number).content


def replace(session: Session, number: int, content: Mapping[str, Any]) -> None:
    """Change the content of a message that nobody has tried to send."""
    row = session.get_one(Delivery, number)
    row.content = dict(content)
    session.add(row)
    session.flush()


def receiver(session: Session, webhook: str, url: str) -> ReceiverRecord:
    """Return the record of a receiver; one that moved to another URL is no longer gone."""
    row = session.get(ReceiverRecord, webhook) or ReceiverRecord(webhook=webhook, url=url)
    if row.url != url:
        row.url, row.gone_at = url, None
    session.add(row)
    session.flush()
    return row


def is_gone(session: Session, webhook: str, url: str) -> bool:
    """Tell whether a receiver said that it wants nothing any more, at this URL."""
    row = session.get(ReceiverRecord, webhook)
    return row is not None and row.gone_at is not None and row.url == url


def come_back(session: Session, webhook: str, url: str) -> None:
    """Try a receiver again that said that it wants nothing any more."""
    receiver(session, webhook, url).gone_at = None


def head(session: Session, webhook: str) -> Message | None:
    """Return the message that is next in the order of a receiver."""
    query = (
        select(Delivery)
        .where(Delivery.webhook == webhook, Delivery.state == WAITING)
        .order_by(col(Delivery.due_at), col(Delivery.id))
    )
    row = session.exec(query.limit(1)).first()
    return None if row is None else _message(row)


def begin(session: Session, number: int) -> bool:
    """Write down that a message is about to be sent; False when it waits no longer."""
    row = session.get(Delivery, number)
    if row is None or row.state != WAITING:
        return False
    row.tries += 1
    session.add(row)
    return True


def succeed(session: Session, number: int, url: str, outcome: Outcome, now: float) -> None:
    """Note that a message has arrived."""
    row = session.get_one(Delivery, number)
    held = receiver(session, row.webhook, url)
    if row.state == WAITING:
        held.delivered += 1
    row.state, row.ended_at = DELIVERED, milliseconds(now)
    _note(session, row, held, outcome, now)


def fail(session: Session, number: int, url: str, outcome: Outcome, *, retry_at: float, now: float) -> None:
    """Note that a try failed and when the next one may be."""
    row = session.get_one(Delivery, number)
    row.retry_at = milliseconds(retry_at)
    _note(session, row, receiver(session, row.webhook, url), outcome, now)


def leave(session: Session, number: int, url: str, outcome: Outcome, now: float) -> int:
    """Note that a receiver wants nothing any more; return how many messages were given up by that."""
    row = session.get_one(Delivery, number)
    held = receiver(session, row.webhook, url)
    held.gone_at = milliseconds(now)
    _note(session, row, held, outcome, now)
    return give_up(session, row.webhook, url, "the receiver wants nothing any more", now=now)


def give_up(
    session: Session,
    webhook: str,
    url: str,
    why: str,
    *,
    now: float,
    older: float | None = None,
    beyond: int | None = None,
) -> int:
    """Give messages up that wait, and return how many.

    Args:
        older: Only those that were stored before this instant.
        beyond: Only the oldest, until so many are left.
    """
    query = (
        select(Delivery)
        .where(Delivery.webhook == webhook, Delivery.state == WAITING)
        .order_by(col(Delivery.due_at), col(Delivery.id))
    )
    if older is not None:
        query = query.where(col(Delivery.created_at) < milliseconds(older))
    if beyond is not None:
        excess = count_waiting(session, webhook) - beyond
        if excess <= 0:
            return 0
        query = query.limit(excess)
    rows = session.exec(query).all()
    for row in rows:
        row.state, row.ended_at, row.detail = GIVEN_UP, milliseconds(now), why
        session.add(row)
    if rows:
        receiver(session, webhook, url).given_up += len(rows)
    session.flush()
    return len(rows)


def count_refused(session: Session, webhook: str, url: str) -> None:
    """Count a message that is not even stored, because its receiver wants nothing any more."""
    receiver(session, webhook, url).given_up += 1
    session.flush()


def count_waiting(session: Session, webhook: str) -> int:
    """Return how many messages wait for one receiver."""
    query = select(func.count()).where(Delivery.webhook == webhook, Delivery.state == WAITING)
    return session.exec(query).one()


def abandon(session: Session, webhooks: Iterable[str], now: float) -> None:
    """Give up what waits for receivers that are not configured any more."""
    query = select(Delivery.webhook).where(Delivery.state == WAITING).distinct()
    for webhook in set(session.exec(query)) - set(webhooks):
        row = session.get(ReceiverRecord, webhook)
        give_up(session, webhook, "" if row is None else row.url, "no such webhook is configured", now=now)


def has_to_prune(session: Session, now: float) -> bool:
    """Tell whether something ended long ago."""
    return ask(session, _OLD, before=milliseconds(now - KEPT_SECONDS)).first() is not None


def prune(session: Session, now: float) -> None:
    """Forget messages that ended long ago, some at once; the receiver's counts stay."""
    query = select(Delivery.id).where(col(Delivery.ended_at) < milliseconds(now - KEPT_SECONDS))
    old = session.exec(query.limit(PRUNE_AT_ONCE)).all()
    session.execute(delete(Delivery).where(col(Delivery.id).in_(old)))


def _note(session: Session, row: Delivery, held: ReceiverRecord, outcome: Outcome, now: float) -> None:
    row.status, row.detail = outcome.status, outcome.detail
    held.last_at, held.status, held.detail = milliseconds(now), outcome.status, outcome.detail
    session.add(row)
    session.add(held)
    session.flush()


def _message(row: Delivery) -> Message:
    assert row.id is not None
    return Message(
        id=row.id,
        message=row.message,
        type=row.type,
        subject=row.subject,
        content=row.content,
        created_at=seconds(row.created_at),
        retry_at=seconds(row.retry_at),
        tries=row.tries,
    )

"""Tokens that are out, without their secrets: which there are, and the end of one."""

import datetime as dt
from dataclasses import dataclass

from sqlmodel import Session, col, select

from muster_controller.store.bulk_tokens import short
from muster_controller.store.instants import milliseconds
from muster_controller.store.tables import BulkToken, EnrolmentToken
from muster_controller.store.views.instants import instant
from muster_models.errors import NotFoundError


@dataclass(frozen=True)
class TokenSummary:
    """A token that may still be used.

    Attributes:
        id: Names it; tells nothing of its secret.
        subject: The device, or the prefix of ids and a star.
        count, used: How many devices it admits, and has admitted.
        again: It is for a device that lost its identity.
    """

    id: str
    subject: str
    labels: dict[str, str]
    count: int
    used: int
    again: bool
    created_at: dt.datetime
    expires_at: dt.datetime


def list_live(session: Session, now: float) -> tuple[TokenSummary, ...]:
    """Return the tokens that may still be used, newest first."""
    found = [_summary(row) for row in _live(session, now)]
    return tuple(sorted(found, key=lambda token: (token.created_at, token.id), reverse=True))


def revoke(session: Session, token: str, now: float) -> TokenSummary:
    """Let nobody in any more by a token.

    Raises:
        NotFoundError: No token that may still be used has this id.
    """
    row = next((row for row in _live(session, now) if short(row.digest) == token), None)
    if row is None:
        raise NotFoundError(f"no token {token[:20]!r} that may still be used")
    row.revoked_at = milliseconds(now)
    session.add(row)
    return _summary(row)


def _live(session: Session, now: float) -> list[EnrolmentToken | BulkToken]:
    single = select(EnrolmentToken).where(
        col(EnrolmentToken.used_at).is_(None),
        col(EnrolmentToken.revoked_at).is_(None),
        col(EnrolmentToken.expires_at) > milliseconds(now),
    )
    bulk = select(BulkToken).where(
        col(BulkToken.used) < col(BulkToken.count),
        col(BulkToken.revoked_at).is_(None),
        col(BulkToken.expires_at) > milliseconds(now),
    )
    return [*session.exec(single), *session.exec(bulk)]


def _summary(row: EnrolmentToken | BulkToken) -> TokenSummary:
    return TokenSummary(
        id=short(row.digest),
        subject=f"{row.prefix}*" if isinstance(row, BulkToken) else row.device,
        labels=dict(row.labels),
        count=row.count if isinstance(row, BulkToken) else 1,
        used=row.used if isinstance(row, BulkToken) else 0,
        again=isinstance(row, EnrolmentToken) and row.again,
        created_at=instant(row.created_at),
        expires_at=instant(row.expires_at),
    )

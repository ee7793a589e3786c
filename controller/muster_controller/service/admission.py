"""Whom an operator lets in: tokens for several devices, every token that is out, machines that ask."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from muster_controller.service.context import Context, Deed, record
from muster_controller.service.devices import check_labels, check_lifetime
from muster_controller.store import bulk_tokens, enrolment, requests
from muster_controller.store.tables import EnrolmentRequest
from muster_controller.store.views import tokens
from muster_controller.store.views.instants import instant
from muster_controller.store.views.tokens import TokenSummary
from muster_models.keycode import normalise


@dataclass(frozen=True)
class BulkTokenView:
    """A new token for several devices; its text is shown this once.

    Attributes:
        url: Where devices enrol with it.
    """

    prefix: str
    count: int
    token: str
    expires_at: dt.datetime
    url: str


@dataclass(frozen=True)
class RequestView:
    """A machine that asks to be let in.

    Attributes:
        code: Of its key: compare it with what the machine shows before you accept.
        state: ``pending``, ``accepted`` (it has not come back yet), ``refused`` or ``enrolled``.
    """

    code: str
    device: str
    address: str
    state: str
    labels: dict[str, str]
    asked_at: dt.datetime
    expires_at: dt.datetime


@dataclass(frozen=True)
class Waiting:
    """The machines that ask, oldest first.

    Attributes:
        is_open: Machines may ask at all; a setting of the controller.
        ca_sha256: What a machine needs to know this controller by.
        url: Where it asks.
    """

    is_open: bool
    ca_sha256: str
    url: str
    requests: tuple[RequestView, ...]


def issue_bulk_token(
    context: Context,
    actor: str,
    *,
    prefix: str,
    count: int,
    labels: Mapping[str, str],
    lifetime: float = enrolment.TOKEN_SECONDS,
) -> BulkTokenView:
    """Make a token with which ``count`` machines enrol, each by an id that begins with ``prefix``.

    Raises:
        RequestError: The prefix, the count, a label or the lifetime is not of the expected form.
    """
    check_labels(labels)
    check_lifetime(lifetime)
    now = context.clock()
    with context.unit() as session:
        token = bulk_tokens.create(
            session,
            prefix,
            count=count,
            labels=labels,
            authority=context.authority.fingerprint,
            now=now,
            lifetime=lifetime,
        )
        detail = {"labels": dict(labels), "count": count}
        record(session, Deed(actor, "device.token", f"{prefix}*", detail=detail), now)
    until = dt.datetime.fromtimestamp(now + lifetime, dt.UTC)
    return BulkTokenView(prefix, count, token, until, context.settings.device_url())


def list_tokens(context: Context) -> tuple[TokenSummary, ...]:
    """Return the tokens that may still be used, newest first."""
    with context.reading() as session:
        return tokens.list_live(session, context.clock())


def revoke_token(context: Context, actor: str, token: str, reason: str = "") -> TokenSummary:
    """Let nobody in any more by a token, named by its short id.

    Raises:
        NotFoundError: No token that may still be used has this id.
    """
    now = context.clock()
    with context.unit() as session:
        found = tokens.revoke(session, token, now)
        record(session, Deed(actor, "token.revoke", found.subject, reason, {"token": found.id}), now)
    return found


def list_waiting(context: Context) -> Waiting:
    """Return the machines that ask to be let in."""
    with context.reading() as session:
        rows = requests.listed(session, context.clock())
    is_open = context.settings.enrol_on_request
    return Waiting(
        is_open, context.authority.fingerprint, context.settings.device_url(), tuple(map(_view, rows))
    )


def accept(
    context: Context, actor: str, code: str, *, labels: Mapping[str, str], reason: str = ""
) -> RequestView:
    """Let the machine with this code in; it gets its certificate when it comes back.

    Raises:
        NotFoundError: Nobody waits with this code.
        ConflictError: The id is taken.
        RequestError: A label is not of the expected form.
    """
    check_labels(labels)
    now = context.clock()
    with context.unit() as session:
        row = requests.accept(session, normalise(code), labels, now)
        detail = {"code": row.code, "labels": dict(labels), "address": row.address}
        record(session, Deed(actor, "device.accept", row.device, reason, detail), now)
        return _view(row)


def refuse(context: Context, actor: str, code: str, *, reason: str = "") -> RequestView:
    """Turn the machine with this code away.

    Raises:
        NotFoundError: Nobody waits with this code.
    """
    now = context.clock()
    with context.unit() as session:
        row = requests.refuse(session, normalise(code), now)
        detail = {"code": row.code, "address": row.address}
        record(session, Deed(actor, "device.refuse", row.device, reason, detail), now)
        return _view(row)


def _view(row: EnrolmentRequest) -> RequestView:
    return RequestView(
        code=row.code,
        device=row.device,
        address=row.address,
        state=row.state,
        labels=row.labels,
        asked_at=instant(row.asked_at),
        expires_at=instant(row.expires_at),
    )

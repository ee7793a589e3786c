"""What operators do about alarms: acknowledge them, silence them, look after receivers of webhooks."""

import datetime as dt
from dataclasses import dataclass

from muster_controller.config import WebhookSettings
from muster_controller.delivery.courier import shown_url
from muster_controller.delivery.post import Post
from muster_controller.domain.alarms.alarm import why_not_acknowledged
from muster_controller.domain.alarms.silences import Matcher, Silence, check_term
from muster_controller.service.context import Context, Deed, record
from muster_controller.service.history import show_alarm
from muster_controller.store import alarms as store
from muster_controller.store.alarm_tables import ReceiverRecord
from muster_controller.store.outbox import count_waiting
from muster_controller.store.views import deliveries
from muster_controller.store.views.alarms import AlarmView
from muster_controller.store.views.deliveries import DeliveryView
from muster_controller.store.views.instants import instant
from muster_controller.store.views.paging import DEFAULT_LIMIT, Page
from muster_models.errors import ConflictError, NotFoundError


@dataclass(frozen=True)
class SilenceView:
    """One silence.

    Attributes:
        model, kind, level, where: Which alarms it hides; None for any.
        active: It holds now.
    """

    id: int
    model: str | None
    kind: str | None
    level: str | None
    where: str | None
    reason: str
    actor: str
    since: dt.datetime
    until: dt.datetime
    active: bool


@dataclass(frozen=True)
class WebhookView:
    """One receiver of webhooks, and how it has done.

    Attributes:
        url: Without what may be secret in it.
        kinds, levels, models: What it is told of; empty for any.
        waiting: Messages on their way.
        given_up: Messages that never arrived, since the beginning.
        gone_at: When it said that it wants nothing any more; None while it takes messages.
        status, detail: Of the last try.
    """

    name: str
    url: str
    kinds: tuple[str, ...]
    levels: tuple[str, ...]
    models: tuple[str, ...]
    pending: bool
    waiting: int
    delivered: int
    given_up: int
    gone_at: dt.datetime | None
    last_at: dt.datetime | None
    status: int | None
    detail: str


def acknowledge(context: Context, actor: str, number: int, reason: str) -> AlarmView:
    """Take an alarm on: it goes on firing, but needs no attention and is not told again.

    Raises:
        NotFoundError: No such alarm.
        ConflictError: It is resolved or acknowledged, or no reason was given.
    """
    now = context.clock()
    with context.unit() as session:
        known = store.get(session, number)
        why_not = why_not_acknowledged(known.alarm, known.care, reason)
        if why_not is not None:
            raise ConflictError(why_not)
        store.acknowledge(session, number, actor, reason, now)
        Post(context.settings).acknowledged(session, number, now)
        record(session, Deed(actor, "alarm.acknowledge", f"alarm {number}", reason), now)
    context.wake()
    return show_alarm(context, number)


def list_silences(context: Context, *, with_past: bool = False) -> tuple[SilenceView, ...]:
    """Return the silences that hold, newest first; with ``with_past``, also those that are over."""
    now = context.clock()
    with context.reading() as session:
        found = store.silences(session, now=None if with_past else now)
    return tuple(_view(one, now) for one in found)


def add_silence(
    context: Context, actor: str, matcher: Matcher, *, seconds: float, reason: str
) -> SilenceView:
    """Tell nobody of some alarms for a while.

    Raises:
        RequestError: The matcher says nothing or nothing that is, the reason is missing, or the end is not
            ahead and within 30 days.
    """
    now = context.clock()
    matcher.check()
    check_term(reason, now, now + seconds)
    silence = Silence(0, matcher, reason, actor, now, now + seconds)
    with context.unit() as session:
        number = store.add_silence(session, silence)
        detail = {
            "model": matcher.model,
            "kind": matcher.kind,
            "level": matcher.level,
            "where": matcher.where,
        }
        deed = Deed(actor, "silence.add", f"silence {number}", reason, {**detail, "seconds": seconds})
        record(session, deed, now)
    return _view(Silence(number, matcher, reason, actor, now, now + seconds), now)


def end_silence(context: Context, actor: str, number: int, reason: str = "") -> SilenceView:
    """End a silence early; what it held back and is still so is told now.

    Raises:
        NotFoundError: No such silence.
        ConflictError: It is over.
    """
    now = context.clock()
    with context.unit() as session:
        ended = store.end_silence(session, number, now)
        record(session, Deed(actor, "silence.end", f"silence {number}", reason), now)
    context.wake()
    return _view(ended, now)


def list_webhooks(context: Context) -> tuple[WebhookView, ...]:
    """Return the receivers of ``controller.toml``, and how each has done."""
    with context.reading() as session:
        return tuple(
            _webhook(one, session.get(ReceiverRecord, one.name), count_waiting(session, one.name))
            for one in context.settings.webhooks or ()
        )


def test_webhook(context: Context, actor: str, name: str) -> DeliveryView:
    """Put a message that means nothing on its way to one receiver, also to one that wants none any more.

    Raises:
        NotFoundError: No such receiver is configured.
    """
    now = context.clock()
    with context.unit() as session:
        number = Post(context.settings).test(session, _settings(context, name), now)
        record(session, Deed(actor, "webhook.test", name), now)
    context.wake()
    return show_delivery(context, number)


def list_deliveries(
    context: Context,
    *,
    webhook: str | None = None,
    state: str | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[DeliveryView]:
    """Return messages to receivers, newest first."""
    with context.reading() as session:
        return deliveries.list_deliveries(session, webhook=webhook, state=state, limit=limit, cursor=cursor)


def show_delivery(context: Context, number: int) -> DeliveryView:
    """Return one message.

    Raises:
        NotFoundError: No such message, or it was forgotten a week after its end.
    """
    with context.reading() as session:
        found = deliveries.find_delivery(session, number)
    if found is None:
        raise NotFoundError(f"no delivery {number}")
    return found


def _settings(context: Context, name: str) -> WebhookSettings:
    for one in context.settings.webhooks or ():
        if one.name == name:
            return one
    raise NotFoundError(f"no webhook {name[:80]!r} in controller.toml")


def _webhook(settings: WebhookSettings, row: ReceiverRecord | None, waiting: int) -> WebhookView:
    held = row or ReceiverRecord(webhook=settings.name, url=settings.url)
    return WebhookView(
        name=settings.name,
        url=shown_url(settings.url),
        kinds=settings.kinds,
        levels=settings.levels,
        models=settings.models,
        pending=settings.pending,
        waiting=waiting,
        delivered=held.delivered,
        given_up=held.given_up,
        gone_at=instant(held.gone_at) if held.url == settings.url else None,
        last_at=instant(held.last_at),
        status=held.status,
        detail=held.detail,
    )


def _view(silence: Silence, now: float) -> SilenceView:
    matcher = silence.matcher
    return SilenceView(
        id=silence.id,
        model=matcher.model,
        kind=matcher.kind,
        level=matcher.level,
        where=matcher.where,
        reason=silence.reason,
        actor=silence.actor,
        since=dt.datetime.fromtimestamp(silence.since, dt.UTC),
        until=dt.datetime.fromtimestamp(silence.until, dt.UTC),
        active=silence.is_active(now),
    )

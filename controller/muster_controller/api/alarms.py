"""``/alarms/…/acknowledge``, ``/silences``, ``/webhooks``, ``/jobs``: what is done about alarms."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from muster_controller.api.documents import Body, ReasonBody
from muster_controller.api.limits import DEFAULT, Cursor, Limit
from muster_controller.api.parts import Actor, Asks, Here
from muster_controller.domain.alarms.silences import Matcher
from muster_controller.service import alarms, jobs
from muster_controller.service.alarms import SilenceView, WebhookView
from muster_controller.service.jobs import TriggerView
from muster_controller.store.views.alarms import AlarmView
from muster_controller.store.views.deliveries import DeliveryView
from muster_controller.store.views.jobs import JobView
from muster_controller.store.views.paging import Page

router = APIRouter(tags=["alarms"])
DeliveryState = Literal["waiting", "delivered", "given-up"]
State = Literal["queued", "running", "done", "failed", "unknown"]


class WhyBody(Body):
    """A reason that must be given, for the audit trail."""

    reason: str = Field(min_length=1, max_length=400)


class SilenceBody(WhyBody):
    """Which alarms nobody is told of, and for how long; what is left out is any."""

    model: str | None = None
    kind: str | None = None
    level: str | None = None
    where: str | None = Field(default=None, description="A selector over the subject; all for every one.")
    seconds: float = Field(description="From now; up to 30 days.", allow_inf_nan=False)


class OutcomeBody(ReasonBody):
    """How a job ended."""

    outcome: Literal["done", "failed"]


@router.post("/alarms/{number}/acknowledge")
def acknowledge(context: Here, actor: Actor, number: int, body: WhyBody) -> AlarmView:
    """Take an alarm on: it goes on firing, but needs no attention and is not told again."""
    return alarms.acknowledge(context, actor, number, body.reason)


@router.get("/silences")
def list_silences(
    context: Here, *, past: Annotated[bool, Query(description="Also those that are over.")] = False
) -> Page[SilenceView]:
    """Return silences, newest first."""
    return Page(alarms.list_silences(context, with_past=past), None)


@router.post("/silences", status_code=201)
def add_silence(context: Here, asks: Asks, body: SilenceBody) -> SilenceView:
    """Tell nobody of some alarms for a while."""
    matcher = Matcher(body.model, body.kind, body.level, body.where)
    actor = asks.about([body.model or None])
    return alarms.add_silence(context, actor, matcher, seconds=body.seconds, reason=body.reason)


@router.post("/silences/{number}/end")
def end_silence(context: Here, actor: Actor, number: int, body: ReasonBody) -> SilenceView:
    """End a silence early."""
    return alarms.end_silence(context, actor, number, body.reason)


@router.get("/webhooks")
def list_webhooks(context: Here) -> Page[WebhookView]:
    """Return the receivers of webhooks, and how each has done."""
    return Page(alarms.list_webhooks(context), None)


@router.post("/webhooks/{name}/test", status_code=202)
def test_webhook(context: Here, actor: Actor, name: str) -> DeliveryView:
    """Put a message that means nothing on its way to one receiver."""
    return alarms.test_webhook(context, actor, name)


@router.get("/deliveries")
def list_deliveries(
    context: Here,
    *,
    webhook: str | None = None,
    state: DeliveryState | None = None,
    limit: Limit = DEFAULT,
    cursor: Cursor = None,
) -> Page[DeliveryView]:
    """Return messages to receivers, newest first."""
    return alarms.list_deliveries(context, webhook=webhook, state=state, limit=limit, cursor=cursor)


@router.get("/deliveries/{number}")
def show_delivery(context: Here, number: int) -> DeliveryView:
    """Return one message to a receiver."""
    return alarms.show_delivery(context, number)


@router.get("/jobs")
def list_jobs(
    context: Here,
    *,
    model: str | None = None,
    state: State | None = None,
    limit: Limit = DEFAULT,
    cursor: Cursor = None,
) -> Page[JobView]:
    """Return retraining jobs, newest first."""
    return jobs.list_jobs(context, model=model, state=state, limit=limit, cursor=cursor)


@router.get("/jobs/triggers")
def list_triggers(context: Here) -> Page[TriggerView]:
    """Return what starts jobs, and what holds alarms back from it."""
    return Page(jobs.list_triggers(context), None)


@router.get("/jobs/{number}")
def show_job(context: Here, number: int) -> JobView:
    """Return one job with its evidence."""
    return jobs.show_job(context, number)


@router.post("/jobs/{number}/finish")
def finish_job(context: Here, actor: Actor, number: int, body: OutcomeBody) -> JobView:
    """Say how a job ended."""
    return jobs.finish(context, actor, number, body.outcome, body.reason)


@router.post("/jobs/{number}/retry", status_code=201)
def retry_job(context: Here, actor: Actor, number: int, body: ReasonBody) -> JobView:
    """Run a job again that has ended."""
    return jobs.retry(context, actor, number, body.reason)

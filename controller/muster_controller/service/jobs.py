"""Retraining jobs: looking at them, saying how one ended, and running one again."""

from dataclasses import dataclass
from typing import Literal

from muster_controller.config import JobSettings
from muster_controller.delivery.post import Post
from muster_controller.domain.alarms.jobs import OPEN, obstacle
from muster_controller.retraining.endings import end
from muster_controller.retraining.starting import begin, runs_of, trigger_of
from muster_controller.service.context import Context, Deed, record
from muster_controller.store import alarms, jobs
from muster_controller.store.jobs import COMMAND, Ending
from muster_controller.store.views import jobs as views
from muster_controller.store.views.jobs import JobView
from muster_controller.store.views.paging import DEFAULT_LIMIT, Page
from muster_models.errors import ConflictError, NotFoundError

Outcome = Literal["done", "failed"]


@dataclass(frozen=True)
class HeldBack:
    """An alarm that a trigger takes, and why it starts no job now."""

    alarm: int
    why: str


@dataclass(frozen=True)
class TriggerView:
    """One trigger of ``controller.toml``.

    Attributes:
        runs: ``command``, or ``webhook`` and the receiver's name.
        held_back: Firing alarms that start no job, each with the reason.
    """

    name: str
    kinds: tuple[str, ...]
    models: tuple[str, ...]
    levels: tuple[str, ...]
    runs: str
    cooldown_seconds: float
    per_week: int
    held_back: tuple[HeldBack, ...]


def list_jobs(
    context: Context,
    *,
    model: str | None = None,
    state: str | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[JobView]:
    """Return jobs, newest first."""
    with context.reading() as session:
        return views.list_jobs(session, model=model, state=state, limit=limit, cursor=cursor)


def show_job(context: Context, number: int) -> JobView:
    """Return one job with its evidence and what it said.

    Raises:
        NotFoundError: No such job.
    """
    with context.reading() as session:
        found = views.find_job(session, number)
    if found is None:
        raise NotFoundError(f"no job {number}")
    return found


def list_triggers(context: Context) -> tuple[TriggerView, ...]:
    """Return the triggers, and which alarms start no job for which reason."""
    with context.reading() as session:
        firing = [known.alarm for known in alarms.unsettled(session)]
        past = {one.name: jobs.past(session, one.name) for one in context.settings.jobs or ()}
    now = context.clock()
    views_of = []
    for one in context.settings.jobs or ():
        trigger = trigger_of(one)
        reasons = [
            (alarm.id, obstacle(trigger, alarm, past[one.name], now))
            for alarm in firing
            if trigger.takes(alarm)
        ]
        held_back = tuple(HeldBack(alarm, why) for alarm, why in reasons if why is not None)
        views_of.append(_trigger(one, held_back))
    return tuple(views_of)


def finish(context: Context, actor: str, number: int, outcome: Outcome, reason: str = "") -> JobView:
    """Say how a job ended that a receiver runs, or one that nobody saw end.

    Raises:
        NotFoundError: No such job.
        ConflictError: It has ended, or this controller runs its command and will say so itself.
    """
    now = context.clock()
    with context.unit() as session:
        found = jobs.get(session, number)
        if found.runs == COMMAND and found.state == "running":
            raise ConflictError(f"the command of job {number} runs; it says itself how it ends")
        if outcome == "done" and found.state == "queued":
            raise ConflictError(f"job {number} has not begun")
        event: Literal["succeed", "fail"] = "succeed" if outcome == "done" else "fail"
        detail = f"{actor} says so: {reason}" if reason else f"{actor} says so"
        end(session, Post(context.settings), number, Ending(event, detail), now=now)
        record(session, Deed(actor, "job.finish", f"job {number}", reason, {"outcome": outcome}), now)
    context.wake()
    return show_job(context, number)


def retry(context: Context, actor: str, number: int, reason: str = "") -> JobView:
    """Run a job again that has ended, with the same evidence; neither cooldown nor the week's cap counts.

    Raises:
        NotFoundError: No such job, or its trigger is no longer configured.
        ConflictError: It has not ended, or another one of its model and cause has not.
    """
    now = context.clock()
    with context.unit() as session:
        found = jobs.get(session, number)
        settings = _settings(context, found.trigger)
        cause = str(found.evidence["alarm"]["kind"])
        for past in jobs.past(session, found.trigger):
            if past.state in OPEN and (past.model, past.cause) == (found.model, cause):
                raise ConflictError(f"job {past.id} of the same model and cause is {past.state}")
        again = begin(session, Post(context.settings), settings, found.evidence, parent=found.parent, now=now)
        record(session, Deed(actor, "job.retry", f"job {number}", reason, {"job": again}), now)
    context.wake()
    return show_job(context, again)


def _settings(context: Context, name: str) -> JobSettings:
    for one in context.settings.jobs or ():
        if one.name == name:
            return one
    raise NotFoundError(f"no job {name[:80]!r} in controller.toml")


def _trigger(settings: JobSettings, held_back: tuple[HeldBack, ...]) -> TriggerView:
    return TriggerView(
        name=settings.name,
        kinds=settings.kinds,
        models=settings.models,
        levels=settings.levels,
        runs=runs_of(settings),
        cooldown_seconds=settings.cooldown_seconds,
        per_week=settings.per_week,
        held_back=held_back,
    )

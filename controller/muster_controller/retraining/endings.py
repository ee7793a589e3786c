"""What follows when a job ends: its state, an event, and an alarm when it failed, all in one transaction."""

import dataclasses
import logging

from sqlmodel import Session

from muster_controller.delivery.post import Post
from muster_controller.domain.alarms.alarm import Alarm
from muster_controller.store import alarms, events, jobs
from muster_controller.store.jobs import Ending, Found

KIND = "job"
_log = logging.getLogger(__name__)


def end(
    session: Session, post: Post, number: int, ending: Ending, *, now: float, fence: str | None = None
) -> Found:
    """Note how a job ended; one that failed is an alarm until a job of its trigger and model succeeds.

    Raises:
        NotFoundError: No such job.
        ConflictError: It has ended, or another process runs it.
    """
    job = jobs.end(session, number, ending, now=now, fence=fence)
    detail = f"job {number} ({job.trigger}) {job.state}: {ending.detail}"
    _log.log(logging.INFO if job.state == "done" else logging.WARNING, "%s", detail)
    events.note(session, KIND, now=now, model=job.model, digest=job.parent, detail=detail)
    standing = _standing(session, job)
    if job.state == "done":
        if standing is not None:
            _put(session, post, dataclasses.replace(standing, state="resolved", resolved_at=now), now)
        return job
    told = standing or Alarm(0, job.model, KIND, "fleet", job.trigger, "firing", now, fired_at=now)
    evidence = {"job": number, "detail": ending.detail, "exit_status": ending.exit_status}
    _put(session, post, dataclasses.replace(told, evidence=evidence), now)
    return job


def _standing(session: Session, job: Found) -> Alarm | None:
    found = (
        alarm
        for alarm in alarms.active(session, KIND)
        if (alarm.subject, alarm.model) == (job.trigger, job.model)
    )
    return next(found, None)


def _put(session: Session, post: Post, alarm: Alarm, now: float) -> None:
    number, before = alarms.save(session, alarm)
    if before != alarm.state:
        post.alarm_changed(session, number, now)

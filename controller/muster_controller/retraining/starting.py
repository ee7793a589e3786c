"""How a job begins: what it is given, its row, an event, and the message where a receiver runs it."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlmodel import Session

from muster_controller.config import JobSettings
from muster_controller.delivery.post import Post
from muster_controller.domain.alarms.alarm import Alarm
from muster_controller.domain.alarms.jobs import Parent, Trigger, evidence
from muster_controller.retraining.endings import end
from muster_controller.store import events, jobs, versions
from muster_controller.store.jobs import COMMAND, Ending

_log = logging.getLogger(__name__)


def trigger_of(settings: JobSettings) -> Trigger:
    """Return what the domain knows of a trigger."""
    return Trigger(
        name=settings.name,
        kinds=settings.kinds,
        models=settings.models,
        levels=settings.levels,
        cooldown_seconds=settings.cooldown_seconds,
        per_week=settings.per_week,
    )


def runs_of(settings: JobSettings) -> str:
    """Return who runs the jobs of a trigger, as rows and people name it."""
    return f"webhook {settings.webhook}" if settings.webhook else COMMAND


def start(session: Session, post: Post, settings: JobSettings, alarm: Alarm, *, now: float) -> int:
    """Begin a job for an alarm and return its number."""
    parent = _parent(session, alarm)
    content = evidence(alarm, parent, trigger=settings.name, now=now)
    digest = "" if parent is None else parent.digest
    return begin(session, post, settings, content, parent=digest, now=now)


def begin(
    session: Session,
    post: Post,
    settings: JobSettings,
    content: Mapping[str, Any],
    *,
    parent: str,
    now: float,
) -> int:
    """Begin a job with evidence that was gathered, and return its number."""
    cause, model = content["alarm"], str(content["model"])
    number = jobs.add(
        session,
        settings.name,
        alarm=int(cause["id"]),
        model=model,
        cause=str(cause["kind"]),
        runs=runs_of(settings),
        evidence=content,
        parent=parent,
        now=now,
    )
    detail = f"job {number} ({settings.name}) for alarm {cause['id']}: {cause['kind']} of {cause['subject']}"
    _log.info("%s", detail)
    events.note(session, "job", now=now, model=model, digest=parent, detail=detail)
    if settings.webhook:
        _ask(session, post, settings, number, now=now)
    return number


def _ask(session: Session, post: Post, settings: JobSettings, number: int, *, now: float) -> None:
    found = jobs.get(session, number)
    jobs.start(session, number, "", deadline=now + settings.timeout_seconds, now=now)
    if not post.ask(session, settings.webhook, number, found.evidence, now):
        why = f"webhook {settings.webhook} takes no messages"
        end(session, post, number, Ending("fail", why), now=now)


def _parent(session: Session, alarm: Alarm) -> Parent | None:
    """Return the newest version, not withdrawn, on the baseline that an alarm is about."""
    for release in versions.of_model(session, alarm.model):
        if release.baseline == alarm.baseline and release.withdrawn_at is None:
            manifest = release.manifest
            datasets = [msgspec.to_builtins(one) for one in manifest.datasets]
            return Parent(release.digest, release.name, manifest.release, datasets)
    return None

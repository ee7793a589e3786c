"""Retraining: which alarm starts a job, what the job is given, and the states of a job. Pure.

A version that comes back of a job is published and rolled out like any other: a job passes no gate.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from muster_controller.domain.alarms.alarm import Alarm

JobState = Literal["queued", "running", "done", "failed", "unknown"]
JobEvent = Literal["start", "succeed", "fail", "lose"]
OPEN: Final[frozenset[JobState]] = frozenset({"queued", "running", "unknown"})
WEEK_SECONDS = 7 * 86_400.0
MOST_DEVICES = 200
FORMAT = 1

# What is not here cannot happen: a job that has ended stays so. ``unknown`` is a job whose end nobody saw,
# because the controller was killed while it ran; a person, or the job itself, may say later how it ended.
TRANSITIONS: Final[Mapping[tuple[JobState, JobEvent], JobState]] = {
    ("queued", "start"): "running",
    ("queued", "fail"): "failed",
    ("running", "succeed"): "done",
    ("running", "fail"): "failed",
    ("running", "lose"): "unknown",
    ("unknown", "succeed"): "done",
    ("unknown", "fail"): "failed",
}


@dataclass(frozen=True)
class Trigger:
    """Which alarms start a job; an empty list means any.

    Attributes:
        cooldown_seconds: Least time between two jobs of one model.
        per_week: Most jobs of this trigger in seven days.
    """

    name: str
    kinds: Collection[str]
    models: Collection[str] = ()
    levels: Collection[str] = ()
    cooldown_seconds: float = 86_400.0
    per_week: int = 3

    def takes(self, alarm: Alarm) -> bool:
        """Tell whether an alarm is one of those."""
        chosen = ((self.kinds, alarm.kind), (self.models, alarm.model), (self.levels, alarm.level))
        fits = all(not wanted or held in wanted for wanted, held in chosen)
        return fits and alarm.state == "firing" and alarm.model != ""


@dataclass(frozen=True)
class Past:
    """A job that a trigger started before.

    Attributes:
        cause: The kind of the alarm that started it.
        created_at: Unix seconds.
    """

    id: int
    alarm: int
    model: str
    cause: str
    state: JobState
    created_at: float


def obstacle(trigger: Trigger, alarm: Alarm, past: Sequence[Past], now: float) -> str | None:
    """Return why an alarm that a trigger takes starts no job now; None when it does.

    Args:
        past: The jobs of this trigger, of any model.
    """
    for job in past:
        if job.alarm == alarm.id:
            return f"job {job.id} was started for it"
        if job.state in OPEN and (job.model, job.cause) == (alarm.model, alarm.kind):
            return f"job {job.id} of the same model and cause is {job.state}"
    cooled = max((one.created_at for one in past if one.model == alarm.model), default=None)
    if cooled is not None and now - cooled < trigger.cooldown_seconds:
        return (
            f"the last job of {alarm.model} began {now - cooled:.0f} of {trigger.cooldown_seconds:.0f} s ago"
        )
    week = sum(now - one.created_at < WEEK_SECONDS for one in past)
    if week >= trigger.per_week:
        return f"{week} jobs in seven days, at most {trigger.per_week}"
    return None


@dataclass(frozen=True)
class Parent:
    """The version that drifted: what a new one is measured against.

    Attributes:
        datasets: References to what it was trained and evaluated on, as its manifest names them.
    """

    digest: str
    name: str
    release: int
    datasets: Sequence[Mapping[str, Any]] = ()


def evidence(alarm: Alarm, parent: Parent | None, *, trigger: str, now: float) -> dict[str, Any]:
    """Return what a job is given: the drift report, where data came from, and the version that drifted."""
    devices = list(alarm.evidence.get("devices", ()))
    return {
        "format": FORMAT,
        "trigger": trigger,
        "at": now,
        "model": alarm.model,
        "alarm": {
            "id": alarm.id,
            "kind": alarm.kind,
            "level": alarm.level,
            "subject": alarm.subject,
            "since": alarm.since,
            "fired_at": alarm.fired_at,
        },
        "features": list(alarm.evidence.get("features", ()))
        or [{"feature": alarm.feature, "effect": alarm.effect, "unit": alarm.unit}],
        "devices": devices[:MOST_DEVICES],
        "devices_total": len(devices),
        "baseline": alarm.baseline,
        "parent": None
        if parent is None
        else {"digest": parent.digest, "version": parent.name, "release": parent.release},
        "datasets": [] if parent is None else [dict(one) for one in parent.datasets],
    }

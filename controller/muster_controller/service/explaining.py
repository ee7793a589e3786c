"""Why an alarm was raised: computed again from what is stored, or said plainly where nothing is computed."""

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

from muster_controller.service.context import Context
from muster_controller.service.drift_explain import ExplainView
from muster_controller.service.drift_explain import explain as explain_windows
from muster_controller.service.history import show_alarm
from muster_controller.service.label_explain import LabelExplainView, explain_labels
from muster_controller.store.views.alarms import AlarmView


@dataclass(frozen=True)
class ReasonView:
    """Why an alarm was raised that no detector computes.

    Attributes:
        says: What it is about, in a few words.
        why: What raised it, and what ends it, in sentences.
    """

    alarm: int
    says: str
    kind: str
    level: str
    subject: str
    since: dt.datetime
    fired_at: dt.datetime | None
    why: str
    devices: tuple[str, ...] = ()
    how: Literal["nothing"] = "nothing"


Explained = ExplainView | LabelExplainView | ReasonView


def explain(context: Context, number: int, *, rounds: int) -> Explained:
    """Say why an alarm was raised, computed again where it came from a detector.

    Args:
        rounds: How many rounds up to the end of the alarm are shown; all of them are judged.

    Raises:
        NotFoundError: No such alarm, or its baseline or version is gone.
        RequestError: Its evidence does not say enough to compute it again.
    """
    alarm = show_alarm(context, number)
    match alarm.kind:
        case "concept-drift":
            return explain_labels(context, alarm, rounds=rounds)
        case "silence":
            return _reason(alarm, _silence(alarm.evidence))
        case "job":
            return _reason(alarm, _job(alarm.subject, alarm.evidence))
        case _:
            return explain_windows(context, number, rounds=rounds)


def _reason(alarm: AlarmView, why: str) -> ReasonView:
    return ReasonView(
        alarm=alarm.id,
        says=alarm.headline[0],
        kind=alarm.kind,
        level=alarm.level,
        subject=alarm.subject,
        since=alarm.since,
        fired_at=alarm.fired_at,
        why=f"There is nothing to compute: {why}",
        devices=tuple(alarm.evidence.get("devices", ())),
    )


def _silence(evidence: dict[str, Any]) -> str:
    count, heard = int(evidence.get("devices_total", 0)), float(evidence.get("last_heard", 0.0))
    who = "1 device was" if count == 1 else f"{count} devices were"
    last = f", the last of them at {dt.datetime.fromtimestamp(heard, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"{who} heard of no more{last if heard else ''}. It is raised when more heartbeats in a row are "
        "missed than may be, and ends when the device, or half of the group or fleet, is heard of again."
    )


def _job(trigger: str, evidence: dict[str, Any]) -> str:
    status = evidence.get("exit_status")
    ended = "" if status is None else f" (exit status {status})"
    return (
        f"retraining job {evidence.get('job', '?')} of trigger {trigger} failed{ended}: "
        f"{evidence.get('detail') or 'it said nothing'}. The alarm ends when a job of this trigger and model "
        "succeeds."
    )

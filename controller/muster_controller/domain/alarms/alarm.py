"""An alarm as whoever tells of it sees it, whatever raised it: drift, devices that fell silent, a failed job.

An alarm that is *inactive* has no record: it begins as pending, fires when it holds, and is resolved when its
cause is gone. How long it must hold, and what calm means, is for what raises it (``drift.incidents``,
``quiet``); this package never changes a state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

AlarmState = Literal["pending", "firing", "resolved"]
Level = Literal["device", "group", "fleet"]
KINDS = (
    "data-quality",
    "data-drift",
    "prediction-drift",
    "concept-drift",
    "performance",
    "silence",
    "job",
)
LEVELS: tuple[Level, ...] = ("device", "group", "fleet")


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes:
        model: Empty where the alarm is about devices, whatever they run.
        subject: Device id, ``label=value``, or ``all``; of kind ``job``, the name of the trigger.
        since, fired_at, resolved_at: Unix seconds.
        effect: Size of the change, in ``unit``.
    """

    id: int
    model: str
    kind: str
    level: Level
    subject: str
    state: AlarmState
    since: float
    baseline: str = ""
    feature: str = ""
    fired_at: float | None = None
    resolved_at: float | None = None
    effect: float = 0.0
    unit: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """What it is told together with: one model, one kind."""
        return f"{self.model or 'fleet'}/{self.kind}"


@dataclass(frozen=True)
class Care:
    """What has been done about an alarm.

    Attributes:
        told: The state that receivers were last told; None while they know nothing of it.
        told_at, acknowledged_at: Unix seconds.
    """

    told: AlarmState | None = None
    told_at: float = 0.0
    acknowledged_at: float | None = None
    acknowledged_by: str = ""
    acknowledged_reason: str = ""

    @property
    def is_acknowledged(self) -> bool:
        """Somebody has taken it on: it needs no attention, and is not told again until it is resolved."""
        return self.acknowledged_at is not None


UNKNOWN = Care()


def due(
    alarm: Alarm, care: Care, *, is_silenced: bool, now: float, repeat_seconds: float
) -> AlarmState | None:
    """Return what receivers should be told now; None for nothing.

    1. A silenced alarm is not told. What was missed is told when the silence ends, if it is still so.
    2. A change of state is told once, but for the end of what nobody was told of.
    3. An alarm that goes on firing is told again after ``repeat_seconds``, until it is acknowledged.
    """
    if is_silenced:
        return None
    match alarm.state:
        case "pending":
            return "pending" if care.told is None else None
        case "firing" if care.told != "firing":
            return "firing"
        case "firing":
            is_repeat = not care.is_acknowledged and now - care.told_at >= repeat_seconds
            return "firing" if is_repeat else None
        case "resolved":
            return "resolved" if care.told in {"pending", "firing"} else None


def why_not_acknowledged(alarm: Alarm, care: Care, reason: str) -> str | None:
    """Return why an alarm cannot be acknowledged so; None when it can."""
    if not reason.strip():
        return "an acknowledgement needs a reason"
    if alarm.state == "resolved":
        return f"alarm {alarm.id} is resolved; there is nothing to acknowledge"
    if care.is_acknowledged:
        return f"alarm {alarm.id} was acknowledged by {care.acknowledged_by}: {care.acknowledged_reason}"
    return None

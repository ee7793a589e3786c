"""Alarms as people and programs are told of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from muster_controller.domain.drift.attribution import LEGS, SCORE_LEGS
from muster_controller.domain.drift.measures import ANSWERS
from muster_controller.domain.drift.state import Incident, Kind, Level, Moved, Part
from muster_controller.domain.drift.units import in_milliseconds, in_own_unit
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.correlation import pair_names

SignalState = Literal["pending", "firing", "resolved"]
LATENCY = "latency"


@dataclass(frozen=True)
class Signal:
    """An alarm as it stands: named by level, subject and since.

    Attributes:
        subject: Device id, ``label=value``, or ``all``.
        feature: The column that has moved most.
        effect: By how much: ``unit`` says of what (``sd`` of the baseline, or ``share`` of the rows).
        since: When it became pending, Unix seconds. One that is resolved without ``fired_at`` was found to
            belong to another subject.
        evidence: ``features`` (strongest first; ``before`` and ``after`` are in its own unit), ``devices``,
            ``began`` (when the detector began to say something), and the logarithms ``value`` and ``bound``
            of the detector; ``relative_to`` where the baseline was not made of reference rows: ``declared``
            ranges, or windows of the ``fleet``.
    """

    kind: Kind
    level: Level
    subject: str
    feature: str
    state: SignalState
    since: float
    fired_at: float | None
    resolved_at: float | None
    effect: float
    unit: str
    evidence: dict[str, Any]


def tell(
    part: Part, active: Sequence[Incident], ended: Iterable[Incident], baseline: Baseline, *, now: float
) -> list[Signal]:
    """Return the alarms of a part: those that ended now, and those that are active."""
    over = [_signal(part, incident, baseline, resolved_at=now) for incident in ended]
    return [*over, *(_signal(part, incident, baseline, resolved_at=None) for incident in active)]


def column_name(part: Part, column: int, baseline: Baseline) -> str:
    """Return what people call a column of a part."""
    if part == "performance":
        return LATENCY
    names = [one.name for one in baseline.columns]
    return names[column] if column < len(names) else pair_names(baseline)[column - len(names)]


def _signal(part: Part, incident: Incident, baseline: Baseline, *, resolved_at: float | None) -> Signal:
    lead = incident.moved[0]
    state: SignalState = "pending" if incident.fired_at is None else "firing"
    return Signal(
        kind=_kind(part, incident.moved, baseline),
        level=incident.level,
        subject=incident.subject,
        feature=_feature_name(part, lead, baseline),
        state=state if resolved_at is None else "resolved",
        since=incident.since,
        fired_at=incident.fired_at,
        resolved_at=resolved_at,
        effect=lead.effect,
        unit=_unit(lead),
        evidence={
            "features": [_feature(part, moved, baseline) for moved in incident.moved],
            "devices": list(incident.devices),
            "began": incident.began,
            "value": incident.value,
            "bound": incident.bound,
            **({} if baseline.origin == "reference" else {"relative_to": baseline.origin}),
        },
    )


def _kind(part: Part, moved: Sequence[Moved], baseline: Baseline) -> Kind:
    """Return what went wrong: missing values before all, and inputs before the answers they change."""
    if part == "performance":
        return "performance"
    inputs = [m for m in moved if column_name(part, m.column, baseline) not in ANSWERS]
    if moved[0].leg == "missing":
        return "data-quality"
    if any(LEGS.index(m.leg) < SCORE_LEGS for m in inputs):
        return "data-drift"
    return "data-quality" if inputs else "prediction-drift"


def _unit(moved: Moved) -> str:
    return "sd" if LEGS.index(moved.leg) < SCORE_LEGS else "share"


def _feature_name(part: Part, moved: Moved, baseline: Baseline) -> str:
    if part == "performance" and moved.leg == "missing":
        return "errors"
    return column_name(part, moved.column, baseline)


def _feature(part: Part, moved: Moved, baseline: Baseline) -> dict[str, Any]:
    told: dict[str, Any] = {
        "feature": _feature_name(part, moved, baseline),
        "leg": moved.leg,
        "effect": moved.effect,
        "unit": _unit(moved),
        "evidence": moved.evidence,
    }
    own = _own(part, moved, baseline)
    if own is not None:
        told["before"], told["after"], told["own_unit"] = own
    return told


def _own(part: Part, moved: Moved, baseline: Baseline) -> tuple[float, float, str] | None:
    """Return from where to where a column moved in its own unit, where that can be said."""
    if part == "performance" and moved.leg == "location":
        return (*in_milliseconds(normal=moved.normal, effect=moved.effect), "ms")
    if part == "performance" or moved.column >= len(baseline.columns):
        return None
    column = baseline.columns[moved.column]
    found = in_own_unit(column, moved.leg, normal=moved.normal, effect=moved.effect)
    return None if found is None else (*found, "" if _unit(moved) == "share" else column.unit)

"""Drift of a fleet: from windows to alarms, one per cause.

Windows fall into rounds by the middle of their time. A round is closed one round later; a window that comes
later still makes a round of its own, in which its device is judged without peers. See ``levels`` for how a
round is judged and ``incidents`` for how alarms come of it.

The stated rate: without drift, the first false alarm of a model comes after ``run_length`` rounds on average
or later. What it rests on is in ``sequential``; what it was measured to be is in
``tests/unit/test_drift_detection.py``.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from muster_controller.domain.drift.incidents import LEGS, SCORE_LEGS, Bounds, follow, make_scene
from muster_controller.domain.drift.levels import learn, update
from muster_controller.domain.drift.measures import Measure, Scorer
from muster_controller.domain.drift.state import DriftState, Incident, Kind, Level, Moved, decode_state
from muster_controller.domain.facts import WindowFacts
from muster_models.errors import SketchError
from muster_models.sketch.baseline import Baseline, ColumnBaseline
from muster_models.sketch.features import CLASS, CONFIDENCE, VALUE

__all__ = [
    "DriftConfig",
    "DriftState",
    "Kind",
    "Level",
    "Signal",
    "SignalState",
    "decode_state",
    "observe",
    "retire",
]

SignalState = Literal["pending", "firing", "resolved"]
_PREDICTION = frozenset({CLASS, CONFIDENCE, VALUE})


@dataclass(frozen=True)
class DriftConfig:
    """How drift is judged; the first five as in the controller's settings.

    Attributes:
        run_length: Mean number of rounds to the first false alarm of the model, over all signals together.
        round_seconds: Length of a round, in which devices are compared; that of a window.
    """

    calibration_windows: int = 24
    tolerance: float = 0.05
    run_length: float = 2000.0
    minimum_rows: int = 30
    group_label: str = "site"
    round_seconds: float = 300.0


@dataclass(frozen=True)
class Signal:
    """An alarm as it stands: named by level, subject and since.

    Attributes:
        subject: Device id, ``label=value``, or ``all``.
        feature: The column that has moved most.
        effect: By how much: ``unit`` says of what (``sd`` of the baseline, or ``share`` of the rows).
        since: When it became pending, Unix seconds. One that is resolved without ``fired_at`` was found to
            belong to another subject.
        evidence: ``features`` (strongest first), ``devices``, and the logarithms ``value`` and ``bound`` of
            the detector.
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


def observe(
    state: DriftState,
    windows: Sequence[WindowFacts],
    baseline: Baseline,
    config: DriftConfig,
    *,
    groups: Mapping[str, str],
    now: float,
) -> tuple[DriftState, list[Signal]]:
    """Take in windows of one baseline and return every active alarm, and those resolved in this call.

    Args:
        groups: Value of ``config.group_label`` by device; devices without the label are left out.
        now: Unix seconds by the controller's clock: closes rounds.

    Raises:
        SketchError: State or windows belong to another baseline.
    """
    if state.baseline != baseline.digest:
        raise SketchError(f"expected drift of baseline {baseline.digest[:12]}, got {state.baseline[:12]}")
    rounds = _sort(state, windows, baseline, config)
    current = int(now // config.round_seconds)
    ended: list[Incident] = []
    # An index in the future is a device with a wrong clock: it must not keep a round open for ever.
    for index in sorted(index for index in rounds if not current - 1 <= index <= current + 1):
        state, over = _close(state, rounds.pop(index), config, groups=groups, now=now)
        ended += over
    state = dataclasses.replace(state, open=rounds)
    return state, _signals(state, ended, baseline, config, now=now)


def retire(
    state: DriftState, devices: Collection[str], baseline: Baseline, config: DriftConfig, *, now: float
) -> tuple[DriftState, list[Signal]]:
    """Forget devices that no longer run a version with this baseline; alarms about them alone are resolved.

    Silence does not resolve an alarm: a device that is merely out of reach must not be retired.
    """
    gone = frozenset(devices)
    ended = [incident for incident in state.incidents if gone.issuperset(incident.devices)]
    state = dataclasses.replace(
        state,
        levels=state.levels.without(gone),
        incidents=tuple(incident for incident in state.incidents if incident not in ended),
        banks={**state.banks, "device": state.banks["device"].without(gone)},
        open={
            index: {device: entry for device, entry in held.items() if device not in gone}
            for index, held in state.open.items()
        },
        waiting={device: entry for device, entry in state.waiting.items() if device not in gone},
    )
    return state, _signals(state, ended, baseline, config, now=now)


def _sort(
    state: DriftState, windows: Sequence[WindowFacts], baseline: Baseline, config: DriftConfig
) -> dict[int, dict[str, tuple[str, Measure]]]:
    """Return the open rounds with new windows added."""
    rounds = {index: dict(held) for index, held in state.open.items()}
    sketched = [(window, window.sketch) for window in windows if window.sketch is not None]
    if any(sketch.baseline != state.baseline for _, sketch in sketched):
        raise SketchError(f"expected windows of baseline {state.baseline[:12]} alone")
    measures = Scorer(baseline).measure([sketch for _, sketch in sketched])
    for (window, _), measure in zip(sketched, measures, strict=True):
        if measure.rows == 0:
            continue
        held = rounds.setdefault(int((window.start + window.end) / 2 // config.round_seconds), {})
        held[window.device] = _added(held.get(window.device), (window.manifest, measure))
    return rounds


def _close(
    state: DriftState,
    held: Mapping[str, tuple[str, Measure]],
    config: DriftConfig,
    *,
    groups: Mapping[str, str],
    now: float,
) -> tuple[DriftState, tuple[Incident, ...]]:
    measured, waiting = _gather(state, held, config.minimum_rows)
    levels, found = learn(state.levels, measured, config.calibration_windows)
    state = dataclasses.replace(state, levels=levels, waiting=waiting)
    if not found.names:
        return state, ()
    state = update(state, found, groups, tolerance=config.tolerance)
    scene = make_scene(state, groups, config.calibration_windows)
    bounds = Bounds(config.run_length, config.tolerance)
    return follow(state, scene, bounds, seen=frozenset(found.names), now=now)


def _gather(
    state: DriftState, held: Mapping[str, tuple[str, Measure]], minimum_rows: int
) -> tuple[dict[str, tuple[str, Measure]], dict[str, tuple[str, Measure]]]:
    """Return what has rows enough to be tested, and what has to wait for more."""
    measured: dict[str, tuple[str, Measure]] = {}
    waiting = dict(state.waiting)
    for device, entry in held.items():
        total = _added(waiting.pop(device, None), entry)
        (measured if total[1].rows >= minimum_rows else waiting)[device] = total
    return measured, waiting


def _added(before: tuple[str, Measure] | None, entry: tuple[str, Measure]) -> tuple[str, Measure]:
    """Return both together; what another version measured is not mixed in."""
    if before is None or before[0] != entry[0]:
        return entry
    return entry[0], before[1] + entry[1]


def _signals(
    state: DriftState, ended: Iterable[Incident], baseline: Baseline, config: DriftConfig, *, now: float
) -> list[Signal]:
    active = [_signal(incident, baseline, config, resolved_at=None) for incident in state.incidents]
    return [*(_signal(incident, baseline, config, resolved_at=now) for incident in ended), *active]


def _signal(
    incident: Incident, baseline: Baseline, config: DriftConfig, *, resolved_at: float | None
) -> Signal:
    lead = incident.moved[0]
    state: SignalState = "pending" if incident.fired_at is None else "firing"
    is_group = incident.level == "group"
    return Signal(
        kind=_kind(incident.moved, baseline),
        level=incident.level,
        subject=f"{config.group_label}={incident.subject}" if is_group else incident.subject,
        feature=baseline.columns[lead.column].name,
        state=state if resolved_at is None else "resolved",
        since=incident.since,
        fired_at=incident.fired_at,
        resolved_at=resolved_at,
        effect=lead.effect,
        unit=_unit(lead),
        evidence={
            "features": [_feature(moved, baseline.columns[moved.column]) for moved in incident.moved],
            "devices": list(incident.devices),
            "value": incident.value,
            "bound": incident.bound,
        },
    )


def _kind(moved: Sequence[Moved], baseline: Baseline) -> Kind:
    """Return what went wrong: missing values before all, and inputs before the answers they change."""
    inputs = [m for m in moved if baseline.columns[m.column].name not in _PREDICTION]
    if moved[0].leg == "missing":
        return "data-quality"
    if any(LEGS.index(m.leg) < SCORE_LEGS for m in inputs):
        return "data-drift"
    return "data-quality" if inputs else "prediction-drift"


def _unit(moved: Moved) -> str:
    return "sd" if LEGS.index(moved.leg) < SCORE_LEGS else "share"


def _feature(moved: Moved, column: ColumnBaseline) -> dict[str, Any]:
    return {
        "feature": column.name,
        "leg": moved.leg,
        "effect": moved.effect,
        "unit": _unit(moved),
        "evidence": moved.evidence,
    }

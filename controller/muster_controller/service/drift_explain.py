"""An alarm explained: what its detector said, round by round, computed again from stored windows."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from muster_controller.domain.drift.detector import DriftConfig
from muster_controller.domain.drift.groups import groups_of
from muster_controller.domain.drift.replay import Arrived, Asked, Step, Told, replay
from muster_controller.domain.drift.signals import column_name
from muster_controller.domain.drift.state import LEVELS
from muster_controller.service.context import Context
from muster_controller.service.explain_frame import CLOSE, FrameView, frame, moment, unlike, unlike_times
from muster_controller.service.history import show_alarm
from muster_controller.store import devices, reporting, windows
from muster_controller.store.baselines import Baselines
from muster_controller.store.facts import window_facts
from muster_controller.store.views.alarms import DRIFT_KINDS, AlarmView
from muster_controller.store.windows import StoredWindow
from muster_models.errors import RequestError
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.correlation import pair_names

MAX_WINDOWS = 50_000  # that are judged again: some tens of seconds
CHUNK = 1000


@dataclass(frozen=True)
class StepView:
    """One round; logarithms are natural, as in the evidence of alarms.

    Attributes:
        end: Of the round that was judged.
        devices: Devices of the subject that are calibrated.
        value, bound: Of the subject's detector, and what it had to reach to cross.
        column: Of the detector of the column.
        effect: Of this round alone, in the alarm's unit; None when no device of the subject was there.
        recent: Moving average of that.
        state: Of an alarm about the subject: ``quiet``, ``pending``, ``firing`` or ``resolved``.
    """

    end: dt.datetime
    devices: int
    value: float
    bound: float
    column: float
    effect: float | None
    recent: float
    state: str


@dataclass(frozen=True, kw_only=True)
class ExplainView(FrameView):
    """The evidence of one alarm.

    Attributes:
        unit: Of ``effect`` and ``recent``.
        own: Before and after in the feature's own unit, where that can be said.
        windows: How many were judged again.
    """

    feature: str
    leg: str
    unit: str
    own: dict[str, Any]
    steps: tuple[StepView, ...]
    windows: int
    how: Literal["windows"] = "windows"


def explain(context: Context, number: int, *, rounds: int) -> ExplainView:
    """Compute an alarm again from the stored windows.

    Args:
        rounds: How many rounds up to the end of the alarm are shown; all of them are judged.

    Raises:
        NotFoundError: No such alarm, or its baseline is gone.
        RequestError: Its evidence is not that of a drift detector.
    """
    alarm = show_alarm(context, number)
    if alarm.kind not in DRIFT_KINDS or not alarm.evidence.get("features"):
        raise RequestError(f"alarm {number} is of kind {alarm.kind}: no windows explain it")
    baselines, settings = Baselines(context.blobs), context.settings
    baseline = baselines.get(alarm.baseline)
    ended = alarm.resolved_at.timestamp() if alarm.resolved_at else context.clock()
    with context.reading() as session:
        length = reporting.current(session, settings.reporting).window_seconds
        until = ended + length
        held = windows.history(session, alarm.model, alarm.baseline, until=until, limit=MAX_WINDOWS)
        labels = settings.drift.group_labels
        groups = {one.id: groups_of(one.labels, labels) for one in devices.members(session)}
    config = DriftConfig(
        calibration_windows=settings.drift.calibration_windows,
        tolerance=settings.drift.tolerance,
        run_length=settings.drift.run_length,
        minimum_rows=settings.drift.minimum_rows,
        round_seconds=length,
        history_seconds=settings.window_days * 86_400,
    )
    asked = _asked(alarm, baseline)
    told = replay(_arrivals(held, baselines), baseline, config, asked, groups=groups, until=until)
    return _view(alarm, asked, told, rounds=rounds, held=len(held))


def _arrivals(held: Sequence[tuple[float, StoredWindow]], baselines: Baselines) -> Iterator[Arrived]:
    """Yield windows decoded, some at a time: all of them together would not fit everywhere."""
    for at in range(0, len(held), CHUNK):
        part = held[at : at + CHUNK]
        facts = {
            (fact.device, fact.start, fact.end): fact
            for fact in window_facts([one for _, one in part], baselines)
        }
        for when, one in part:
            fact = facts.get((one.device, one.start, one.end))
            if fact is not None:
                yield Arrived(when, fact)


def _asked(alarm: AlarmView, baseline: Baseline) -> Asked:
    lead = alarm.evidence["features"][0]
    level = next(one for one in LEVELS if one == alarm.level)
    if alarm.kind == "performance":
        return Asked("performance", level, alarm.subject, 0, str(lead["leg"]))
    columns = range(len(baseline.columns) + len(pair_names(baseline)))
    names = [column_name("data", column, baseline) for column in columns]
    return Asked("data", level, alarm.subject, names.index(lead["feature"]), str(lead["leg"]))


def _view(alarm: AlarmView, asked: Asked, told: Told, *, rounds: int, held: int) -> ExplainView:
    lead = alarm.evidence["features"][0]
    return ExplainView(
        **frame(alarm, _differences(alarm, told), complete=held < MAX_WINDOWS),
        feature=alarm.feature,
        leg=asked.leg,
        unit=str(lead["unit"]),
        own={name: lead[name] for name in ("before", "after", "own_unit") if name in lead},
        steps=tuple(_step(step) for step in told.steps[-rounds:]),
        windows=held,
    )


def _step(step: Step) -> StepView:
    return StepView(
        moment(step.end),
        step.devices,
        step.value,
        step.bound,
        step.column,
        step.effect,
        step.recent,
        step.state,
    )


def _differences(alarm: AlarmView, told: Told) -> Iterator[str]:
    """Yield what is stored otherwise than it was computed again."""
    since = alarm.since.timestamp()
    again = min(told.alarms, key=lambda signal: abs(signal.since - since), default=None)
    if again is None:
        yield "the stored windows raise no alarm about this subject: older windows, or other labels, did"
        return
    fired = alarm.fired_at.timestamp() if alarm.fired_at else None
    yield from unlike_times("began", since, again.since)
    yield from unlike_times("fired", fired, again.fired_at)
    if (alarm.kind, alarm.feature) != (again.kind, again.feature):
        yield f"{alarm.kind} of {alarm.feature} is stored, {again.kind} of {again.feature} was computed"
    for name in ("value", "bound"):
        yield from unlike(name, float(alarm.evidence[name]), float(again.evidence[name]), close=CLOSE)

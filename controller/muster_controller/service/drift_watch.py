"""What the detectors add to the drift page: levels, control bands, evidence, the heat map. Pure."""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from muster_controller.config import DriftSettings
from muster_controller.domain.drift.attribution import LEGS
from muster_controller.domain.drift.calls import measure_calls
from muster_controller.domain.drift.detector import SHARES_OF_RATE, DriftState, decode_state, tolerance_of
from muster_controller.domain.drift.measures import Measure
from muster_controller.domain.drift.state import LEVELS, Level, Part
from muster_controller.domain.drift.units import in_milliseconds, in_own_unit
from muster_controller.domain.facts import WindowFacts
from muster_controller.service.drift_control import (
    QUALITY,
    VALUES,
    Band,
    Piece,
    count_calibrated,
    make_band,
    make_heat,
    read_evidence,
)
from muster_controller.service.drift_figures import Period, Scene
from muster_controller.service.drift_views import (
    CallsView,
    ControlView,
    DriftView,
    EvidenceView,
    FeatureView,
    newest,
)
from muster_controller.store.views.alarms import AlarmView
from muster_controller.store.views.shadows import MEDIAN, SLOW, reached
from muster_controller.store.views.windows import WindowBytes
from muster_models.errors import SketchError
from muster_models.sketch.baseline import Baseline

LATENCY, ERRORS = "latency", "errors"  # what alarms call the two columns of calls
NOT_SAID = (None, None)
Told = tuple[Level, str]  # whom something is about
Normal = tuple[Band | None, Mapping[tuple[int, bool], EvidenceView]]


@dataclass(frozen=True)
class Watch:
    """What the detectors remember of a model on a baseline, and what is looked at.

    Attributes:
        devices: None for all.
        pieces: What these measured.
        made: What is normal for whom, as far as it was asked for.
    """

    state: DriftState
    settings: DriftSettings
    period: Period
    scene: Scene
    devices: Collection[str] | None
    baseline: Baseline
    pieces: dict[Part, Sequence[Piece]] = field(default_factory=dict)
    made: dict[tuple[Part, Told], Normal] = field(default_factory=dict)

    def take_in(self, part: Part, windows: Sequence[WindowBytes], measures: Sequence[Measure]) -> None:
        """Take in what windows of what is looked at measured."""
        self.pieces[part] = [
            Piece(self.period.index(window.end), window.device, measure)
            for window, measure in zip(windows, measures, strict=True)
        ]

    def control(
        self, part: Part, column: int, alarm: AlarmView | None, *, quality: bool
    ) -> ControlView | None:
        """Return what is normal for whom an alarm is about, or else for what is looked at."""
        level, subject = self.scene.level, self.scene.subject
        devices: Collection[str] | None = None
        if alarm is not None and level != "device":
            level = next(known for known in LEVELS if known == alarm.level)
            subject, devices = alarm.subject, {*alarm.evidence.get("devices", ())}
        if (part, (level, subject)) not in self.made:
            self.made[part, (level, subject)] = self._normal(part, (level, subject), devices)
        band, evidence = self.made[part, (level, subject)]
        if band is None:
            return None
        found = band.furthest(column, QUALITY if quality else VALUES)
        normal, moved = float(band.normal[column, LEGS.index(found.leg)]), newest(found.moved)
        before, after = (
            None if moved is None else self._own(part, column, found.leg, normal, moved)
        ) or NOT_SAID
        said = evidence.get((column, quality))
        return ControlView(subject, level, *found, evidence=said, before=before, after=after)

    def _own(
        self, part: Part, column: int, leg: str, normal: float, effect: float
    ) -> tuple[float, float] | None:
        if part == "data":
            return in_own_unit(self.baseline.columns[column], leg, normal=normal, effect=effect)
        if leg == "location":
            return in_milliseconds(normal=normal, effect=effect)
        return (normal, normal + effect) if leg in LEGS[QUALITY] else None

    def _normal(self, part: Part, told: Told, devices: Collection[str] | None) -> Normal:
        watched = self.state.parts[part]
        band = make_band(
            [piece for piece in self.pieces[part] if devices is None or piece.device in devices],
            watched,
            told[0],
            buckets=self.period.buckets,
            tolerance=tolerance_of(part, self.settings.tolerance),
            rounds=self.settings.calibration_windows,
        )
        run_length = self.settings.run_length / SHARES_OF_RATE[part]
        return band, read_evidence(watched, *told, run_length=run_length)

    def concerned(self) -> tuple[int, ...]:
        """Return the numbers of the open alarms that are about devices that are looked at."""
        return tuple(
            alarm.id
            for alarm in self.scene.alarms
            if self.devices is None
            or alarm.subject == self.scene.subject
            or not {*alarm.evidence.get("devices", ())}.isdisjoint(self.devices)
        )


@functools.lru_cache(maxsize=4)
def read_state(state: bytes | None, baseline: Baseline) -> DriftState:
    """Return what the detectors remember; nothing where they have seen nothing, or begin anew.

    The state of a large fleet takes some time to decode, and a page is looked at more often than it changes.
    """
    try:
        return DriftState.new(baseline) if state is None else decode_state(state)
    except SketchError:  # of an older program: the loop begins anew, and says so
        return DriftState.new(baseline)


def with_watch(
    view: DriftView,
    watch: Watch,
    *,
    windows: Sequence[WindowBytes],
    measured: Sequence[tuple[WindowBytes, Measure]],
) -> DriftView:
    """Return a view that also says what is normal for what is looked at, and what its detectors say."""
    data, rounds = watch.state.parts["data"], watch.settings.calibration_windows
    watch.take_in("data", [window for window, _ in measured], [measure for _, measure in measured])
    told = {window.id: measure for window, measure in measured}
    calls = measure_calls(
        [_facts(window) for window in windows], [told.get(window.id) for window in windows], watch.baseline
    )
    watch.take_in("performance", windows, calls)
    calibrated, watched = count_calibrated(data, watch.devices, rounds)
    groups = {
        device: (f"{watch.scene.label}={value}",) for device, value in watch.scene.groups.items() if value
    }
    heat = make_heat(data, groups, tolerance=watch.settings.tolerance, rounds=rounds)
    view = replace(view, concerned=watch.concerned())
    return replace(
        view,
        features=tuple(_with_control(view, watch, at) for at in range(len(view.features))),
        calibrated=calibrated,
        watched=watched,
        performance=_calls(view, watch, windows),
        heat=tuple(row for row in heat if watch.devices is None or row.subject in watch.devices),
    )


def _with_control(view: DriftView, watch: Watch, at: int) -> FeatureView:
    feature = view.features[at]
    values, quality = (view.about(feature.name, LEGS[legs]) for legs in (VALUES, QUALITY))
    return replace(
        feature,
        control=watch.control("data", at, values, quality=False),
        quality=watch.control("data", at, quality, quality=True),
    )


def _calls(view: DriftView, watch: Watch, windows: Sequence[WindowBytes]) -> CallsView:
    calls, errors = [0] * watch.period.buckets, [0] * watch.period.buckets
    for window in windows:
        at = watch.period.index(window.end)
        calls[at] += window.calls
        errors[at] += window.errors
    counted = [window.latency for window in windows if window.latency]
    latency = [sum(bins) for bins in zip(*counted, strict=True)]
    return CallsView(
        median_ms=reached(latency, MEDIAN),
        slow_ms=reached(latency, SLOW),
        failed=tuple(bad / made if made else None for bad, made in zip(errors, calls, strict=True)),
        latency=watch.control("performance", 0, view.about(LATENCY), quality=False),
        errors=watch.control("performance", 0, view.about(ERRORS), quality=True),
    )


def _facts(window: WindowBytes) -> WindowFacts:
    return WindowFacts(
        window.device,
        window.digest,
        start=window.end,
        end=window.end,
        calls=window.calls,
        errors=window.errors,
        latency=window.latency,
    )

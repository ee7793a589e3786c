"""The figures of the drift page: windows against their baseline, by column, by time and by subject. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from muster_controller.service.drift_views import FeatureView, Level, Series, SubjectView
from muster_controller.store.views.alarms import AlarmView
from muster_controller.store.views.windows import WindowBytes
from muster_models.manifest import ClassOutput, Manifest
from muster_models.sketch import statistics
from muster_models.sketch.baseline import Baseline, ColumnBaseline
from muster_models.sketch.window import Sketch, empty, merge

MAX_SUBJECTS = 50


@dataclass(frozen=True)
class Period:
    """Buckets of time; ``start`` and ``bucket`` in seconds."""

    start: float
    bucket: float
    buckets: int


@dataclass(frozen=True)
class Scene:
    """What is looked at, and the alarms about it; ``groups`` holds each device's value of ``label``."""

    subject: str
    level: Level
    label: str
    groups: Mapping[str, str | None]
    alarms: tuple[AlarmView, ...]

    def is_firing(self, level: Level, subject: str) -> bool:
        """Tell whether an alarm about a subject is firing."""
        return any(
            (alarm.level, alarm.subject, alarm.state) == (level, subject, "firing") for alarm in self.alarms
        )

    def alarm_of(self, feature: str) -> int | None:
        """Return the open alarm that names a column of what is looked at."""
        return next(
            (
                alarm.id
                for alarm in self.alarms
                if (alarm.level, alarm.subject, alarm.feature) == (self.level, self.subject, feature)
            ),
            None,
        )


def add_latency(windows: Sequence[WindowBytes]) -> tuple[int, ...]:
    """Return calls per bin of latency over all windows."""
    counts = [window.latency for window in windows if window.latency]
    return tuple(int(total) for total in np.sum(counts, axis=0)) if counts else ()


def compare_features(
    sketches: Sequence[tuple[WindowBytes, Sketch]],
    baseline: Baseline,
    manifest: Manifest,
    *,
    period: Period,
    scene: Scene,
) -> tuple[FeatureView, ...]:
    """Return every column over the whole period and over time."""
    whole = _merged((sketch for _, sketch in sketches), baseline)
    parts = [empty(baseline)] * period.buckets
    for window, sketch in sketches:
        index = min(period.buckets - 1, max(0, int((window.end - period.start) / period.bucket)))
        parts[index] = merge(parts[index], sketch)
    return tuple(
        _feature(index, column, whole, parts=parts, manifest=manifest, scene=scene)
        for index, column in enumerate(baseline.columns)
    )


def _feature(
    index: int,
    column: ColumnBaseline,
    whole: Sketch,
    *,
    parts: Sequence[Sketch],
    manifest: Manifest,
    scene: Scene,
) -> FeatureView:
    counts, moments = whole.counts[index], whole.moments[index]
    rows = max(1, whole.rows)
    prediction = manifest.prediction
    is_class = column.kind == "class" and isinstance(prediction, ClassOutput)
    return FeatureView(
        name=column.name,
        kind=column.kind,
        unit=column.unit,
        psi=statistics.psi(counts, column) if whole.rows else 0.0,
        ks=statistics.ks(counts, column) if whole.rows else 0.0,
        js=statistics.js(counts, column) if whole.rows else 0.0,
        wasserstein=statistics.wasserstein(counts, column) if whole.rows else 0.0,
        mean=moments.mean if moments.rows else None,
        sd=moments.sd if moments.rows else None,
        baseline_mean=column.mean,
        baseline_sd=column.sd,
        missing=int(counts[-1]) / rows,
        outside=int(counts[column.tail_bins()].sum()) / rows,
        edges=column.edges,
        counts=tuple(counts.tolist()),
        reference=tuple(column.probabilities().tolist()),
        labels=prediction.labels if is_class and isinstance(prediction, ClassOutput) else (),
        series=_series(index, column, parts),
        alarm=scene.alarm_of(column.name),
    )


def _series(index: int, column: ColumnBaseline, parts: Sequence[Sketch]) -> Series:
    seen = [(part.counts[index], part.moments[index]) if part.rows else None for part in parts]
    return Series(
        psi=tuple(None if part is None else statistics.psi(part[0], column) for part in seen),
        ks=tuple(None if part is None else statistics.ks(part[0], column) for part in seen),
        mean=tuple(None if part is None or not part[1].rows else part[1].mean for part in seen),
    )


def compare_subjects(
    sketches: Sequence[tuple[WindowBytes, Sketch]], baseline: Baseline, scene: Scene
) -> tuple[SubjectView, ...]:
    """Return the groups and devices within what is looked at, those that moved most first."""
    if scene.level == "device":
        return ()
    by_subject: dict[tuple[Level, str], list[Sketch]] = {}
    for window, sketch in sketches:
        by_subject.setdefault(("device", window.device), []).append(sketch)
        value = scene.groups.get(window.device)
        if scene.level == "fleet" and value:
            by_subject.setdefault(("group", f"{scene.label}={value}"), []).append(sketch)
    views = [
        _subject(subject, level, _merged(parts, baseline), baseline=baseline, scene=scene)
        for (level, subject), parts in by_subject.items()
    ]
    # Groups before devices, and what moved most before the rest.
    views.sort(key=lambda view: (view.level == "device", -view.psi.get(view.worst, 0.0)))
    return tuple(views[:MAX_SUBJECTS])


def _subject(subject: str, level: Level, sketch: Sketch, *, baseline: Baseline, scene: Scene) -> SubjectView:
    psi = {
        column.name: statistics.psi(counts, column)
        for counts, column in zip(sketch.counts, baseline.columns, strict=True)
    }
    worst = max(psi, key=lambda name: psi[name], default="")
    return SubjectView(subject, level, sketch.rows, psi, worst, scene.is_firing(level, subject))


def _merged(sketches: Iterable[Sketch], baseline: Baseline) -> Sketch:
    whole = empty(baseline)
    for sketch in sketches:
        whole = merge(whole, sketch)
    return whole

"""The figures of the drift page: windows against their baseline, by column, by time and by subject. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_controller.service.drift_views import FeatureView, Level, OthersView, Series, SubjectView
from muster_controller.store.views.alarms import AlarmView
from muster_controller.store.views.windows import WindowBytes
from muster_models.manifest import ClassOutput, Manifest, ValueOutput
from muster_models.sketch import statistics
from muster_models.sketch.baseline import Baseline, ColumnBaseline
from muster_models.sketch.distances import distances
from muster_models.sketch.features import CLASS
from muster_models.sketch.window import Sketch, empty, merge

MAX_SUBJECTS = 50


@dataclass(frozen=True)
class Period:
    """Buckets of time; ``start`` and ``bucket`` in seconds."""

    start: float
    bucket: float
    buckets: int

    @property
    def end(self) -> float:
        """Where the last bucket ends."""
        return self.start + self.buckets * self.bucket

    def index(self, moment: float) -> int:
        """Return the bucket in which a moment lies; what lies outside is in the first or the last."""
        return min(self.buckets - 1, max(0, int((moment - self.start) / self.bucket)))


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


def by_bucket(
    sketches: Sequence[tuple[WindowBytes, Sketch]], period: Period
) -> tuple[Mapping[int, Sketch], ...]:
    """Return the sketches of each bucket of time by the number of their window."""
    found: tuple[dict[int, Sketch], ...] = tuple({} for _ in range(period.buckets))
    for window, sketch in sketches:
        found[period.index(window.end)][window.id] = sketch
    return found


def compare_features(
    parts: Sequence[Sketch], baseline: Baseline, manifest: Manifest, scene: Scene
) -> tuple[FeatureView, ...]:
    """Return every column over the whole period and over time, of which each bucket is one part."""
    whole = _merged(parts, baseline)
    return tuple(
        _feature(index, whole, parts=parts, baseline=baseline, manifest=manifest, scene=scene)
        for index in range(len(baseline.columns))
    )


def _feature(
    index: int,
    whole: Sketch,
    *,
    parts: Sequence[Sketch],
    baseline: Baseline,
    manifest: Manifest,
    scene: Scene,
) -> FeatureView:
    column = baseline.columns[index]
    counts, moments = whole.counts[index], whole.moments[index]
    rows = max(1, whole.rows)
    at, moved = statistics.moved_most(counts, column)
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
        labels=_labels(column, manifest.prediction),
        series=_series(index, column, parts),
        alarm=scene.alarm_of(column.name),
        linf=moved if whole.rows else 0.0,
        moved=statistics.bin_name(column, at) if whole.rows else "",
        chi2=statistics.chi2(counts, column) if whole.rows else 0.0,
        infinite=0.0 if column.infinite is None else int(counts[column.infinite]) / rows,
        others=_others(index, whole, baseline),
    )


def _labels(column: ColumnBaseline, prediction: ClassOutput | ValueOutput) -> tuple[str, ...]:
    classes = prediction.labels if isinstance(prediction, ClassOutput) else ()
    if column.kind == "class":
        return classes
    if column.kind != "category":
        return ()
    if column.name == CLASS:  # too many to count each apart: the values are numbers of classes
        named = dict(zip(map(str, range(len(classes))), classes, strict=True))
        return (*(named.get(value, value) for value in column.values), "other")
    return (*column.values, "other")


def _others(index: int, whole: Sketch, baseline: Baseline) -> OthersView | None:
    if baseline.columns[index].kind != "category":
        return None
    others = whole.others[sum(column.kind == "category" for column in baseline.columns[:index])]
    return OthersView(others.distinct, others.heavy, others.error) if others.rows else None


def _series(index: int, column: ColumnBaseline, parts: Sequence[Sketch]) -> Series:
    far = distances(np.array([part.counts[index] for part in parts]), column)
    seen = [bool(part.rows) for part in parts]
    moments = [part.moments[index] for part in parts]
    return Series(
        psi=tuple(value if held else None for value, held in zip(far.psi.tolist(), seen, strict=True)),
        ks=tuple(value if held else None for value, held in zip(far.ks.tolist(), seen, strict=True)),
        mean=tuple(one.mean if one.rows else None for one in moments),
    )


def compare_subjects(
    sketches: Sequence[tuple[WindowBytes, Sketch]], baseline: Baseline, scene: Scene
) -> tuple[SubjectView, ...]:
    """Return the groups and devices within what is looked at, those that moved most first."""
    if scene.level == "device" or not sketches:
        return ()
    subjects, members = _members([window.device for window, _ in sketches], scene)
    starts, order = np.cumsum([0, *map(len, members[:-1])]), np.concatenate(members)
    psi = np.stack(
        [
            distances(_sums([sketch.counts[at] for _, sketch in sketches], order, starts), column).psi
            for at, column in enumerate(baseline.columns)
        ]
    )
    rows = _sums([np.array([sketch.rows]) for _, sketch in sketches], order, starts)[:, 0]
    # Groups before devices, and what moved most before the rest.
    places = sorted(range(len(subjects)), key=lambda at: (subjects[at][0] == "device", -psi[:, at].max()))
    return tuple(
        _subject(*subjects[at], int(rows[at]), psi[:, at], baseline=baseline, scene=scene)
        for at in places[:MAX_SUBJECTS]
    )


def _members(devices: Sequence[str], scene: Scene) -> tuple[list[tuple[Level, str]], list[list[int]]]:
    """Return every group and device of some windows, and which of the windows are theirs."""
    found: dict[tuple[Level, str], list[int]] = {}
    for at, device in enumerate(devices):
        found.setdefault(("device", device), []).append(at)
        value = scene.groups.get(device)
        if scene.level == "fleet" and value:
            found.setdefault(("group", f"{scene.label}={value}"), []).append(at)
    return list(found), list(found.values())


def _sums(
    counts: Sequence[NDArray[np.int64]], order: NDArray[np.intp], starts: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Return the counts of all windows of each subject together."""
    return np.asarray(np.add.reduceat(np.stack(counts)[order], starts, axis=0))


def _subject(
    level: Level,
    subject: str,
    rows: int,
    values: NDArray[np.float32],
    *,
    baseline: Baseline,
    scene: Scene,
) -> SubjectView:
    psi = {column.name: float(value) for column, value in zip(baseline.columns, values, strict=True)}
    worst = max(psi, key=lambda name: psi[name], default="")
    return SubjectView(subject, level, rows, psi, worst, scene.is_firing(level, subject))


def _merged(sketches: Iterable[Sketch], baseline: Baseline) -> Sketch:
    whole = empty(baseline)
    for sketch in sketches:
        whole = merge(whole, sketch)
    return whole

"""The drift page as values. Distances are for people to look at; ``domain.drift`` decides about alarms."""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from muster_controller.domain.drift.measures import ANSWERS
from muster_controller.store.views.alarms import AlarmView
from muster_controller.store.views.names import VersionRef
from muster_models.sketch.baseline import Origin

Level = Literal["device", "group", "fleet"]


@dataclass(frozen=True)
class Series:
    """One value per bucket of time, oldest first; None where there was no row."""

    psi: tuple[float | None, ...]
    ks: tuple[float | None, ...]
    mean: tuple[float | None, ...]


def newest(values: Sequence[float | None]) -> float | None:
    """Return the last value that is known."""
    return next((value for value in reversed(values) if value is not None), None)


@dataclass(frozen=True)
class EvidenceView:
    """Evidence against "nothing changed": decimal logarithms of an e-value and of what raises an alarm."""

    value: float
    bound: float


@dataclass(frozen=True)
class ControlView:
    """How far a column is from a subject's own level, and what is normal for it by its calibration.

    One value per bucket of time, oldest first; None where there was no row of a calibrated device.

    Attributes:
        subject, level: Whom an open alarm is about; without one, what is looked at.
        leg: What ``moved`` is about: the plainest of what left the band far.
        distance: Of the leg that is furthest in each bucket, in halves of its band: above 1 is outside.
        moved, allowed: Distance from the level, and half the width of the band: in standard deviations, or
            as a share of the rows for ``missing`` and ``outside``.
        evidence: Of the subject's detector; None where it is not watched.
        before, after: By the calibration and now, in the column's own unit or as a share of the rows; None
            where neither says it.
    """

    subject: str
    level: Level
    leg: str
    distance: tuple[float | None, ...]
    moved: tuple[float | None, ...]
    allowed: tuple[float | None, ...]
    evidence: EvidenceView | None
    before: float | None = None
    after: float | None = None

    @property
    def last(self) -> float | None:
        """The newest distance that is known."""
        return newest(self.distance)

    @property
    def rank(self) -> tuple[float, float]:
        """What says most that something moved: evidence, then the distance now."""
        return self.evidence.value if self.evidence else 0.0, self.last or 0.0


@dataclass(frozen=True)
class HeatCell:
    """How far a column of a subject is from its own level of late.

    Attributes:
        leg: What moved furthest, by ``effect``; ``unit`` is ``sd`` or ``share``.
        distance: In halves of what is normal for it: above 1 is outside.
    """

    leg: str
    effect: float
    unit: str
    distance: float


@dataclass(frozen=True)
class HeatRow:
    """A group or a device, with a cell for each column of the baseline."""

    subject: str
    level: Level
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True)
class CallsView:
    """How calls went.

    Attributes:
        median_ms, slow_ms: Half of the calls, and 95 in 100, took at most so long; None where unknown.
        failed: Share of calls that failed, by bucket of time.
        latency, errors: Distance from the subject's own level; of latency in standard deviations of its
            score, each about five of the bins of ``LATENCY_EDGES_MS``. None while nothing is calibrated.
    """

    median_ms: float | None
    slow_ms: float | None
    failed: tuple[float | None, ...]
    latency: ControlView | None = None
    errors: ControlView | None = None


@dataclass(frozen=True)
class OthersView:
    """Values of a category that the baseline does not count apart.

    Attributes:
        distinct: About how many, with a standard error of 13 %.
        heavy: The most frequent, by name where the version declares ``reveal``, and at least how many rows.
        error: By how many rows each of ``heavy`` may be too low.
    """

    distinct: float
    heavy: tuple[tuple[str, int], ...]
    error: int


@dataclass(frozen=True)
class FeatureView:
    """One column over the whole period, against the baseline.

    Attributes:
        wasserstein: In standard deviations of the baseline.
        missing: Share of rows without a value.
        outside: Share of rows beyond everything the baseline held; infinite ones where it held none.
        edges: Bin i holds ``edges[i-1] <= value < edges[i]``; the last two of ``counts`` are infinite and
            missing values.
        reference: The baseline's probability of each bin.
        labels: Names of the classes, for a ``class`` column: class i is bin i + 1. Names of the bins, for a
            ``category``.
        alarm: An open alarm that names this column and what is looked at.
        linf, moved: The largest change of a bin's share, -1..1 with its sign, and the name of that bin.
        chi2: Pearson's statistic over its degrees of freedom, about 1 for independent rows without drift.
        infinite: Share of rows with an infinite value.
        others: Of a category in which other values were seen.
        control: Of its values; None while nothing is calibrated.
        quality: Of its missing values and those outside the baseline.
    """

    name: str
    kind: str
    unit: str
    psi: float
    ks: float
    js: float
    wasserstein: float
    mean: float | None
    sd: float | None
    baseline_mean: float
    baseline_sd: float
    missing: float
    outside: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    reference: tuple[float, ...]
    labels: tuple[str, ...]
    series: Series
    alarm: int | None
    linf: float = 0.0
    moved: str = ""
    chi2: float = 0.0
    infinite: float = 0.0
    others: OthersView | None = None
    control: ControlView | None = None
    quality: ControlView | None = None

    @property
    def is_prediction(self) -> bool:
        """Whether it is what the model answers, not what it sees."""
        return self.name in ANSWERS


@dataclass(frozen=True)
class SubjectView:
    """One group or device within what is looked at: PSI by column over the whole period.

    Attributes:
        firing: An alarm about it is firing.
    """

    subject: str
    level: Level
    rows: int
    psi: dict[str, float]
    worst: str
    firing: bool


@dataclass(frozen=True)
class BaselineView:
    """A baseline with the versions that share it."""

    baseline: str
    versions: tuple[VersionRef, ...]
    windows: int


@dataclass(frozen=True)
class DriftView:
    """What a model saw.

    Attributes:
        choices: Groups that can be looked at, as ``label=value``.
        buckets: Start of each bucket of the series.
        devices: Of which there are windows in the period.
        truncated: Only the newest windows of the period were read.
        latency: Calls per bin of ``LATENCY_EDGES_MS``.
        subjects: Groups and devices within it, the ones that moved most first, at most 50.
        alarms: Open ones of this model and baseline.
        origin: Of what the baseline was made; where it is not ``reference`` rows, drift is relative to ranges
            that were ``declared``, or to the first windows of the ``fleet``.
        left_out: Windows of all times that the detectors did not judge, or judged late, by reason.
    """

    model: str
    subject: str
    level: Level
    baseline: str
    versions: tuple[VersionRef, ...]
    baselines: tuple[BaselineView, ...]
    choices: tuple[str, ...]
    start: dt.datetime
    end: dt.datetime
    bucket_seconds: float
    buckets: tuple[dt.datetime, ...]
    devices: int
    windows: int
    truncated: bool
    rows: int
    calls: int
    errors: int
    latency: tuple[int, ...]
    features: tuple[FeatureView, ...]
    subjects: tuple[SubjectView, ...]
    alarms: tuple[AlarmView, ...]
    origin: Origin = "reference"
    calibrated: int = 0
    watched: int = 0
    performance: CallsView | None = None
    concerned: tuple[int, ...] = ()
    heat: tuple[HeatRow, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def ranked(self) -> tuple[FeatureView, ...]:
        """Features by what says most that their values moved."""
        return tuple(sorted(self.features, key=_values_rank, reverse=True))

    @property
    def by_quality(self) -> tuple[FeatureView, ...]:
        """Features of the input by what says most that their quality fell."""
        inputs = [feature for feature in self.features if not feature.is_prediction]
        return tuple(sorted(inputs, key=_quality_rank, reverse=True))

    def about(self, feature: str, legs: Collection[str] = ()) -> AlarmView | None:
        """Return the open alarm of what is looked at that says most of a feature, of some legs or of any."""
        found = [
            (float(moved["evidence"]), -alarm.id, alarm)
            for alarm in self.alarms
            if alarm.id in self.concerned
            for moved in alarm.evidence.get("features", ())
            if moved["feature"] == feature and (not legs or moved["leg"] in legs)
        ]
        return max(found)[2] if found else None


def _values_rank(feature: FeatureView) -> tuple[float, float, float]:
    return *(feature.control.rank if feature.control else (0.0, 0.0)), feature.psi


def _quality_rank(feature: FeatureView) -> tuple[float, float, float]:
    return *(feature.quality.rank if feature.quality else (0.0, 0.0)), feature.missing + feature.outside

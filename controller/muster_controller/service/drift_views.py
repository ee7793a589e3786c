"""The drift page as values. Distances are for people to look at; ``domain.drift`` decides about alarms."""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from muster_controller.store.views.alarms import AlarmView
from muster_controller.store.views.names import VersionRef

Level = Literal["device", "group", "fleet"]


@dataclass(frozen=True)
class Series:
    """One value per bucket of time, oldest first; None where there was no row."""

    psi: tuple[float | None, ...]
    ks: tuple[float | None, ...]
    mean: tuple[float | None, ...]


@dataclass(frozen=True)
class FeatureView:
    """One column over the whole period, against the baseline.

    Attributes:
        wasserstein: In standard deviations of the baseline.
        missing: Share of rows without a value.
        outside: Share of rows beyond everything the baseline held.
        edges: Bin i holds ``edges[i-1] <= value < edges[i]``; the last of ``counts`` counts missing values.
        reference: The baseline's probability of each bin.
        labels: Names of the classes, for a ``class`` column: class i is bin i + 1.
        alarm: An open alarm that names this column and what is looked at.
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

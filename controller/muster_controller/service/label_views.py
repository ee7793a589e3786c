"""The truth about a model's predictions as values, for pages and programs."""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from muster_controller.store.views.alarms import AlarmView
from muster_controller.store.views.names import VersionRef

Level = Literal["device", "group", "fleet"]
Method = Literal["beta-binomial mixture, exact", "asymptotic"]


@dataclass(frozen=True)
class MeasureView:
    """An accuracy or a mean error, of the predictions that were labelled.

    Attributes:
        n: Of how many predictions.
        value: None without any.
        low, high: An interval that holds the truth at all times together with 95 % confidence, however often
            one looks; None where it has no end.
    """

    n: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CellView:
    """How often one class was predicted for another, or for itself."""

    predicted: str
    true: str
    n: int


@dataclass(frozen=True)
class SubjectTruthView:
    """One group or device within what is looked at; ``firing`` tells of an alarm about it."""

    subject: str
    level: Level
    measure: MeasureView
    firing: bool


@dataclass(frozen=True)
class SelectionView:
    """How the labelled predictions differ from all: nobody labels at random.

    Attributes:
        share: Labelled, of the rows that were sketched in the period; None where none were.
        confidence, confidence_of_all: Mean score of the labelled ones, and of all.
        caveat: In words.
    """

    share: float | None
    confidence: float | None
    confidence_of_all: float | None
    caveat: str


@dataclass(frozen=True)
class EstimateView:
    """What the accuracy would be without any label, from how sure the model was: an estimate.

    Attributes:
        error: Twice the standard error by the number of rows; it knows nothing of wrong assumptions.
        is_calibrated: Scores were held against the evaluation set when the version was published.
        assumptions: Under which it holds, in words.
    """

    value: float
    error: float
    rows: int
    is_calibrated: bool
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class VersionTruthView:
    """What became known of one version.

    Attributes:
        metric: ``accuracy`` or ``mae``.
        signed: As measured at publishing; ``allowed`` is what raises no alarm yet.
        bias: Of values: the mean of prediction less truth.
        series: One per bucket of time, oldest first; intervals of a bucket hold on their own.
        confusion: Of classes, the most frequent first, at most 100.
        subjects: Worst first, at most 50.
        estimate: Of classes, where rows were sketched.
    """

    version: VersionRef
    metric: str
    unit: str
    method: Method
    signed: float | None
    allowed: float | None
    measure: MeasureView
    bias: float | None
    series: tuple[MeasureView, ...]
    confusion: tuple[CellView, ...]
    subjects: tuple[SubjectTruthView, ...]
    selection: SelectionView
    estimate: EstimateView | None


@dataclass(frozen=True)
class LabelsView:
    """What became known of a model's predictions.

    Attributes:
        buckets: Start of each bucket of the series.
        versions: That were labelled or ran in the period, newest release first.
        truncated: There is more in the period than is read at once: only the newest windows are shown.
        alarms: Open ones about concept drift.
    """

    model: str
    subject: str
    level: Level
    start: dt.datetime
    end: dt.datetime
    bucket_seconds: float
    buckets: tuple[dt.datetime, ...]
    truncated: bool
    versions: tuple[VersionTruthView, ...]
    alarms: tuple[AlarmView, ...]


@dataclass(frozen=True)
class ArmTruthView:
    """One arm of a rollout: predictions of windows since it started.

    Attributes:
        arm: ``treated``: devices of the stages, on the new version. ``control``: on another one.
        devices: That were labelled.
    """

    arm: Literal["treated", "control"]
    devices: int
    metric: str
    method: Method
    measure: MeasureView


@dataclass(frozen=True)
class ArmsView:
    """What labels say of a rollout; no gate judges by it."""

    rollout: int
    since: dt.datetime
    arms: tuple[ArmTruthView, ...]

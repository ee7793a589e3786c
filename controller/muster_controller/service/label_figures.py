"""Figures about labelled predictions: from counts and sketches to what is shown. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_controller.domain.labels import intervals
from muster_controller.domain.labels.counts import Counts, total
from muster_controller.domain.labels.estimate import centres, estimate
from muster_controller.service.label_views import (
    CellView,
    EstimateView,
    Level,
    MeasureView,
    Method,
    SelectionView,
    SubjectTruthView,
)
from muster_controller.store.labels import Entry
from muster_models.manifest import ClassOutput, Manifest
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.features import CONFIDENCE
from muster_models.sketch.window import Sketch

MAX_CELLS = 100
MAX_SUBJECTS = 50
_ALIKE = 0.05  # of mean confidence: labelled and all predictions look alike
ASSUMPTIONS = (
    "no concept drift: what is right for an input has not changed",
    "inputs that the evaluation set hardly held may be scored too high or too low",
)
CALIBRATED = "scores mean what they meant on the evaluation set"
AT_THEIR_WORD = (
    "scores are probabilities: the version was published without counts of how often they are right"
)


@dataclass(frozen=True)
class Seen:
    """What a version predicted in the period, labelled or not: rows per bin of confidence."""

    rows: int
    bins: NDArray[np.int64]
    middle: NDArray[np.float64]

    @property
    def confidence(self) -> float | None:
        """Mean score; None without any."""
        held = int(self.bins.sum())
        return float(self.bins @ self.middle) / held if held else None


def metric_of(manifest: Manifest) -> tuple[str, Method]:
    """Return what is measured, and the kind of its intervals."""
    if isinstance(manifest.prediction, ClassOutput):
        return "accuracy", "beta-binomial mixture, exact"
    return "mae", "asymptotic"


def measure(counts: Counts, manifest: Manifest) -> MeasureView:
    """Return the accuracy or the mean error with its interval."""
    if isinstance(manifest.prediction, ClassOutput):
        found = intervals.accuracy(counts.n - counts.wrong, counts.n)
    else:
        found = intervals.mean(counts.n, counts.absolute, counts.square)
    return MeasureView(counts.n, _finite(found.value), _finite(found.low), _finite(found.high))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def series(
    entries: Iterable[Entry], manifest: Manifest, *, start: float, bucket: float, buckets: int
) -> tuple[MeasureView, ...]:
    """Return the measure of each bucket of time, by the end of the windows."""
    parts = [Counts()] * buckets
    for entry in entries:
        index = min(buckets - 1, max(0, int((entry.cell.end - start) / bucket)))
        parts[index] += entry.counts
    return tuple(measure(part, manifest) for part in parts)


def confusion(counts: Counts, manifest: Manifest) -> tuple[CellView, ...]:
    """Return what was predicted for what, the most frequent first."""
    if not isinstance(manifest.prediction, ClassOutput):
        return ()
    names = manifest.prediction.labels
    cells = sorted(counts.confusion.items(), key=lambda cell: (-cell[1], cell[0]))[:MAX_CELLS]
    return tuple(CellView(names[predicted], names[true], n) for (predicted, true), n in cells)


def subjects(
    entries: Iterable[Entry],
    manifest: Manifest,
    groups: Mapping[str, Sequence[str]],
    *,
    level: Level,
    firing: frozenset[tuple[str, str]],
) -> tuple[SubjectTruthView, ...]:
    """Return groups and devices within what is looked at: groups first, then the worst."""
    if level == "device":
        return ()
    held: dict[tuple[Level, str], list[Counts]] = {}
    for entry in entries:
        device = entry.cell.device
        held.setdefault(("device", device), []).append(entry.counts)
        for group in groups.get(device, ()) if level == "fleet" else ():
            held.setdefault(("group", group), []).append(entry.counts)
    views = [
        SubjectTruthView(name, of, measure(total(counts), manifest), (of, name) in firing)
        for (of, name), counts in held.items()
    ]
    sign = 1 if isinstance(manifest.prediction, ClassOutput) else -1
    views.sort(key=lambda view: (view.level == "device", sign * (view.measure.value or 0.0), view.subject))
    return tuple(views[:MAX_SUBJECTS])


def seen(sketches: Iterable[Sketch], baseline: Baseline) -> Seen | None:
    """Return how sure a version was; None where it predicts values."""
    index = next((i for i, one in enumerate(baseline.columns) if one.name == CONFIDENCE), None)
    if index is None:
        return None
    column = baseline.columns[index]
    held = list(sketches)
    bins = sum((one.counts[index][: column.ordinary] for one in held), np.zeros(column.ordinary, np.int64))
    return Seen(sum(one.rows for one in held), np.asarray(bins), centres(column.edges))


def selection(counts: Counts, of_all: Seen | None, rows: int) -> SelectionView:
    """Return how the labelled predictions differ from all."""
    share = min(1.0, counts.n / rows) if rows else None
    mine = counts.confidence / counts.sure if counts.sure else None
    theirs = None if of_all is None else of_all.confidence
    caveat = "of the predictions that were labelled; nobody labels at random"
    if mine is not None and theirs is not None:
        if abs(mine - theirs) <= _ALIKE:
            caveat = "of the predictions that were labelled, which the model was as sure of as of all"
        else:
            word = "less" if mine < theirs else "more"
            caveat = f"of the predictions that were labelled, which the model was {word} sure of than of all"
    return SelectionView(share, mine, theirs, caveat)


def estimated(manifest: Manifest, of_all: Seen | None) -> EstimateView | None:
    """Return the accuracy without labels; None where there is nothing to estimate it from."""
    found = None if of_all is None else estimate(of_all.bins.tolist(), of_all.middle, manifest.reliability)
    if found is None:
        return None
    first = CALIBRATED if found.is_calibrated else AT_THEIR_WORD
    return EstimateView(found.value, found.error, found.rows, found.is_calibrated, (first, *ASSUMPTIONS))

"""What two versions can be compared by, read from one window.

Versions have baselines of their own, so their bins differ and counts cannot be compared bin by bin. What is
compared is therefore what means the same under any bins: shares of calls and values, the latency, the mean
confidence and the share of each class (their bins depend on the number of classes alone), for a predicted
number its mean and spread in its own unit, read from the middles of the bins, and what the application
counts, per call. Columns of inputs are left out but for missing values and those outside of what each version
was evaluated on: both arms see the same world.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from muster_controller.domain.facts import WindowFacts
from muster_controller.domain.labels.estimate import centres, rates
from muster_controller.domain.rollouts.planning.conditions import (
    ACCURACY,
    CLASS_MIX,
    CONFIDENCE,
    COUNTER_PREFIX,
    ERRORS,
    ESTIMATE,
    INVALID,
    LATENCY,
    MISSING,
    SLOW,
    SLOWEST,
    VALUE,
    Margins,
)
from muster_models.sketch.baseline import ColumnBaseline
from muster_models.sketch.features import CLASS
from muster_models.sketch.features import CONFIDENCE as CONFIDENCE_COLUMN
from muster_models.sketch.features import VALUE as VALUE_COLUMN
from muster_models.wire import LATENCY_EDGES_MS

Array = NDArray[np.float64]

VALUE_MEAN, VALUE_SPREAD = "value mean", "value spread"
CLASS_PREFIX = "class "
# By gate, see ``gate_of``; shares where it is not named.
UNITS = {LATENCY: "ln(1 + ms / 5)", CONFIDENCE: "", VALUE: "sd"}
LATENCY_UNIT_MS = 5.0  # below this, calls are fast whatever they take
MEDIAN, TAIL = 0.5, 0.95
_MIDDLES_MS = np.sqrt(np.array([0.025, *LATENCY_EDGES_MS]) * np.array([*LATENCY_EDGES_MS, 4000.0]))
_LATENCY_SCORES = np.log1p(_MIDDLES_MS / LATENCY_UNIT_MS)
_NOT_FAST = LATENCY_EDGES_MS.index(LATENCY_UNIT_MS) + 1  # first bin of calls that are not fast
_SHARES = frozenset({ERRORS, MISSING, INVALID, SLOW, SLOWEST, ACCURACY})


@dataclass(frozen=True)
class Reading:
    """One gauge in one window, or several added up.

    Attributes:
        rows: Calls or rows that it is a mean of.
        mean: The gauge.
        variance: Of one row.
    """

    rows: float
    mean: float
    variance: float

    def __add__(self, other: "Reading") -> "Reading":
        """Return the reading of both windows together."""
        rows = self.rows + other.rows
        if rows == 0:
            return self
        share = other.rows / rows
        apart = (other.mean - self.mean) ** 2 * share * (1 - share)
        return Reading(
            rows,
            self.mean + (other.mean - self.mean) * share,
            self.variance + (other.variance - self.variance) * share + apart,
        )


@dataclass(frozen=True)
class Scale:
    """The unit of a predicted number: mean and standard deviation of the incumbent's baseline."""

    mean: float
    sd: float


@dataclass(frozen=True)
class Lens:
    """What a window is read with.

    Attributes:
        scale: Of a predicted number; None when there is none.
        slow: First bins of calls that are slow for this device, see ``slow_bins``; None while not known.
        counters: Names that the plan compares.
        reliability: Of the version that answered, where the plan asks for an estimate.
    """

    scale: Scale | None = None
    slow: tuple[int, int] | None = None
    counters: Mapping[str, object] = field(default_factory=dict)
    reliability: Sequence[tuple[int, int]] = ()


def scale_of(window: WindowFacts) -> Scale | None:
    """Return the unit of a window's predicted number; None when it predicts none."""
    for column in window.baseline.columns if window.baseline is not None else ():
        if column.name == VALUE_COLUMN:
            return Scale(column.mean, column.sd or 1.0)
    return None


def slow_bins(latency: Sequence[int]) -> tuple[int, int]:
    """Return the first bins that are slow beside a device's median and its 95 % point.

    A whole bin lies between, so what is slow took at least twice as long; and never less than 5 ms.
    """
    below = np.cumsum(latency) / max(sum(latency), 1)
    at = [int(np.searchsorted(below, share)) for share in (MEDIAN, TAIL)]
    return max(at[0] + 2, _NOT_FAST), max(at[1] + 2, _NOT_FAST)


def read(window: WindowFacts, lens: Lens) -> dict[str, Reading]:
    """Return every gauge that a window says something about; empty for a silent one."""
    readings: dict[str, Reading] = {}
    if window.calls > 0:
        readings[ERRORS] = _share(window.errors, window.calls)
        # A name that is absent was never told, which is not the same as none.
        for name in lens.counters.keys() & window.counters.keys():
            readings[COUNTER_PREFIX + name] = _rate(window.counters[name], window.calls)
    if len(window.latency) == len(_LATENCY_SCORES) and sum(window.latency) > 0:
        calls = np.asarray(window.latency, dtype=np.float64)
        readings[LATENCY] = _mean(calls, _LATENCY_SCORES)
        for gauge, first in zip((SLOW, SLOWEST), lens.slow or (), strict=False):
            readings[gauge] = _share(float(calls[first:].sum()), float(calls.sum()))
    if window.sketch is not None and window.baseline is not None and window.sketch.rows > 0:
        named = zip(window.baseline.columns, window.sketch.counts, strict=True)
        columns = [(column, counts.astype(np.float64)) for column, counts in named]
        readings |= _read_quality(columns)
        for column, counts in columns:
            readings |= _read_prediction(column, counts, lens)
    return readings


def missing_predictions(window: WindowFacts) -> tuple[int, int]:
    """Return how many predictions of a window were not a number, and how many there were."""
    if window.sketch is None or window.baseline is None:
        return 0, 0
    for column, counts in zip(window.baseline.columns, window.sketch.counts, strict=True):
        if column.name in {CONFIDENCE_COLUMN, VALUE_COLUMN}:
            return int(counts[column.ordinary :].sum()), int(counts.sum())
    return 0, 0


def margin_of(gauge: str, margins: Margins) -> float:
    """Return how far a gauge may move; infinitely far for one that the plan does not ask for."""
    if gauge.startswith(COUNTER_PREFIX):
        counter = margins.counters.get(gauge.removeprefix(COUNTER_PREFIX))
        return counter.margin if counter is not None else float("inf")
    by_gauge: dict[str, float | None] = {
        ERRORS: margins.errors,
        MISSING: margins.missing,
        INVALID: margins.invalid,
        LATENCY: margins.latency,
        SLOW: margins.slow,
        SLOWEST: margins.slowest,
        CONFIDENCE: margins.confidence,
        VALUE_MEAN: margins.value,
        VALUE_SPREAD: margins.value,
        ESTIMATE: margins.estimate,
        ACCURACY: margins.accuracy,
    }
    margin = by_gauge.get(gauge, margins.classes)
    return margin if margin is not None else float("inf")


def sides_of(gauge: str, margins: Margins) -> tuple[float, ...]:
    """Return the directions in which a gauge must not move: 1 for up, -1 for down."""
    if gauge.startswith(COUNTER_PREFIX):
        counter = margins.counters.get(gauge.removeprefix(COUNTER_PREFIX))
        return {"up": (1.0,), "down": (-1.0,)}.get(counter.direction if counter else "", (1.0, -1.0))
    if gauge in {ERRORS, MISSING, INVALID, LATENCY, SLOW, SLOWEST}:
        return (1.0,)
    return (-1.0,) if gauge in {CONFIDENCE, ESTIMATE, ACCURACY} else (1.0, -1.0)


def gate_of(gauge: str) -> str:
    """Return the gate that a gauge belongs to: all classes are one gate, as are mean and spread."""
    if gauge.startswith(CLASS_PREFIX):
        return CLASS_MIX
    return VALUE if gauge in {VALUE_MEAN, VALUE_SPREAD} else gauge


def unit_of(gate: str) -> str:
    """Return the unit of a gate's figures."""
    return "per call" if gate.startswith(COUNTER_PREFIX) else UNITS.get(gate, "share")


def least_variance(gauge: str, level: float, margin: float) -> float:
    """Return the variance that one row has at least where a gauge stands at the edge of its margin.

    A share that was 0 before has no variance of its own, and one failed call would then prove everything. A
    share at the edge has variance p (1 - p), a count at least its own mean (Poisson): so much is granted.
    """
    if gauge in _SHARES or gauge.startswith(CLASS_PREFIX):
        edge = min(max(level, 0.0) + margin, 0.5)
        return edge * (1 - edge)
    return max(level, 0.0) + margin if gauge.startswith(COUNTER_PREFIX) else 0.0


def _read_quality(columns: Sequence[tuple[ColumnBaseline, Array]]) -> dict[str, Reading]:
    cells = sum(float(counts.sum()) for _, counts in columns)
    absent = sum(float(counts[column.ordinary :].sum()) for column, counts in columns)
    readings = {MISSING: _share(absent, cells)}
    # Predictions have ranges of their own in each version; what else lies outside is the version's matter.
    inputs = [(c, n[: c.ordinary]) for c, n in columns if c.kind in {"numeric", "category"}]
    inputs = [(column, held) for column, held in inputs if column.name != VALUE_COLUMN and held.sum() > 0]
    if inputs:
        outside = sum(float(held[column.tail_bins()[: column.ordinary]].sum()) for column, held in inputs)
        readings[INVALID] = _share(outside, sum(float(held.sum()) for _, held in inputs))
    return readings


def _read_prediction(column: ColumnBaseline, counts: Array, lens: Lens) -> dict[str, Reading]:
    held = counts[: column.ordinary]
    total = float(held.sum())
    if total == 0:
        return {}
    if column.name == CONFIDENCE_COLUMN:
        return {CONFIDENCE: _mean(held, _middles(column)), **_estimate(column, held, lens)}
    if column.name == CLASS and column.kind == "category":
        # Too many classes to count each apart. What the others are depends on the baseline: no gauge of them.
        named = zip(column.values, held[:-1].tolist(), strict=True)
        return {f"{CLASS_PREFIX}{name}": _share(hits, total) for name, hits in named}
    if column.name == CLASS:
        # Class i is bin i + 1; the first bin is always empty.
        return {f"{CLASS_PREFIX}{i}": _share(float(held[i + 1]), total) for i in range(len(held) - 2)}
    if column.name == VALUE_COLUMN and lens.scale is not None:
        values = (_middles(column) - lens.scale.mean) / lens.scale.sd
        level = _mean(held, values)
        return {VALUE_MEAN: level, VALUE_SPREAD: _mean(held, np.abs(values - level.mean))}
    return {}


def _estimate(column: ColumnBaseline, held: Array, lens: Lens) -> dict[str, Reading]:
    """Return the accuracy that the confidences speak for, by the version's own curve."""
    if not lens.reliability or len(column.edges) < 2:  # noqa: PLR2004 - two make a bin
        return {}
    right = rates(centres(column.edges), lens.reliability)
    return {} if right is None else {ESTIMATE: _mean(held, right)}


def _middles(column: ColumnBaseline) -> Array:
    """Return one value per bin, the missing bin left out; open bins of a number count as their edge."""
    edges = column.edge_array()
    if len(edges) == 0:
        return np.zeros(1)
    inner = (edges[:-1] + edges[1:]) / 2
    reach = (edges[1] - edges[0]) / 2 if column.kind == "confidence" and len(edges) > 1 else 0.0
    return np.concatenate([[edges[0] - reach], inner, [edges[-1] + reach]])


def _share(hits: float, rows: float) -> Reading:
    share = hits / rows
    return Reading(rows, share, share * (1 - share))


def _rate(count: float, calls: float) -> Reading:
    """Return a count per call; one that is rarer than a single call in all still varies."""
    return Reading(calls, count / calls, max(count, 1.0) / calls)


def _mean(counts: Array, values: Array) -> Reading:
    rows = float(counts.sum())
    mean = float(counts @ values) / rows
    return Reading(rows, mean, float(counts @ (values - mean) ** 2) / rows)

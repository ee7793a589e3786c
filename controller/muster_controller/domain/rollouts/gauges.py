"""What two versions can be compared by, read from one window.

Versions have baselines of their own, so their bins differ and counts cannot be compared bin by bin. What is
compared is therefore what means the same under any bins: shares of calls and values, the latency, the mean
confidence and the share of each class (their bins depend on the number of classes alone), and for a
predicted number its mean and spread in its own unit, read from the middles of the bins. Columns of inputs
are left out: both arms see the same world, and a version does not change what it is asked.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_controller.domain.facts import WindowFacts
from muster_controller.domain.rollouts.plan import Margins
from muster_models.sketch.baseline import ColumnBaseline
from muster_models.sketch.features import CLASS, CONFIDENCE, VALUE
from muster_models.wire import LATENCY_EDGES_MS

Array = NDArray[np.float64]

ERRORS, MISSING, LATENCY = "errors", "missing", "latency"
CONFIDENCE_MEAN, VALUE_MEAN, VALUE_SPREAD = "confidence", "value mean", "value spread"
CLASS_PREFIX = "class "
# By gate, see ``gate_of``.
UNITS = {
    "errors": "share",
    "missing": "share",
    "latency": "ln(1 + ms / 5)",
    "confidence": "",
    "class mix": "share",
    "value": "sd",
}
LATENCY_UNIT_MS = 5.0  # below this, calls are fast whatever they take
_MIDDLES_MS = np.sqrt(np.array([0.025, *LATENCY_EDGES_MS]) * np.array([*LATENCY_EDGES_MS, 4000.0]))
_LATENCY_SCORES = np.log1p(_MIDDLES_MS / LATENCY_UNIT_MS)


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


def scale_of(window: WindowFacts) -> Scale | None:
    """Return the unit of a window's predicted number; None when it predicts none."""
    for column in window.baseline.columns if window.baseline is not None else ():
        if column.name == VALUE:
            return Scale(column.mean, column.sd or 1.0)
    return None


def read(window: WindowFacts, scale: Scale | None) -> dict[str, Reading]:
    """Return every gauge that a window says something about; empty for a silent one."""
    readings: dict[str, Reading] = {}
    if window.calls > 0:
        readings[ERRORS] = _share(window.errors, window.calls)
    if len(window.latency) == len(_LATENCY_SCORES) and sum(window.latency) > 0:
        readings[LATENCY] = _mean(np.asarray(window.latency, dtype=np.float64), _LATENCY_SCORES)
    if window.sketch is not None and window.baseline is not None and window.sketch.rows > 0:
        named = zip(window.baseline.columns, window.sketch.counts, strict=True)
        columns = {column.name: (column, counts.astype(np.float64)) for column, counts in named}
        cells = sum(float(counts.sum()) for _, counts in columns.values())
        absent = sum(float(counts[column.ordinary :].sum()) for column, counts in columns.values())
        readings[MISSING] = _share(absent, cells)
        for column, counts in columns.values():
            readings |= _read_prediction(column, counts, scale)
    return readings


def missing_predictions(window: WindowFacts) -> tuple[int, int]:
    """Return how many predictions of a window were not a number, and how many there were."""
    if window.sketch is None or window.baseline is None:
        return 0, 0
    for column, counts in zip(window.baseline.columns, window.sketch.counts, strict=True):
        if column.name in {CONFIDENCE, VALUE}:
            return int(counts[column.ordinary :].sum()), int(counts.sum())
    return 0, 0


def margin_of(gauge: str, margins: Margins) -> float:
    """Return how far a gauge may move."""
    by_gauge = {
        ERRORS: margins.errors,
        MISSING: margins.missing,
        LATENCY: margins.latency,
        CONFIDENCE_MEAN: margins.confidence,
        VALUE_MEAN: margins.value,
        VALUE_SPREAD: margins.value,
    }
    return by_gauge.get(gauge, margins.classes)


def sides_of(gauge: str) -> tuple[float, ...]:
    """Return the directions in which a gauge must not move: 1 for up, -1 for down."""
    if gauge in {ERRORS, MISSING, LATENCY}:
        return (1.0,)
    return (-1.0,) if gauge == CONFIDENCE_MEAN else (1.0, -1.0)


def is_share(gauge: str) -> bool:
    """Tell whether a gauge is a share of rows or calls."""
    return gauge in {ERRORS, MISSING} or gauge.startswith(CLASS_PREFIX)


def gate_of(gauge: str) -> str:
    """Return the gate that a gauge belongs to: all classes are one gate, as are mean and spread."""
    if gauge.startswith(CLASS_PREFIX):
        return "class mix"
    return "value" if gauge in {VALUE_MEAN, VALUE_SPREAD} else gauge


def _read_prediction(column: ColumnBaseline, counts: Array, scale: Scale | None) -> dict[str, Reading]:
    held = counts[: column.ordinary]
    total = float(held.sum())
    if total == 0:
        return {}
    if column.name == CONFIDENCE:
        return {CONFIDENCE_MEAN: _mean(held, _middles(column))}
    if column.name == CLASS and column.kind == "category":
        # Too many classes to count each apart. What the others are depends on the baseline: no gauge of them.
        named = zip(column.values, held[:-1].tolist(), strict=True)
        return {f"{CLASS_PREFIX}{name}": _share(hits, total) for name, hits in named}
    if column.name == CLASS:
        # Class i is bin i + 1; the first bin is always empty.
        return {f"{CLASS_PREFIX}{i}": _share(float(held[i + 1]), total) for i in range(len(held) - 2)}
    if column.name == VALUE and scale is not None:
        values = (_middles(column) - scale.mean) / scale.sd
        return {VALUE_MEAN: _mean(held, values), VALUE_SPREAD: _mean(held, np.abs(values))}
    return {}


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


def _mean(counts: Array, values: Array) -> Reading:
    rows = float(counts.sum())
    mean = float(counts @ values) / rows
    return Reading(rows, mean, float(counts @ (values - mean) ** 2) / rows)

"""A classic statistic against a threshold that a person names, with the false alarms that this choice means.

No alarm comes of it: a statistic that is thresholded says more about how many rows a window has than about
drift. Beside how often recent windows lie above stands how often windows of as many rows do when nothing has
changed, measured on rows that are drawn from the baseline itself.
"""

import functools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from muster_controller.service.context import Context
from muster_controller.service.drift import DriftQuery, list_sketches
from muster_models.sketch import statistics
from muster_models.sketch.baseline import ColumnBaseline
from muster_models.sketch.distances import distances

Statistic = Literal["psi", "ks", "js", "wasserstein", "linf"]
STATISTICS: Final = get_args(Statistic)
DRAWS: Final = 1000  # a rate of 1 % is known to within 0.6 points
Counts = NDArray[np.int64]
_ALONE: Final[Mapping[str, Callable[[Counts, ColumnBaseline], float]]] = {
    "wasserstein": statistics.wasserstein,
    "linf": statistics.linf,
}


@dataclass(frozen=True)
class FeatureCrossings:
    """One feature.

    Attributes:
        above: Windows above the threshold.
        share: Of all windows.
        without_drift: Share of windows above it when nothing has changed: the false alarms of this choice,
            for rows that do not depend on each other; with rows that do there are more.
    """

    name: str
    above: int
    share: float
    without_drift: float


@dataclass(frozen=True)
class ThresholdView:
    """A threshold on one statistic, over recent windows.

    Attributes:
        windows: That hold a row.
        rows: Of the middle window; what ``without_drift`` is measured for.
    """

    model: str
    subject: str
    statistic: Statistic
    threshold: float
    windows: int
    rows: int
    features: tuple[FeatureCrossings, ...]


def show_threshold(
    context: Context, model: str, query: DriftQuery, statistic: Statistic, threshold: float
) -> ThresholdView:
    """Return how often each feature of recent windows lies above a threshold, and how often without drift.

    Raises:
        NotFoundError: No such model, baseline, group or device.
    """
    baseline, sketches = list_sketches(context, model, query)
    held = [sketch for sketch in sketches if sketch.rows]
    rows = int(np.median([sketch.rows for sketch in held])) if held else 0
    crossings = []
    for at, column in enumerate(baseline.columns):
        counts = np.array([sketch.counts[at] for sketch in held], dtype=np.int64).reshape(-1, column.bins)
        above = int((_values(counts, column, statistic) > threshold).sum())
        share = above / len(held) if held else 0.0
        crossings.append(
            FeatureCrossings(
                column.name, above, share, rate_without_drift(column, statistic, threshold, rows)
            )
        )
    crossings.sort(key=lambda one: -one.share)
    return ThresholdView(model, query.subject, statistic, threshold, len(held), rows, tuple(crossings))


@functools.lru_cache(maxsize=4096)  # an open page asks the same again whenever something is new
def rate_without_drift(column: ColumnBaseline, statistic: Statistic, threshold: float, rows: int) -> float:
    """Return the share of windows of so many rows, drawn from the baseline, that lie above a threshold."""
    if rows == 0:
        return 0.0
    # The same draws for the same question, so that the answer does not flicker.
    chance = np.random.default_rng(zlib.crc32(f"{column.name} {rows}".encode()))
    shares = np.asarray(column.counts, dtype=np.float64)
    drawn = chance.multinomial(rows, shares / shares.sum(), size=DRAWS)
    return float((_values(drawn, column, statistic) > threshold).mean())


def _values(counts: Counts, column: ColumnBaseline, statistic: Statistic) -> NDArray[np.floating]:
    if statistic in _ALONE:
        return np.array([_ALONE[statistic](one, column) for one in counts])
    return np.asarray(getattr(distances(counts, column), statistic))

"""How calls went, as something that drifts: their latency as one column of scores, and how many failed.

The column has the bins of ``wire.LATENCY_EDGES_MS``, each about twice as long as the one before. There is no
baseline for it: a device's own level is what later windows are compared with, like that of any other column.
Its score is the orthonormal polynomial of degree one of the bin: the mean of log latency. Its shape is not
watched, because nobody acts on a skew of latency, and a machine with other work has one that comes and goes.
"""

from collections.abc import Sequence

import numpy as np

from muster_controller.domain.drift.measures import LOCATION, MISSING, SUMS, Measure
from muster_controller.domain.facts import WindowFacts
from muster_models.sketch.baseline import COMPONENTS
from muster_models.sketch.scores import by_rank
from muster_models.wire import LATENCY_EDGES_MS

BINS = len(LATENCY_EDGES_MS) + 1
SCORES = by_rank((1,) * BINS)[:, LOCATION]
SIDES = np.array([1.0, 0.0], dtype=np.float32)  # faster is no fault
TOLERANCE = 0.2  # standard deviations of the score, which is one bin: about twice as slow


def measure_calls(windows: Sequence[WindowFacts]) -> list[Measure]:
    """Return how the calls of each window went; failed ones count as missing."""
    counts = np.zeros((len(windows), BINS))
    for index, window in enumerate(windows):
        counts[index, : len(window.latency)] = window.latency
    sums = np.zeros((len(windows), 1, SUMS))
    sums[:, 0, LOCATION] = counts @ SCORES
    sums[:, 0, COMPONENTS + LOCATION] = counts @ SCORES**2
    sums[:, 0, 2 * COMPONENTS + MISSING] = [window.errors for window in windows]
    return [Measure(float(window.calls), held) for window, held in zip(windows, sums, strict=True)]

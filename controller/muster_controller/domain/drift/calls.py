"""How calls went, as something that drifts: their latency as one column of scores, and how many failed.

The column has the bins of ``wire.LATENCY_EDGES_MS``, each about twice as long as the one before. There is no
baseline for it: a device's own level is what later windows are compared with, like that of any other column.
Its score is the orthonormal polynomial of degree one of the bin: the mean of log latency. Its shape is not
watched, because nobody acts on a skew of latency, and a machine with other work has one that comes and goes.

Calls that failed because their inputs lacked something are left out of those that failed: they tell of a
sensor, and the column of that sensor tells it.
"""

import math
from collections.abc import Sequence

import numpy as np

from muster_controller.domain.drift.measures import LOCATION, MISSING, SUMS, Measure, answer_columns
from muster_controller.domain.facts import WindowFacts
from muster_models.sketch.baseline import COMPONENTS, Baseline
from muster_models.sketch.scores import by_rank
from muster_models.wire import LATENCY_EDGES_MS

BINS = len(LATENCY_EDGES_MS) + 1
SCORES = by_rank((1,) * BINS)[:, LOCATION]
SIDES = np.array([1.0, 0.0], dtype=np.float32)  # faster is no fault
TOLERANCE = 0.2  # standard deviations of the score, which is one bin: about twice as slow
ERRORS_OF_SAMPLE = 2.0  # standard errors that are granted to what sketched rows tell of all calls


def measure_calls(
    windows: Sequence[WindowFacts], data: Sequence[Measure | None], baseline: Baseline
) -> list[Measure]:
    """Return how the calls of each window went; failed ones count as missing.

    Args:
        data: What the columns of each window measured; None where no row was sketched.
    """
    answers = sorted(answer_columns(baseline))
    counts = np.zeros((len(windows), BINS))
    for index, window in enumerate(windows):
        counts[index, : len(window.latency)] = window.latency
    sums = np.zeros((len(windows), 1, SUMS))
    sums[:, 0, LOCATION] = counts @ SCORES
    sums[:, 0, COMPONENTS + LOCATION] = counts @ SCORES**2
    sums[:, 0, 2 * COMPONENTS + MISSING] = [
        _unexplained(window, measure, answers) for window, measure in zip(windows, data, strict=True)
    ]
    return [Measure(float(window.calls), held) for window, held in zip(windows, sums, strict=True)]


def _unexplained(window: WindowFacts, data: Measure | None, answers: Sequence[int]) -> float:
    """Return how many calls failed for another reason than what their inputs lacked.

    Of calls that failed a device sketches those whose inputs lacked something, without an answer. So the
    share of rows without one is the share of such calls: exactly, where every call was sketched and all have
    as many rows, and else within what a sample tells.
    """
    if data is None or not answers or not window.errors:
        return float(window.errors)
    without = float(data.sums[answers, 2 * COMPONENTS + MISSING].max())
    answered = data.rows - without
    if without <= 0:
        return float(window.errors)
    if answered <= 0:
        return 0.0
    lacking = (window.calls - window.errors) * without / answered
    doubt = ERRORS_OF_SAMPLE * math.sqrt(1 / without + 1 / answered)
    return max(0.0, window.errors - lacking * (1 + doubt))

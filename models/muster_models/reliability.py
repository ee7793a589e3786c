"""How often a model is right when it is so sure: counts of the evaluation set by confidence. Pure."""

import numpy as np
from numpy.typing import NDArray

from muster_models.sketch.baseline import Baseline
from muster_models.sketch.features import CONFIDENCE

Array = NDArray[np.generic]


def measure_reliability(baseline: Baseline, scores: Array, answers: Array) -> tuple[tuple[int, int], ...]:
    """Return the rows in each bin of confidence, and how many of them were answered right.

    Args:
        baseline: Whose bins of confidence are used; without any the result is empty.
        scores: One row of scores for each answer.
        answers: The right classes.
    """
    column = next((one for one in baseline.columns if one.name == CONFIDENCE), None)
    if column is None:
        return ()
    rows = scores.astype(np.float64).reshape(len(answers), -1)
    bins = np.searchsorted(column.edge_array(), rows.max(axis=1), side="right")
    is_right = rows.argmax(axis=1) == answers
    held = np.bincount(bins, minlength=column.ordinary)
    right = np.bincount(bins[is_right], minlength=column.ordinary)
    return tuple(zip(held.tolist(), right.tolist(), strict=True))

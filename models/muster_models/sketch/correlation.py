"""How the correlation of pairs differs from that of the reference.

It does not move when only one of the two columns does: means and variances are those of the window itself,
from its counts.
"""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from muster_models.sketch.baseline import Baseline
from muster_models.sketch.pairs import Pairs
from muster_models.sketch.window import Sketch

Array = NDArray[np.float64]

_LEAST_VARIANCE = 1e-12


def pair_names(baseline: Baseline) -> tuple[str, ...]:
    """Return a name of each pair, for people."""
    if baseline.pairs is None:
        return ()
    names = [baseline.columns[paired.column].name for paired in baseline.pairs.columns]
    return tuple(f"{names[pair.first]} with {names[pair.second]}" for pair in baseline.pairs.pairs)


def correlations(sketch: Sketch, baseline: Baseline) -> Array:
    """Return the correlation of the normal scores of each pair; 0 where a column stands still."""
    return np.zeros(0) if baseline.pairs is None else _correlations([sketch], baseline)[0]


def reference_correlations(baseline: Baseline) -> Array:
    """Return the correlation of each pair in the reference."""
    return np.zeros(0) if baseline.pairs is None else _reference(baseline)


def pair_scores(sketch: Sketch, baseline: Baseline) -> Array:
    """Return the score mean of each pair, as if it were a column: ``pair_scores_of`` of one sketch."""
    return np.asarray(pair_scores_of([sketch], baseline)[0])


def pair_scores_of(sketches: Sequence[Sketch], baseline: Baseline) -> Array:
    """Return the score means of each pair of many sketches, shape (sketches, pairs).

    Under the reference they have mean 0, and sqrt(n) times one is close to a standard normal, for n
    independent rows: the difference of the correlations, each by Fisher's transformation (1921), over the
    standard deviation of a row's influence on it. So the variance of one row is 1, as for any score.
    """
    if baseline.pairs is None or not sketches:
        return np.zeros((len(sketches), len(baseline.pairs.pairs) if baseline.pairs else 0))
    variance = np.array([pair.variance for pair in baseline.pairs.pairs])
    reference = _reference(baseline)
    influence = np.sqrt(variance) / np.maximum(1 - reference**2, _LEAST_VARIANCE)
    difference = _fisher(_correlations(sketches, baseline)) - _fisher(reference)
    seen = np.array([sketch.rows > 0 for sketch in sketches])[:, None]
    known = seen & (variance > _LEAST_VARIANCE)
    return np.asarray(np.divide(difference, influence, out=np.zeros(difference.shape), where=known))


def correlation_z(sketch: Sketch, baseline: Baseline) -> Array:
    """Return how many standard errors each pair's correlation lies from the reference's.

    Close to a standard normal without drift, for independent rows; the reference's own error is in it.
    """
    reference = max(1, baseline.columns[0].rows) if baseline.columns else 1
    rows = max(1, sketch.rows)
    return np.asarray(pair_scores(sketch, baseline) * np.sqrt(rows * reference / (rows + reference)))


def _fisher(correlation: Array) -> Array:
    return np.asarray(np.arctanh(np.clip(correlation, _LEAST_VARIANCE - 1, 1 - _LEAST_VARIANCE)))


@functools.lru_cache(maxsize=64)
def _reference(baseline: Baseline) -> Array:
    assert baseline.pairs is not None
    counts = [np.array([column.counts]) for column in baseline.columns]
    products = np.array([[pair.products for pair in baseline.pairs.pairs]], dtype=np.int64)
    found: Array = _correlate(baseline.pairs, counts, products)[0]
    found.flags.writeable = False
    return found


def _correlations(sketches: Sequence[Sketch], baseline: Baseline) -> Array:
    assert baseline.pairs is not None
    counts = [np.array(held) for held in zip(*(sketch.counts for sketch in sketches), strict=True)]
    return _correlate(baseline.pairs, counts, np.array([sketch.pairs for sketch in sketches]))


def _correlate(pairs: Pairs, counts: Sequence[NDArray[np.int64]], products: NDArray[np.int64]) -> Array:
    """Return correlations, shape (sketches, pairs).

    Args:
        counts: Of each column, shape (sketches, bins).
        products: Shape (sketches, pairs).
    """
    means, variances = np.zeros((2, len(products), len(pairs.columns)))
    rows = np.ones((len(products), 1))
    for at, paired in enumerate(pairs.columns):
        held = counts[paired.column]
        rows = np.maximum(held.sum(axis=1, keepdims=True), 1)
        scores = np.array(paired.scores, dtype=np.int64)
        sums = held[:, : len(scores)] @ np.stack((scores, scores * scores), axis=1) / rows
        means[:, at], variances[:, at] = sums[:, 0], sums[:, 1] - sums[:, 0] ** 2
    first, second = pairs.places()
    covariance = products / rows - means[:, first] * means[:, second]
    scale = np.sqrt(np.maximum(variances[:, first] * variances[:, second], 0.0))
    moves = scale > _LEAST_VARIANCE
    return np.asarray(np.divide(covariance, scale, out=np.zeros(products.shape), where=moves))

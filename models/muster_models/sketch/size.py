"""How many bytes a window will take, before there is one: the codec is asked. Pure, and the same each time.

Counts of so many rows are drawn from the baseline and encoded. Rows of a device that has drifted, or that
depend on each other, lie further from the baseline and take some more.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from muster_models.sketch.baseline import Baseline, ColumnBaseline, make_baseline
from muster_models.sketch.codec import encode
from muster_models.sketch.pairs import SCALE, Pairs
from muster_models.sketch.privacy import privatise
from muster_models.sketch.window import NO_MOMENTS, Sketch, empty

DRAWS = 12  # the mean of so many lies within about 1 % of the true one
TYPICAL_ROWS = 20_000
MOST_POWER = 30
_SEED = 20


@functools.lru_cache(maxsize=4)
def typical_baseline(columns: int) -> Baseline:
    """Return a baseline of so many continuous features, alike, to plan with where there is no model."""
    values = np.random.default_rng(_SEED).normal(size=(TYPICAL_ROWS, 1))
    (column,) = make_baseline(values, {"0": "numeric"}).columns
    return Baseline(tuple(_named(column, str(at)) for at in range(columns)))


def _named(column: ColumnBaseline, name: str) -> ColumnBaseline:
    return ColumnBaseline(name, column.kind, column.edges, column.counts, column.mean, column.sd, column.lag)


def sketch_bytes(baseline: Baseline, rows: float, epsilon: float = 0.0) -> float:
    """Return the mean length of a sketch of so many rows; a window without rows has none.

    Measured at powers of two, and between them in proportion to the logarithm, as entropy grows. Other values
    of categories, and pairs, are taken for those of the baseline.

    Args:
        epsilon: Of differential privacy, whose noise takes bytes; 0 for none.
    """
    if rows < 1:
        return 0.0
    power = min(float(np.log2(rows)), MOST_POWER)
    low = int(power)
    below = _measured(baseline, 2**low, epsilon)
    above = _measured(baseline, 2 ** min(low + 1, MOST_POWER), epsilon)
    return below + (power - low) * (above - below)


@functools.lru_cache(maxsize=512)
def _measured(baseline: Baseline, rows: int, epsilon: float) -> float:
    chance = np.random.default_rng(_SEED)

    def words(count: int) -> NDArray[np.uint64]:
        return chance.integers(0, 2**64, count, dtype=np.uint64)

    lengths = []
    for _ in range(DRAWS):
        drawn = _draw(baseline, rows, chance)
        lengths.append(
            len(encode(privatise(drawn, baseline, epsilon, words) if epsilon else drawn, baseline))
        )
    return float(np.mean(lengths))


def _draw(baseline: Baseline, rows: int, chance: np.random.Generator) -> Sketch:
    nothing = empty(baseline)
    return Sketch(
        baseline.digest,
        rows,
        # Not smoothed: half a row for every bin that the reference left empty would be paid for as drift is.
        tuple(chance.multinomial(rows, np.array(one.counts) / one.rows) for one in baseline.columns),
        (NO_MOMENTS,) * len(baseline.columns),
        nothing.others,
        nothing.pairs if baseline.pairs is None else _products(baseline, baseline.pairs, rows, chance),
    )


def _products(baseline: Baseline, pairs: Pairs, rows: int, chance: np.random.Generator) -> NDArray[np.int64]:
    held = max(1, baseline.columns[pairs.columns[0].column].rows)
    means = np.array([pair.products for pair in pairs.pairs], dtype=np.float64) / held
    # The product of two normal scores of correlation r has the variance 1 + r².
    spread = np.sqrt(rows * (SCALE**4 + means**2))
    return np.rint(rows * means + spread * chance.normal(size=len(means))).astype(np.int64)

"""Baselines and rows for the laws of sketches."""

from bisect import bisect_right
from math import isnan

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.features import Column

Rows = NDArray[np.generic]
KINDS: dict[str, Column] = {
    "plain": "numeric",
    "tied": "numeric",
    "prediction:confidence": "confidence",
    "prediction:class": "class",
}
CLASSES = 4
# What instruments and faulty instruments send.
AWKWARD = (
    0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 2.2e-308, 1e-40, 1e38, -1e38, 1e300, 1.7e308, -1.7e308, 65504.0,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TYPES = ("float16", "float32", "float64", "int8", "int64", "uint8", "bool")


def reference(rows: int = 400, seed: int = 3) -> Rows:
    """Return reference rows of ``KINDS``: one continuous column, one with many zeros, and a prediction."""
    chance = np.random.default_rng(seed)
    tied = np.where(chance.random(rows) < 0.4, 0.0, chance.gamma(2.0, size=rows))
    confidence = chance.beta(8, 2, size=rows) * 0.75 + 0.25
    return np.column_stack([chance.normal(20, 5, rows), tied, confidence, chance.integers(0, CLASSES, rows)])


BASELINE = make_baseline(reference(), KINDS, classes=CLASSES)

values = st.sampled_from(AWKWARD) | st.floats(-100, 100) | st.sampled_from(reference(50).ravel().tolist())


def matrices(*, max_rows: int = 60) -> st.SearchStrategy[Rows]:
    """Return rows of awkward and ordinary values for ``BASELINE``."""
    shapes = st.integers(0, max_rows).map(lambda rows: (rows, len(KINDS)))
    return arrays_of.arrays(np.float64, shapes, elements=values)


def typed_matrices() -> st.SearchStrategy[Rows]:
    """Return rows of any type that a model takes."""
    shapes = st.integers(0, 40).map(lambda rows: (rows, len(KINDS)))
    return st.sampled_from(TYPES).flatmap(lambda dtype: arrays_of.arrays(dtype, shapes))


def count_slowly(rows: Rows, baseline: Baseline) -> list[list[int]]:
    """Return the counts per column and bin, value by value: what the fast way must agree with."""
    counts = [[0] * column.bins for column in baseline.columns]
    for row in rows.astype(np.float64).tolist():
        for held, value, column in zip(counts, row, baseline.columns, strict=True):
            held[-1 if isnan(value) else bisect_right(column.edges, value)] += 1
    return counts

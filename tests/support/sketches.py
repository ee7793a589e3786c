"""Baselines and rows for the laws of sketches."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.features import Column
from muster_models.sketch.rows import Rows as Cells

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


FULL_KINDS: dict[str, Column] = {
    "plain": "numeric",
    "city": "category",
    "tied": "numeric",
    "code": "category",
    "prediction:value": "numeric",
}
CITIES = ("berlin", "lyon", "oslo", "porto")
STRANGERS = (*(f"stranger {index}" for index in range(30)), "", "zürich", "日本", "x" * 64)


def full_reference(rows: int = 400, seed: int = 7) -> Cells:
    """Return reference rows of ``FULL_KINDS``: numbers that move together, a text and a code."""
    chance = np.random.default_rng(seed)
    plain = chance.normal(20, 5, rows)
    tied = np.where(chance.random(rows) < 0.4, 0.0, chance.gamma(2.0, size=rows))
    numbers = np.column_stack([plain, tied, 2 * plain + chance.normal(0, 5, rows)])
    cities = chance.choice(np.array(CITIES, dtype=object), rows, p=[0.5, 0.3, 0.15, 0.05])
    return Cells(numbers, (cities, chance.integers(0, 6, rows)))


FULL = make_baseline(
    full_reference(),
    FULL_KINDS,
    values={"city": 3},
    reveal=["city"],
    paired=[("plain", "prediction:value"), ("tied", "plain")],
)


@st.composite
def cells(draw: st.DrawFn, *, max_rows: int = 40) -> Cells:
    """Return rows of awkward and ordinary values for ``FULL``, of types that models take."""
    rows = draw(st.integers(0, max_rows))
    dtype = draw(st.sampled_from(("float16", "float32", "float64")))
    shape = (rows, 3)
    numbers = draw(arrays_of.arrays(dtype, shape) | arrays_of.arrays(np.float64, shape, elements=values))
    names = st.sampled_from((*CITIES, *STRANGERS)) | st.none()
    cities = np.array(draw(st.lists(names, min_size=rows, max_size=rows)), dtype=object)
    codes = draw(arrays_of.arrays(draw(st.sampled_from(("int8", "int64", "uint8", "bool"))), rows))
    return Cells(numbers, (cities, codes))

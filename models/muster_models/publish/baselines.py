"""The baseline of a version: measured on reference rows, read from a file, or made of declared ranges.

A baseline that was not made of the evaluation set is held against it: how far the two lie apart is told, so
that nobody ships one of another sensor without noticing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import ManifestError, RequestError, SketchError
from muster_models.manifest import ClassOutput, FeatureSpec, TensorSpec, ValueOutput
from muster_models.publish.evaluate import answer
from muster_models.publish.source import Declaration, Range
from muster_models.quantised import measured
from muster_models.runtime.protocol import Runtime
from muster_models.sketch import statistics
from muster_models.sketch.baseline import (
    Baseline,
    ColumnBaseline,
    decode_baseline,
    fixed_edges,
)
from muster_models.sketch.edges import TAIL_FACTOR, TAILS
from muster_models.sketch.features import Column, column_kinds, extract
from muster_models.sketch.reference import Paired, check_fits, measure_reference
from muster_models.sketch.window import sketch_rows

Array = NDArray[np.generic]
RANGE_BINS = 256  # of a declared range: fine, because a baseline of the fleet takes its edges from them


@dataclass(frozen=True)
class Distance:
    """How far one column of the evaluation set lies from a baseline that was not made of it.

    Attributes:
        rows: Reference rows of the baseline.
        chi2: Of two samples, over its degrees of freedom: about 1 where both have one distribution.
    """

    name: str
    rows: int
    psi: float
    ks: float
    chi2: float


@dataclass(frozen=True)
class Declared:
    """What of a version makes its baseline.

    Attributes:
        paired: Pairs of columns whose correlation is sketched; True for every two that are numbers.
    """

    features: Sequence[FeatureSpec]
    prediction: ClassOutput | ValueOutput
    paired: Paired = False

    @property
    def kinds(self) -> dict[str, Column]:
        """Every column with its kind, in order."""
        return column_kinds(self.features, self.prediction)


def measure_baseline(
    declared: Declared,
    specs: Iterable[TensorSpec],
    *,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
) -> Baseline:
    """Return the baseline of rows that a model has answered.

    Args:
        specs: Of the model's inputs.
        outputs: As ``evaluate.answer`` returns them.

    Raises:
        ManifestError: The rows do not fit what is declared.
    """
    try:
        return measure_reference(
            declared.features,
            declared.prediction,
            inputs=measured(specs, inputs),
            outputs=outputs,
            paired=declared.paired,
        )
    except SketchError as error:
        raise ManifestError(f"features: {error}") from error


def make_reference(runtime: Runtime, declared: Declared, inputs: Mapping[str, Array]) -> Baseline:
    """Ask a model every reference row, and return the baseline of rows and answers.

    Raises:
        ManifestError: The rows do not fit the model or what is declared, or it fails on them.
    """
    outputs = answer(runtime, inputs, declared.prediction)
    return measure_baseline(declared, runtime.inputs, inputs=inputs, outputs=outputs)


def read_baseline(path: Path) -> Baseline:
    """Return a baseline from its file.

    Raises:
        RequestError: It cannot be read.
        ManifestError: It is not a baseline.
    """
    try:
        return decode_baseline(path.read_bytes())
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error
    except SketchError as error:
        raise ManifestError(f"{path}: {error}") from error


def check_declared(baseline: Baseline, declared: Declared) -> None:
    """Hold a baseline against what a version declares.

    Raises:
        ManifestError: Columns, classes, axes or pairs are not those that are declared.
    """
    try:
        check_fits(baseline, declared.features, declared.prediction)
    except SketchError as error:
        raise ManifestError(f"baseline: {error}") from error
    if bool(declared.paired) != (baseline.pairs is not None):
        raise ManifestError(
            f"baseline: pairs are {'declared' if declared.paired else 'not declared'}, "
            f"and it has {'some' if baseline.pairs else 'none'}"
        )


def distances(
    baseline: Baseline,
    declared: Declared,
    specs: Iterable[TensorSpec],
    *,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
) -> tuple[Distance, ...]:
    """Return how far rows that a model has answered lie from a baseline, column by column.

    Raises:
        ManifestError: The rows do not fit what is declared.
    """
    try:
        rows = extract(
            declared.features,
            declared.prediction,
            inputs=measured(specs, inputs),
            outputs=outputs,
            axes=baseline.axes,
        )
        sketch = sketch_rows(rows, baseline)
    except SketchError as error:
        raise ManifestError(f"features: {error}") from error
    return tuple(
        Distance(
            column.name,
            column.rows,
            statistics.psi(counts, column),
            statistics.ks(counts, column),
            statistics.chi2(counts, column),
        )
        for counts, column in zip(sketch.counts, baseline.columns, strict=True)
    )


def of_ranges(declared: Declaration) -> Baseline:
    """Return a provisional baseline from ranges that are declared, where there are no reference rows.

    It says where values may lie, not how often: as if every bin of a range had been seen equally often.

    Raises:
        ManifestError: A column has no range, or pairs or projections are declared, which need rows.
    """
    shape = Declared(declared.features, declared.prediction, declared.pairs)
    needing = [one.name for one in declared.features if one.summary in {"projection", "residual"}]
    if needing or declared.pairs:
        raise ManifestError(f"without reference rows there are no projections and no pairs, got {needing}")
    ranges = {one.feature: one for one in declared.ranges}
    wanted = {name for name, kind in shape.kinds.items() if kind in {"numeric", "category"}}
    if wanted != ranges.keys():
        raise ManifestError(
            f"a provisional baseline needs [[ranges]] with feature, minimum and maximum (or the values of "
            f"a category) for {sorted(wanted)}, got them for {sorted(ranges)}"
        )
    labels = declared.prediction.labels if isinstance(declared.prediction, ClassOutput) else ()
    specs = {one.name: one for one in declared.features}
    columns = [
        _of_range(name, kind, ranges.get(name), spec=specs.get(name), classes=len(labels))
        for name, kind in shape.kinds.items()
    ]
    return Baseline(tuple(columns), origin="declared")


def _of_range(
    name: str, kind: Column, declared: Range | None, *, spec: FeatureSpec | None, classes: int
) -> ColumnBaseline:
    if kind == "category":
        values = declared.values if declared is not None else ()
        if not values or len(set(values)) < len(values):
            raise ManifestError(f"range of {name!r}: expected values of a category that differ")
        counts = (*(1 for _ in values), 0, 0, 0)
        reveal = spec is not None and spec.reveal
        return ColumnBaseline(name, "category", (), counts, 0.0, 0.0, values=values, reveal=reveal)
    if kind != "numeric":
        edges = fixed_edges(kind, classes)
        counts = (0, *[1] * (len(edges) - 1), 0, 0, 0) if kind == "class" else (*[1] * (len(edges) + 1), 0, 0)
        return ColumnBaseline(name, kind, tuple(edges.tolist()), counts, 0.0, 0.0)
    assert declared is not None
    low, high = declared.minimum, declared.maximum
    if low is None or high is None or not low < high:
        raise ManifestError(f"range of {name!r}: expected a minimum below a maximum, got {low} and {high}")
    inner = np.linspace(low, high, RANGE_BINS + 1)
    inner[-1] = np.nextafter(high, np.inf)  # the maximum itself is inside
    steps = (high - low) / np.sqrt(12) * TAIL_FACTOR ** np.arange(TAILS) / TAIL_FACTOR
    edges = np.unique(np.concatenate([low - steps, inner, high + steps]))
    counts = (*[0] * (TAILS + 1), *[1] * RANGE_BINS, *[0] * (TAILS + 1), 0, 0)
    unit = spec.unit if spec is not None else ""
    deviation = float((high - low) / np.sqrt(12))
    return ColumnBaseline(
        name, "numeric", tuple(edges.tolist()), counts, (low + high) / 2, deviation, unit=unit
    )

"""Rows of a model's inputs and outputs, turned into the columns that are sketched."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from muster_models.errors import SketchError
from muster_models.manifest import ClassOutput, FeatureSpec, ValueOutput
from muster_models.sketch import summaries
from muster_models.sketch.axes import Axes, project
from muster_models.sketch.rows import Rows
from muster_models.sketch.summaries import Array, Floats, is_narrow

Column = Literal["numeric", "class", "confidence", "category"]

CONFIDENCE = "prediction:confidence"
CLASS = "prediction:class"
VALUE = "prediction:value"
MAX_CLASSES = 64  # beyond which the classes are a category: the most frequent ones are counted apart
_SIMPLE: dict[str, Callable[[Array], Floats]] = {
    "brightness": summaries.brightness,
    "contrast": summaries.contrast,
    "sharpness": summaries.sharpness,
    "ink": summaries.ink,
    "level": summaries.level,
    "crossings": summaries.crossings,
    "centroid": summaries.centroid,
    "norm": summaries.norm,
}


def prediction_columns(prediction: ClassOutput | ValueOutput) -> dict[str, Column]:
    """Return the names and kinds of the columns that describe what the model answered."""
    match prediction:
        case ClassOutput(labels=labels):
            return {CONFIDENCE: "confidence", CLASS: "class" if len(labels) <= MAX_CLASSES else "category"}
        case ValueOutput():
            return {VALUE: "numeric"}


def column_kinds(features: Sequence[FeatureSpec], prediction: ClassOutput | ValueOutput) -> dict[str, Column]:
    """Return every column of a version's sketch with its kind, in order: features, then the prediction."""
    kinds: dict[str, Column] = {feature.name: feature.kind for feature in features}
    return kinds | prediction_columns(prediction)


def extract(
    features: Sequence[FeatureSpec],
    prediction: ClassOutput | ValueOutput,
    *,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    axes: Sequence[Axes] = (),
) -> Rows:
    """Return one row per prediction and one column per entry of ``column_kinds``.

    The first axis of every tensor is the batch. Numbers are 32-bit floats where no tensor that gives one is
    wider: they cost half as much to sketch; a baseline is made from the same rows, so repeated values stay
    repeated.

    Args:
        axes: Of the baseline, for projections and residuals.

    Raises:
        SketchError: A tensor is missing, has no batch axis, or a column lies outside its row.
    """
    numeric = [feature for feature in features if feature.kind == "numeric"]
    projected = _project_all(numeric, inputs, axes)
    numbers = [_number(feature, inputs, projected) for feature in numeric]
    categories = [_cells(feature, inputs) for feature in features if feature.kind == "category"]
    answers = _prediction(prediction, outputs)
    for name, kind in prediction_columns(prediction).items():
        (categories if kind == "category" else numbers).append(answers[name])
    lengths = {len(column) for column in (*numbers, *categories)}
    if len(lengths) > 1:
        raise SketchError(f"all tensors of a call must have one batch length, got {sorted(lengths)}")
    read = [_tensor(feature.input, inputs) for feature in numeric]
    narrow = all(map(is_narrow, (*read, _tensor(prediction.output, outputs))))
    matrix = np.empty((lengths.pop(), len(numbers)), dtype=np.float32 if narrow else np.float64)
    with np.errstate(over="ignore"):  # a summary beyond the largest 32-bit number
        for index, column in enumerate(numbers):
            matrix[:, index] = column
    return Rows(matrix, tuple(categories))


def _project_all(
    features: Sequence[FeatureSpec], inputs: Mapping[str, Array], axes: Sequence[Axes]
) -> dict[str, tuple[Floats, Floats]]:
    wanted = {feature.input for feature in features if feature.summary in {"projection", "residual"}}
    known = {one.input: one for one in axes}
    if wanted - known.keys():
        raise SketchError(f"expected a baseline with axes of {sorted(wanted)}, got {sorted(known)}")
    return {name: project(_tensor(name, inputs), known[name]) for name in sorted(wanted)}


def _number(
    feature: FeatureSpec, inputs: Mapping[str, Array], projected: Mapping[str, tuple[Floats, Floats]]
) -> Array:
    match feature.summary:
        case None:
            return _cells(feature, inputs)
        case "residual":
            return projected[feature.input][1]
        case "projection":
            places, component = projected[feature.input][0], feature.component or 0
            if component >= places.shape[1]:
                raise SketchError(
                    f"feature {feature.name!r} is component {component}, there are {places.shape[1]} axes"
                )
            return np.asarray(places[:, component])
        case simple:
            return _SIMPLE[simple](_tensor(feature.input, inputs))


def _cells(feature: FeatureSpec, inputs: Mapping[str, Array]) -> Array:
    tensor = _tensor(feature.input, inputs)
    rows = tensor.reshape(len(tensor), -1)
    if feature.column is None or feature.column >= rows.shape[1]:
        raise SketchError(f"feature {feature.name!r} is column {feature.column}, a row has {rows.shape[1]}")
    return np.asarray(rows[:, feature.column])


def _prediction(prediction: ClassOutput | ValueOutput, outputs: Mapping[str, Array]) -> dict[str, Array]:
    rows = summaries.flat(_tensor(prediction.output, outputs))
    match prediction:
        case ClassOutput():
            # A row without a finite score has no class: it counts as missing, not as class 0.
            broken = ~np.isfinite(rows).all(axis=1)
            return {
                CONFIDENCE: np.where(broken, np.nan, rows.max(axis=1)),
                CLASS: np.where(broken, np.nan, rows.argmax(axis=1)),
            }
        case ValueOutput():
            return {VALUE: rows[:, 0]}


def _tensor(name: str, tensors: Mapping[str, Array]) -> Array:
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim == 0:
        raise SketchError(f"expected a tensor {name!r} with a batch axis, got {sorted(tensors)}")
    return tensor

"""Rows of a model's inputs and outputs, turned into the columns that are sketched."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.manifest import ClassOutput, FeatureSpec, Summary, ValueOutput

Column = Literal["numeric", "class", "confidence"]
Array = NDArray[np.generic]

CONFIDENCE = "prediction:confidence"
CLASS = "prediction:class"
VALUE = "prediction:value"
INK_LEVEL = 0.5  # share of the row's own maximum above which a pixel counts as ink


def prediction_columns(prediction: ClassOutput | ValueOutput) -> dict[str, Column]:
    """Return the names and kinds of the columns that describe what the model answered."""
    match prediction:
        case ClassOutput():
            return {CONFIDENCE: "confidence", CLASS: "class"}
        case ValueOutput():
            return {VALUE: "numeric"}


def column_kinds(features: Sequence[FeatureSpec], prediction: ClassOutput | ValueOutput) -> dict[str, Column]:
    """Return every column of a version's sketch with its kind, in order: features, then the prediction."""
    kinds: dict[str, Column] = {feature.name: "numeric" for feature in features}
    return kinds | prediction_columns(prediction)


def extract(
    features: Sequence[FeatureSpec],
    prediction: ClassOutput | ValueOutput,
    *,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
) -> NDArray[np.floating]:
    """Return one row per prediction and one column per entry of ``column_kinds``.

    The first axis of every tensor is the batch. Rows are 32-bit floats where no tensor is wider: they cost
    half as much to sketch; a baseline is made from the same rows, so repeated values stay repeated.

    Raises:
        SketchError: A tensor is missing, has no batch axis, or a column lies outside its row.
    """
    columns = [_feature(feature, inputs) for feature in features]
    columns += _prediction(prediction, outputs)
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise SketchError(f"all tensors of a call must have one batch length, got {sorted(lengths)}")
    rows = np.column_stack(columns) if columns else np.zeros((0, 0))
    narrow = all(_is_narrow(tensor) for tensor in (*inputs.values(), *outputs.values()))
    return rows.astype(np.float32) if narrow else rows


def _is_narrow(tensor: Array) -> bool:
    """Tell whether 32-bit floats hold every value of a tensor exactly."""
    return bool(np.can_cast(tensor.dtype, np.float32))


def _feature(feature: FeatureSpec, inputs: Mapping[str, Array]) -> NDArray[np.float64]:
    tensor = _tensor(feature.input, inputs)
    if feature.summary is not None:
        return _summarise(feature.summary, tensor.astype(np.float64))
    flat = tensor.reshape(len(tensor), -1)
    if feature.column is None or feature.column >= flat.shape[1]:
        raise SketchError(f"feature {feature.name!r} is column {feature.column}, a row has {flat.shape[1]}")
    return flat[:, feature.column].astype(np.float64)


def _prediction(
    prediction: ClassOutput | ValueOutput, outputs: Mapping[str, Array]
) -> list[NDArray[np.float64]]:
    flat = _tensor(prediction.output, outputs).astype(np.float64)
    flat = flat.reshape(len(flat), -1)
    match prediction:
        case ClassOutput():
            # A row without a finite score has no class: it counts as missing, not as class 0.
            broken = ~np.isfinite(flat).all(axis=1)
            classes = np.where(broken, np.nan, flat.argmax(axis=1))
            return [np.where(broken, np.nan, flat.max(axis=1)), classes]
        case ValueOutput():
            return [flat[:, 0]]


def _tensor(name: str, tensors: Mapping[str, Array]) -> Array:
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim == 0:
        raise SketchError(f"expected a tensor {name!r} with a batch axis, got {sorted(tensors)}")
    return tensor


def _summarise(summary: Summary, tensor: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = tensor.reshape(len(tensor), -1)
    match summary:
        case "brightness":
            return np.asarray(flat.mean(axis=1))
        case "contrast":
            return np.asarray(flat.std(axis=1))
        case "sharpness":
            image = _as_images(tensor)
            across = np.abs(np.diff(image, axis=2)).mean(axis=(1, 2))
            along = np.abs(np.diff(image, axis=1)).mean(axis=(1, 2))
            return np.asarray((across + along) / 2)
        case "ink":
            peak = flat.max(axis=1, keepdims=True)
            return np.asarray((flat > INK_LEVEL * peak).mean(axis=1))


def _as_images(tensor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (batch, height, width); a flat row of n² values is taken as an n by n image."""
    squeezed = tensor.reshape(len(tensor), *(size for size in tensor.shape[1:] if size != 1))
    if squeezed.ndim == 2:  # noqa: PLR2004 - batch and one axis
        side = round(squeezed.shape[1] ** 0.5)
        if side < 2 or side * side != squeezed.shape[1]:  # noqa: PLR2004 - one pixel has no neighbours
            raise SketchError(f"sharpness needs an image, got a row of {squeezed.shape[1]} values")
        squeezed = squeezed.reshape(-1, side, side)
    if squeezed.ndim > 3:  # noqa: PLR2004 - channels are averaged
        squeezed = squeezed.reshape(*squeezed.shape[:3], -1).mean(axis=3)
    return squeezed

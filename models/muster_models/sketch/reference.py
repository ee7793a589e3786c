"""From what a version declares and what its model answered to the baseline of its sketches."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from muster_models.errors import SketchError
from muster_models.manifest import ClassOutput, FeatureSpec, ValueOutput
from muster_models.sketch.axes import fit_all
from muster_models.sketch.baseline import Baseline, make_baseline
from muster_models.sketch.features import MAX_CLASSES, VALUE, column_kinds, extract
from muster_models.sketch.summaries import Array

Paired = bool | Sequence[tuple[str, str]]


def measure_reference(
    features: Sequence[FeatureSpec],
    prediction: ClassOutput | ValueOutput,
    *,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    paired: Paired = False,
) -> Baseline:
    """Return the baseline of a version from reference rows.

    Args:
        inputs, outputs: What the model was asked and what it answered, in the order of time if there is one.
        paired: Pairs of columns whose correlation is sketched; True for every two features that are numbers.

    Raises:
        SketchError: The rows do not fit what is declared, or there are too many pairs.
    """
    kinds = column_kinds(features, prediction)
    axes = fit_all(features, inputs)
    units = {feature.name: feature.unit for feature in features}
    classes = 0
    match prediction:
        case ClassOutput(labels=labels):
            classes = len(labels)
        case ValueOutput(unit=unit):
            units[VALUE] = unit
    most = {feature.name: feature.values for feature in features}
    return make_baseline(
        extract(features, prediction, inputs=inputs, outputs=outputs, axes=axes),
        kinds,
        classes=classes,
        units=units,
        values=most | dict.fromkeys(kinds.keys() - most.keys(), MAX_CLASSES),
        reveal=[feature.name for feature in features if feature.reveal],
        axes=axes,
        paired=_pairs(features, paired),
    )


def check_fits(
    baseline: Baseline, features: Sequence[FeatureSpec], prediction: ClassOutput | ValueOutput
) -> None:
    """Hold a baseline against what a version declares.

    Raises:
        SketchError: Its columns, classes or axes are not those of the features and the prediction.
    """
    expected = column_kinds(features, prediction)
    found = {column.name: column.kind for column in baseline.columns}
    if list(found.items()) != list(expected.items()):
        raise SketchError(f"expected the columns {list(expected)}, got {list(found)}")
    if isinstance(prediction, ClassOutput):
        classes = len(prediction.labels)
        held_classes = {len(column.edges) - 1 for column in baseline.columns if column.kind == "class"}
        if held_classes - {classes}:
            raise SketchError(f"expected {classes} classes, got {held_classes.pop()}")
    known = {axes.input: len(axes.arrays()[1]) for axes in baseline.axes}
    for feature in features:
        if feature.summary in {"projection", "residual"}:
            held = known.get(feature.input, 0)
            if held <= (feature.component or 0):
                raise SketchError(
                    f"feature {feature.name!r}: expected more axes of {feature.input!r}, got {held}"
                )


def _pairs(features: Sequence[FeatureSpec], paired: Paired) -> Sequence[tuple[str, str]]:
    if paired is True:
        return list(combinations([feature.name for feature in features if feature.kind == "numeric"], 2))
    return paired or ()

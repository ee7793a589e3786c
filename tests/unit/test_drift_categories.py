"""What people are shown of categories: names of values where they are known, and of how many not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from muster_controller.service.drift_figures import Scene, compare_features
from muster_controller.service.drift_views import FeatureView, OthersView
from muster_models.errors import SketchError
from muster_models.manifest import ClassOutput, FeatureSpec, ValueOutput
from muster_models.sketch.baseline import Baseline
from muster_models.sketch.reference import check_fits, measure_reference
from muster_models.sketch.rows import Rows
from muster_models.sketch.window import sketch_rows
from support.manifests import make_manifest
from support.sketches import FULL, full_reference

Array = NDArray[np.generic]
SCENE = Scene("all", "fleet", "site", {}, ())


def views(rows: Rows, baseline: Baseline, prediction: ClassOutput | ValueOutput) -> dict[str, FeatureView]:
    parts = [sketch_rows(rows, baseline)]
    found = compare_features(parts, baseline, make_manifest(prediction=prediction), SCENE)
    return {view.name: view for view in found}


def others(view: FeatureView) -> OthersView:
    assert view.others is not None
    return view.others


def test_a_category_is_shown_with_the_names_of_its_values_and_what_moved_most() -> None:
    cities = np.array(["berlin"] * 300 + ["zürich"] * 100, dtype=object)
    rows = Rows(full_reference(400).numbers, (cities, np.full(400, 77)))
    shown = views(rows, FULL, ValueOutput("y"))

    assert shown["city"].labels == ("berlin", "lyon", "oslo", "other")
    assert shown["city"].moved == "lyon"
    assert shown["city"].linf < -0.2
    assert others(shown["city"]).heavy == (("zürich", 100),)
    assert round(others(shown["city"]).distinct) == 1
    assert [len(name) for name, _ in others(shown["code"]).heavy] == [3]  # "#" and two digits of a hash
    assert shown["plain"].others is None


def test_infinite_values_are_shown_apart_from_missing_ones() -> None:
    reference = full_reference(100)
    reference.numbers[:20, 0] = np.inf
    reference.numbers[20:50, 0] = np.nan
    view = views(reference, FULL, ValueOutput("y"))["plain"]

    assert (view.infinite, view.missing, view.outside) == (0.2, 0.3, 0.2)


def test_of_many_classes_those_that_are_counted_apart_have_their_labels() -> None:
    prediction = ClassOutput("y", tuple(f"label {index}" for index in range(100)))
    scores = np.eye(100, dtype=np.float32)[np.repeat([7, 3], [60, 40])]
    baseline = measure_reference((), prediction, inputs={}, outputs={"y": scores})
    rows = Rows(np.full((2, 1), 0.9), (np.array([3.0, 99.0]),))

    assert views(rows, baseline, prediction)["prediction:class"].labels == ("label 7", "label 3", "other")


EMBEDDING: tuple[FeatureSpec, ...] = (
    FeatureSpec("axis", "x", summary="projection", component=1),
    FeatureSpec("rest", "x", summary="residual"),
)
FITTING = measure_reference(
    EMBEDDING,
    ValueOutput("y"),
    inputs={"x": np.random.default_rng(1).normal(size=(20, 4))},
    outputs={"y": np.zeros((20, 1))},
)


@pytest.mark.parametrize(
    "features",
    [
        EMBEDDING[:1],
        EMBEDDING[::-1],
        (FeatureSpec("axis", "x", summary="projection", component=2), EMBEDDING[1]),
        (FeatureSpec("axis", "z", summary="projection", component=1), EMBEDDING[1]),
        (FeatureSpec("axis", "x", column=0, kind="category"), EMBEDDING[1]),
    ],
    ids=["fewer columns", "another order", "more axes", "another input", "another kind"],
)
def test_a_baseline_that_is_not_of_these_features_is_refused(features: tuple[FeatureSpec, ...]) -> None:
    check_fits(FITTING, EMBEDDING, ValueOutput("y"))

    with pytest.raises(SketchError, match=r"expected (the columns|more axes)"):
        check_fits(FITTING, features, ValueOutput("y"))

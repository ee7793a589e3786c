"""What is computed from rows of images, sound, embeddings and names before it is sketched."""

import numpy as np
import pytest
from numpy.typing import NDArray

from muster_models.errors import SketchError
from muster_models.manifest import ClassOutput, FeatureSpec, Summary, ValueOutput
from muster_models.sketch.axes import MAX_BYTES, Axes, fit_all, project
from muster_models.sketch.baseline import make_baseline
from muster_models.sketch.categories import MAX_NAME, name_of, tally
from muster_models.sketch.features import CLASS, MAX_CLASSES, column_kinds, extract
from muster_models.sketch.reference import measure_reference
from muster_models.sketch.rows import Rows, concatenate
from muster_models.sketch.summaries import SILENCE_DB
from muster_models.sketch.window import sketch_rows

Array = NDArray[np.generic]
VALUE = ValueOutput("y")
RATE = 8000  # samples a second


def features_of(tensor: Array, *features: FeatureSpec, axes: tuple[Axes, ...] = ()) -> NDArray[np.floating]:
    """Return the columns of features of ``x``, without the prediction."""
    outputs: dict[str, Array] = {"y": np.zeros((len(tensor), 1), dtype=np.float32)}
    return extract(features, VALUE, inputs={"x": tensor}, outputs=outputs, axes=axes).numbers[:, :-1]


def summary(name: Summary, tensor: Array) -> NDArray[np.floating]:
    return features_of(tensor, FeatureSpec("s", "x", summary=name))[:, 0]


def tone(frequency: float, amplitude: float = 1.0) -> NDArray[np.float32]:
    """Return a second of a pure tone, as one row."""
    time = np.arange(RATE) / RATE
    return np.float32(amplitude) * np.sin(2 * np.pi * frequency * time + 0.1)[None].astype(np.float32)


@pytest.mark.parametrize(("amplitude", "decibels"), [(1.0, -3.01), (0.1, -23.01), (1e-6, -123.01)])
def test_the_level_is_the_root_mean_square_in_decibels(amplitude: float, decibels: float) -> None:
    assert summary("level", tone(440, amplitude)) == pytest.approx([decibels], abs=0.01)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16"])
def test_whole_numbers_are_sound_as_a_share_of_their_range(dtype: str) -> None:
    half = 2.0 ** (8 * np.dtype(dtype).itemsize - 1)
    offset = half if np.dtype(dtype).kind == "u" else 0.0
    signal = (tone(440, 0.9).astype(np.float64) * half + offset).round().astype(dtype)

    assert summary("level", signal) == pytest.approx([20 * np.log10(0.9 / np.sqrt(2))], abs=0.1)


def test_silence_has_the_lowest_level_and_no_frequency() -> None:
    silence = np.zeros((1, 100), dtype=np.float32)

    assert summary("level", silence) == [SILENCE_DB]
    assert summary("crossings", silence) == [0]
    assert np.isnan(summary("centroid", silence)).all()


@pytest.mark.parametrize("frequency", [100, 440, 2000, 3900])
def test_a_tone_crosses_zero_twice_a_period_and_its_centroid_is_its_frequency(frequency: int) -> None:
    assert summary("crossings", tone(frequency)) == pytest.approx([2 * frequency / RATE], abs=2 / RATE)
    assert summary("centroid", tone(frequency)) == pytest.approx([frequency / (RATE / 2)], abs=0.001)


def test_an_offset_is_no_sound() -> None:
    assert summary("centroid", tone(440) + np.float32(5)) == pytest.approx([440 / (RATE / 2)], abs=0.001)


@pytest.mark.parametrize("name", ["level", "crossings", "centroid", "norm", "brightness", "contrast"])
def test_a_row_with_a_missing_sample_has_no_summary_and_its_neighbour_has(name: Summary) -> None:
    rows = np.concatenate([tone(440), tone(440)])
    rows[0, 7] = np.nan

    assert np.isnan(summary(name, rows)).tolist() == [True, False]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int16", "bool"])
def test_summaries_of_images_do_not_depend_on_the_type_that_holds_a_pixel(dtype: str) -> None:
    pixels = np.random.default_rng(2).integers(0, 2, (20, 8, 8)).astype(dtype)
    exact = pixels.astype(np.float64)

    assert summary("brightness", pixels) == pytest.approx(exact.mean(axis=(1, 2)), rel=1e-6)
    assert summary("contrast", pixels) == pytest.approx(exact.std(axis=(1, 2)), rel=1e-5)


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (6, 8, 3), (6, 8, 2, 2)])
def test_sharpness_is_the_mean_difference_of_neighbours_over_the_mean_of_channels(
    shape: tuple[int, ...],
) -> None:
    images = np.random.default_rng(3).random((4, *shape)).astype(np.float32)
    grey = images.astype(np.float64).reshape(4, 6, 8, -1).mean(axis=3)
    across = np.abs(grey[:, :, 1:] - grey[:, :, :-1]).mean(axis=(1, 2))
    along = np.abs(grey[:, 1:] - grey[:, :-1]).mean(axis=(1, 2))

    assert summary("sharpness", images) == pytest.approx((across + along) / 2, rel=1e-5)


def test_the_norm_is_the_length_of_a_row() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)

    assert summary("norm", rows).tolist() == [5.0, 0.0]


PROJECTIONS = tuple(FeatureSpec(f"axis {k}", "x", summary="projection", component=k) for k in range(3))
RESIDUAL = FeatureSpec("rest", "x", summary="residual")


def embeddings(rows: int, seed: int) -> NDArray[np.float32]:
    """Return rows that lie near a plane of three dimensions in a space of thirty-two."""
    plane = np.linalg.qr(np.random.default_rng(1).normal(size=(32, 3)))[0] * [5.0, 3.0, 2.0]
    chance = np.random.default_rng(seed)
    near = chance.normal(size=(rows, 3)) @ plane.T + 0.1 * chance.normal(size=(rows, 32))
    return np.asarray(near + 1, dtype=np.float32)


def test_axes_are_the_directions_of_most_variance_and_the_residual_is_what_they_leave() -> None:
    rows = embeddings(2000, seed=2)
    axes = fit_all((*PROJECTIONS, RESIDUAL), {"x": rows})
    columns = features_of(embeddings(1000, seed=3), *PROJECTIONS, RESIDUAL, axes=axes)

    assert columns[:, :3].std(axis=0) == pytest.approx([5, 3, 2], rel=0.1)
    assert np.corrcoef(columns[:, :3].T) == pytest.approx(np.eye(3), abs=0.15)
    assert columns[:, 3].mean() == pytest.approx(0.1 * np.sqrt(29), rel=0.05)


def test_a_new_kind_of_row_shows_in_the_residual_first() -> None:
    axes = fit_all((*PROJECTIONS, RESIDUAL), {"x": embeddings(2000, seed=2)})
    new = embeddings(1000, seed=3) + np.random.default_rng(4).normal(size=32).astype(np.float32)

    before = features_of(embeddings(1000, seed=3), RESIDUAL, axes=axes)
    after = features_of(new, RESIDUAL, axes=axes)

    assert after.min() > before.max()


def test_projections_agree_with_the_slow_and_obvious_way() -> None:
    rows = embeddings(50, seed=5)
    (axes,) = fit_all((*PROJECTIONS, RESIDUAL), {"x": rows})
    mean, vectors = (array.astype(np.float64) for array in axes.arrays())
    places, rest = project(rows, axes)

    for row, place, left in zip(rows.astype(np.float64), places, rest, strict=True):
        exact = [float(vector @ (row - mean)) for vector in vectors]
        remainder = row - mean - sum(x * vector for x, vector in zip(exact, vectors, strict=True))
        assert place == pytest.approx(exact, abs=1e-4)
        assert left == pytest.approx(np.linalg.norm(remainder), rel=1e-4)


def test_a_residual_alone_is_from_eight_axes() -> None:
    (axes,) = fit_all((RESIDUAL,), {"x": embeddings(100, seed=2)})

    assert axes.arrays()[1].shape == (8, 32)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (embeddings(3, seed=2), "expected more rows and values"),
        (np.zeros((20, 2), dtype=np.float32), "expected more rows and values"),
        (np.zeros((20, MAX_BYTES // 12 + 1), dtype=np.float32), "at most"),
    ],
)
def test_axes_that_cannot_be_or_are_too_large_are_refused(rows: Array, message: str) -> None:
    with pytest.raises(SketchError, match=message):
        fit_all(PROJECTIONS, {"x": rows})


def test_what_needs_axes_is_refused_without_them_and_with_those_of_another_shape() -> None:
    rows = embeddings(20, seed=2)
    axes = fit_all((RESIDUAL,), {"x": rows})

    with pytest.raises(SketchError, match="expected a baseline with axes of"):
        features_of(rows, RESIDUAL)
    with pytest.raises(SketchError, match="are for 32 values, a row has 5"):
        features_of(rows[:, :5], RESIDUAL, axes=axes)
    with pytest.raises(SketchError, match="is component 9, there are 8 axes"):
        features_of(rows, FeatureSpec("far", "x", summary="projection", component=9), axes=axes)


def test_an_embedding_is_measured_and_sketched_with_the_axes_of_its_baseline() -> None:
    features = (*PROJECTIONS, RESIDUAL, FeatureSpec("size", "x", summary="norm"))
    rows, outputs = embeddings(500, seed=2), {"y": np.zeros((500, 1), dtype=np.float32)}
    baseline = measure_reference(features, VALUE, inputs={"x": rows}, outputs=outputs)

    again = extract(features, VALUE, inputs={"x": rows}, outputs=outputs, axes=baseline.axes)
    sketch = sketch_rows(again, baseline)

    assert [tuple(held.tolist()) for held in sketch.counts] == [column.counts for column in baseline.columns]


TEXT = FeatureSpec("city", "place", column=1, kind="category", values=2)
CODE = FeatureSpec("code", "place code", column=0, kind="category", reveal=True)
NUMBER = FeatureSpec("size", "x", column=0)


def test_categories_stand_beside_numbers_and_numbers_stay_narrow() -> None:
    inputs: dict[str, Array] = {
        "place": np.array([["a", "b"], ["c", "d"]], dtype=object),
        "place code": np.array([[7], [2**60]]),
        "x": np.array([[1.5], [2.5]], dtype=np.float32),
    }
    rows = extract(
        (TEXT, NUMBER, CODE), VALUE, inputs=inputs, outputs={"y": np.zeros((2, 1), dtype=np.float32)}
    )

    assert column_kinds((TEXT, NUMBER, CODE), VALUE) == {
        "city": "category", "size": "numeric", "code": "category", "prediction:value": "numeric",
    }  # fmt: skip
    assert rows.numbers.dtype == np.float32
    assert rows.numbers.tolist() == [[1.5, 0.0], [2.5, 0.0]]
    assert [column.tolist() for column in rows.categories] == [["b", "d"], [7, 2**60]]


def test_the_most_frequent_values_of_the_reference_have_a_bin_and_rare_ones_no_name() -> None:
    cities = np.array(["oslo"] * 50 + ["lyon"] * 30 + ["porto"] * 16 + ["anna"] * 4, dtype=object)
    inputs: dict[str, Array] = {
        "place": np.stack([cities, cities], axis=1),
        "place code": np.repeat([3, 1], 50)[:, None],
        "x": np.zeros((100, 1)),
    }
    outputs: dict[str, Array] = {"y": np.zeros((100, 1))}
    baseline = measure_reference((TEXT, NUMBER, CODE), VALUE, inputs=inputs, outputs=outputs)
    wide = measure_reference(
        (FeatureSpec("city", "place", column=0, kind="category"),), VALUE, inputs=inputs, outputs=outputs
    )

    assert (baseline.columns[0].values, baseline.columns[0].reveal) == (("oslo", "lyon"), False)
    assert baseline.columns[0].counts == (50, 30, 20, 0, 0)
    assert (baseline.columns[2].values, baseline.columns[2].reveal) == (("1", "3"), True)
    assert wide.columns[0].values == ("oslo", "lyon", "porto")
    assert b"anna" not in wide.encode()


def test_many_classes_are_a_category_of_bounded_size() -> None:
    labels = tuple(f"label {index}" for index in range(1000))
    scores = np.eye(1000, dtype=np.float32)[np.arange(5000) % 1000 % 300]
    scores[0, 0] = np.nan
    prediction = ClassOutput("y", labels)
    inputs: dict[str, Array] = {"x": np.zeros((5000, 1), dtype=np.float32)}
    baseline = measure_reference((NUMBER,), prediction, inputs=inputs, outputs={"y": scores})
    column = next(column for column in baseline.columns if column.name == CLASS)

    assert column.kind == "category"
    assert len(column.values) == MAX_CLASSES
    assert set(column.values) <= {str(index) for index in range(300)}
    assert column.counts[-1] == 1
    assert sum(column.counts) == 5000


def test_few_classes_stay_what_they_were() -> None:
    assert column_kinds((), ClassOutput("y", tuple(map(str, range(MAX_CLASSES)))))[CLASS] == "class"
    assert column_kinds((), ClassOutput("y", tuple(map(str, range(MAX_CLASSES + 1)))))[CLASS] == "category"


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        (np.array([1.0, np.nan, 2.5, np.inf]), {"1": 1, None: 1, "2.5": 1, "inf": 1}),
        (np.array([True, False, True]), {"1": 2, "0": 1}),
        (np.array([b"a\xff", "b", None, 1], dtype=object), {"a\ufffd": 1, "b": 1, None: 1, "1": 1}),
        (np.array(["\ud800"], dtype=object), {"?": 1}),
    ],
    ids=["floats", "booleans", "objects", "no Unicode"],
)
def test_values_of_any_type_have_a_name(cells: Array, named: dict[str | None, int]) -> None:
    assert tally(cells) == named


def test_a_long_value_is_known_by_its_beginning_and_a_hash() -> None:
    names = {name_of("x" * 1000), name_of("x" * 1001), name_of("x" * 64)}

    assert len(names) == 3
    assert {len(name or "") for name in names} == {MAX_NAME}


def test_lists_are_no_category() -> None:
    cells = np.empty(1, dtype=object)
    cells[0] = ["a"]
    rows = Rows(np.zeros((1, 0)), (cells,))
    with pytest.raises(SketchError, match="expected text or numbers in a category"):
        make_baseline(rows, {"c": "category"})


def test_rows_of_another_width_or_length_are_refused() -> None:
    baseline = measure_reference(
        (CODE,), VALUE, inputs={"place code": np.ones((9, 1))}, outputs={"y": np.ones((9, 1))}
    )
    code = np.ones(2)

    with pytest.raises(SketchError, match="expected rows of 2 columns, got shape \\(2, 2\\)"):
        sketch_rows(np.zeros((2, 2)), baseline)
    with pytest.raises(SketchError, match="and 2 categories"):
        sketch_rows(Rows(np.zeros((2, 0)), (code, code)), baseline)
    with pytest.raises(SketchError, match="one length, got \\[2, 3\\]"):
        sketch_rows(Rows(np.zeros((3, 1)), (code,)), baseline)


def test_parts_are_put_together_column_by_column() -> None:
    parts = [Rows(np.full((k, 1), k), (np.array(["a"] * k, dtype=object),)) for k in (1, 2)]
    whole = concatenate(parts)

    assert whole.numbers.tolist() == [[1], [2], [2]]
    assert whole.categories[0].tolist() == ["a", "a", "a"]

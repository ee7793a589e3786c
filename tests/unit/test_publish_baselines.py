"""Baselines that are not made of the evaluation set: of reference files, of a file, of declared ranges."""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

from muster_models.errors import ManifestError, MusterError, RequestError
from muster_models.manifest import FeatureSpec, Quantisation, TensorSpec
from muster_models.publish import Source, build, read_source
from muster_models.publish.baselines import Declared, make_reference, of_ranges
from muster_models.publish.reference_file import ReferenceRows, read_reference
from muster_models.publish.source import read_declaration
from muster_models.runtime import load
from muster_models.sketch.baseline import Baseline, decode_baseline
from support.category_model import trips, write_tariff
from support.onnx_models import linear
from support.sources import DECLARATION, evaluation_rows, write_source

CREATED = "2026-01-01T00:00:00Z"
X = (TensorSpec("x", "float32", (None, 2)),)
FIRST = (FeatureSpec("first", "x", 0),)
NAMED = 'baseline = "toy.baseline"\n'


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def read(path: Path, *, inputs: tuple[TensorSpec, ...] = X) -> ReferenceRows:
    return read_reference(path, inputs, FIRST)


def reference(folder: Path, rows: int = 500, *, shift: float = 0.0) -> Baseline:
    """Return the baseline of rows of their own for the model of a source folder."""
    declared = read_declaration(folder)
    runtime = load("onnx", folder / "model.onnx")
    inputs = {"x": np.add(evaluation_rows(rows)["x"], shift, dtype=np.float32)}
    return make_reference(runtime, Declared(declared.features, declared.prediction), inputs)


def test_columns_of_a_table_are_found_by_feature_by_index_and_by_input(tmp_path: Path) -> None:
    inputs = (*X, TensorSpec("z", "int64", (None, 1)), TensorSpec("t", "str", (None, 1)))
    path = write(tmp_path, "a.csv", "z,spare,x[1],first,t\n1,9,2.5,,red\n-2,9,nan,0.5,\n")

    rows = read(path, inputs=inputs)

    assert rows.unused == ("spare",)
    assert len(rows) == 2
    np.testing.assert_array_equal(rows.inputs["x"], np.array([[np.nan, 2.5], [0.5, np.nan]], np.float32))
    assert rows.inputs["z"].tolist() == [[1], [-2]]
    assert rows.inputs["t"].tolist() == [["red"], [""]]


def test_a_table_of_the_right_width_without_known_names_is_taken_in_order(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.csv", "left,right\n1,2\n3,4\n"))

    assert rows.inputs["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert rows.unused == ()


def test_arrays_that_the_model_does_not_read_are_left_out_and_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=False, **evaluation_rows(7))

    rows = read(tmp_path / "a.npz")

    assert (len(rows), rows.unused) == (7, ("labels",))


def test_a_matrix_is_the_only_input_whatever_the_shape_of_its_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(8.0).reshape(2, 4))

    rows = read(tmp_path / "a.npy", inputs=(TensorSpec("image", "float32", (None, 2, 2)),))

    assert rows.inputs["image"].shape == (2, 2, 2)


def test_cells_of_a_quantised_input_are_the_real_numbers_that_people_speak_of(tmp_path: Path) -> None:
    spec = TensorSpec("x", "uint8", (None, 2), Quantisation((0.5,), (10,)))

    rows = read(write(tmp_path, "a.csv", "left,right\n1.5,2\n"), inputs=(spec,))

    assert rows.inputs["x"].tolist() == [[1.5, 2.0]]


def bad_npy(folder: Path) -> Path:
    np.save(folder / "a.npy", np.array([object()]), allow_pickle=True)
    return folder / "a.npy"


def empty_npy(folder: Path) -> Path:
    np.save(folder / "a.npy", np.zeros((0, 2)))
    return folder / "a.npy"


def other_npz(folder: Path) -> Path:
    np.savez(folder / "a.npz", allow_pickle=False, y=np.zeros(3))
    return folder / "a.npz"


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda f: f / "gone.csv", RequestError, "cannot be read"),
        (lambda f: write(f, "a.txt", ""), RequestError, "expected .npz, .npy, .csv or .parquet, got '.txt'"),
        (lambda f: write(f, "a.csv", ""), ManifestError, r"expected the columns 'first' or 'x\[0\]'"),
        (lambda f: write(f, "a.csv", "first,b,c\n1,2,3\n"), ManifestError, r"expected the columns 'x\[1\]'"),
        (lambda f: write(f, "a.csv", "a,b\n"), ManifestError, "expected rows below the names"),
        (lambda f: write(f, "a.csv", "a,a\n1,2\n"), ManifestError, "must differ"),
        (lambda f: write(f, "a.csv", "a,b\n1\n"), ManifestError, "row 1: expected 2 fields, got 1"),
        (lambda f: write(f, "a.csv", "a,b\n1,x\n"), ManifestError, "column 'b': expected float32"),
        (lambda f: write(f, "a.csv", 'a,b\n1,"2\n'), ManifestError, "unexpected end of data"),
        (bad_npy, ManifestError, "without pickle"),
        (empty_npy, ManifestError, "expected rows, got"),
        (other_npz, ManifestError, r"expected the arrays \['x'\], got \['y'\]"),
    ],
)
def test_what_does_not_hold_the_models_inputs_is_refused_with_what_was_expected(
    make: Callable[[Path], Path], kind: type[MusterError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        read(make(tmp_path))


@given(name=st.sampled_from(["a.csv", "a.npy", "a.npz"]), data=st.binary(max_size=300))
@example(name="a.npz", data=b"PK\x05\x06" + bytes(18))
@example(name="a.csv", data=b"left,right\n\xff,1\n")
@example(name="a.csv", data=b"left,right\n1e999,1\n")
def test_whatever_a_file_holds_it_is_rows_or_refused(name: str, data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            rows = read(path)
        except MusterError:
            return

    assert len(rows) > 0


def test_a_parquet_holds_the_same_rows_as_a_csv(tmp_path: Path) -> None:
    table = write(tmp_path, "a.csv", "left,right\n1,2\n3,4.5\n")
    parquet.write_table(pa.table({"left": [1.0, 3.0], "right": [2.0, 4.5]}), tmp_path / "a.parquet")
    rows, same = read(tmp_path / "a.parquet").inputs, read(table).inputs

    assert rows.keys() == same.keys()
    assert all(np.array_equal(rows[name], same[name]) for name in rows)


def test_parquet_says_what_it_needs_where_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RequestError, match=r"reading \.parquet needs pyarrow: pip install pyarrow"):
        read(write(tmp_path, "a.parquet", ""))


def test_the_evaluation_set_makes_the_same_baseline_as_the_same_rows_of_a_file(tmp_path: Path) -> None:
    folder = write_source(tmp_path)

    version = build(read_source(folder), release=1, created=CREATED, output=folder / "out")

    assert version.manifest.file("baseline").sha256 == reference(folder, 40).digest
    assert version.distances == ()


def test_a_version_takes_the_baseline_that_its_declaration_names_and_tells_how_far_it_is(
    tmp_path: Path,
) -> None:
    folder = write_source(tmp_path, declaration=NAMED + DECLARATION, arrays=evaluation_rows(400))
    made = reference(folder, shift=1.0)
    (folder / "toy.baseline").write_bytes(made.encode())

    version = build(read_source(folder), release=1, created=CREATED, output=folder / "out")

    assert version.manifest.file("baseline").sha256 == made.digest
    assert [one.name for one in version.distances] == [column.name for column in made.columns]
    assert version.distances[0].rows == 500
    assert version.distances[0].chi2 > 5


def test_a_baseline_of_rows_alike_lies_near_by_the_law_of_two_samples(tmp_path: Path) -> None:
    folder = write_source(tmp_path, declaration=NAMED + DECLARATION, arrays=evaluation_rows(400))
    rows = np.random.default_rng(77).normal(size=(400, 2)).astype(np.float32)
    declared = read_declaration(folder)
    runtime = load("onnx", folder / "model.onnx")
    made = make_reference(runtime, Declared(declared.features, declared.prediction), {"x": rows})
    (folder / "toy.baseline").write_bytes(made.encode())

    version = build(read_source(folder), release=1, created=CREATED, output=folder / "out")

    # 400 against 400 rows: a statistic that took the reference for the truth would be about 2.
    assert 0.6 < version.distances[0].chi2 < 1.5


def test_two_versions_share_the_baseline_that_is_given_to_both(tmp_path: Path) -> None:
    folder = write_source(tmp_path)
    made = reference(folder)

    versions = [
        build(read_source(folder), release=n, created=CREATED, baseline=made, output=folder / "out")
        for n in (1, 2)
    ]

    assert {one.manifest.file("baseline").sha256 for one in versions} == {made.digest}
    assert len({one.digest for one in versions}) == 2


def test_a_baseline_of_other_columns_other_classes_or_without_pairs_is_refused(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "toy")
    made = reference(folder)
    renamed = write_source(tmp_path / "other", declaration=DECLARATION.replace('"first"', '"second"'))
    more = DECLARATION.replace('["left", "right"]', '["left", "right", "ahead"]')

    with pytest.raises(ManifestError, match=r"baseline: expected the columns \['second'"):
        build(read_source(renamed), release=1, created=CREATED, baseline=made, output=folder / "out")
    with pytest.raises(ManifestError, match="declared"):
        build(
            read_source(write_tariff(tmp_path / "tariff")),
            release=1,
            created=CREATED,
            baseline=of_tariff(tmp_path / "tariff", paired=False),
            output=folder / "out",
        )
    three = write_source(tmp_path / "three", declaration=more, model=linear(np.ones((2, 3), np.float32)))
    with pytest.raises(ManifestError, match="baseline: expected 3 classes, got 2"):
        build(waived(three), release=1, created=CREATED, baseline=made, output=folder / "out")


def waived(folder: Path) -> Source:
    """Return a source whose threshold anything meets."""
    path = folder / "model.toml"
    path.write_text(path.read_text().replace("minimum = 0.9", "minimum = 0.0"))
    return read_source(folder)


def of_tariff(folder: Path, *, paired: bool) -> Baseline:
    declared = read_declaration(folder)
    runtime = load("onnx", folder / "model.onnx")
    return make_reference(runtime, Declared(declared.features, declared.prediction, paired), trips(300))


def test_texts_codes_numbers_and_their_correlation_come_from_reference_rows(tmp_path: Path) -> None:
    made = of_tariff(write_tariff(tmp_path), paired=True)

    assert [column.kind for column in made.columns] == [
        "category",
        "category",
        "numeric",
        "numeric",
        "numeric",
    ]
    assert made.pairs is not None
    assert decode_baseline(made.encode()) == made


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ("", r"for \['first'\], got them for \[\]"),
        ('[[ranges]]\nfeature = "first"\nminimum = 2.0\nmaximum = 1.0\n', "minimum below a maximum"),
        ('[[ranges]]\nfeature = "other"\nminimum = 0.0\nmaximum = 1.0\n', r"got them for \['other'\]"),
    ],
)
def test_without_reference_rows_a_range_is_needed_for_every_column(
    ranges: str, message: str, tmp_path: Path
) -> None:
    declared = read_declaration(write_source(tmp_path, declaration=DECLARATION + ranges))

    with pytest.raises(ManifestError, match=message):
        of_ranges(declared)


def test_a_provisional_baseline_is_shipped_and_says_so(tmp_path: Path) -> None:
    ranges = '[[ranges]]\nfeature = "first"\nminimum = -5.0\nmaximum = 5.0\n'
    folder = write_source(tmp_path, declaration=DECLARATION + ranges)
    read_back = read_source(folder)

    version = build(
        read_back,
        release=1,
        created=CREATED,
        baseline=of_ranges(read_back.declared),
        output=folder / "out",
    )

    entry = version.manifest.file("baseline")
    assert decode_baseline(version.files[entry.sha256].read_bytes()).origin == "declared"

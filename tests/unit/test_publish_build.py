"""Building a version: what is measured, what is written, and what is refused."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from muster_models import manifest as manifests
from muster_models.errors import ManifestError, ModelFileError, Reason
from muster_models.golden import decode_golden
from muster_models.manifest import TensorSpec, Threshold, Waiver
from muster_models.publish import Built, build, read_source
from muster_models.publish.build import check_thresholds
from muster_models.runtime import load
from muster_models.sketch.baseline import decode_baseline
from muster_models.tensors import unpack
from support.golden_answers import what_is_wrong
from support.onnx_models import linear, simple
from support.sources import DECLARATION, WEIGHTS, evaluation_rows, write_source

CREATED = "2026-01-01T00:00:00Z"


def built(folder: Path, *, waivers: tuple[Waiver, ...] = ()) -> Built:
    return build(read_source(folder), release=1, created=CREATED, waivers=waivers, output=folder / "out")


def refused(folder: Path, message: str) -> ManifestError:
    with pytest.raises(ManifestError, match=message) as caught:
        built(folder)
    return caught.value


def test_every_file_lies_under_its_hash_and_the_manifest_lists_all(tmp_path: Path) -> None:
    version = built(write_source(tmp_path))

    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in version.files.values()} == {
        digest: digest for digest in version.files
    }
    assert {entry.sha256: entry.length for entry in version.manifest.files} == {
        digest: path.stat().st_size for digest, path in version.files.items()
    }
    assert [entry.role for entry in version.manifest.files] == ["model", "baseline", "golden"]
    assert sorted(path.name for path in (tmp_path / "out/blobs").iterdir()) == sorted(version.files)


def test_outputs_are_declared_as_they_are_answered_not_as_the_file_says(tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(linear(WEIGHTS))
    proto.graph.node[-1].output[0] = "right"
    shape = helper.make_node("Shape", ["right"], ["shape"])
    proto.graph.node.extend([shape, helper.make_node("Reshape", ["right", "shape"], ["y"])])
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7

    version = built(write_source(tmp_path, model=proto.SerializeToString()))

    assert version.manifest.outputs == (TensorSpec("y", "float32", (None, 2)),)


def test_the_document_is_what_a_device_parses(tmp_path: Path) -> None:
    version = built(write_source(tmp_path))

    assert manifests.parse(version.document) == version.manifest
    assert version.digest == manifests.digest(version.document)


def test_the_same_source_gives_the_same_version(tmp_path: Path) -> None:
    first, second = built(write_source(tmp_path / "a")), built(write_source(tmp_path / "b"))

    assert first.document == second.document


def test_what_is_measured_is_written_down(tmp_path: Path) -> None:
    version = built(write_source(tmp_path))

    assert version.manifest.metrics["accuracy"] == 1.0
    assert 0.5 < version.manifest.metrics["confidence"] < 1.0
    assert version.manifest.inputs[0].shape == (None, 2)
    assert version.manifest.datasets[0].rows == 40
    assert 0 < version.latency_ms < 250


def test_the_baseline_counts_the_evaluation_rows(tmp_path: Path) -> None:
    version = built(write_source(tmp_path))

    baseline = decode_baseline(version.files[version.manifest.file("baseline").sha256].read_bytes())

    assert [(column.name, column.rows, column.unit) for column in baseline.columns] == [
        ("first", 40, "mm"),
        ("prediction:confidence", 40, ""),
        ("prediction:class", 40, ""),
    ]


def test_the_golden_vectors_are_answered_within_tolerance_and_a_damaged_model_is_not(tmp_path: Path) -> None:
    version = built(write_source(tmp_path))
    golden = decode_golden(version.files[version.manifest.file("golden").sha256].read_bytes())
    (tmp_path / "damaged.onnx").write_bytes(linear(WEIGHTS * np.float32(1.05)))

    said = {}
    for name in ("model.onnx", "damaged.onnx"):
        said[name] = what_is_wrong(load("onnx", tmp_path / name), golden)

    assert said["model.onnx"] == [None] * len(golden.vectors)
    assert any(said["damaged.onnx"])
    assert {unpack(vector.inputs)["x"].shape[0] for vector in golden.vectors} == {1, 4}


def test_a_missed_threshold_is_refused_unless_it_is_waived(tmp_path: Path) -> None:
    folder = write_source(tmp_path, model=linear(WEIGHTS[::-1].copy()))
    waiver = Waiver("accuracy", "a demonstration of a bad version")

    refused(folder, "threshold 'accuracy': wanted at least 0.9, got 0")

    assert built(folder, waivers=(waiver,)).manifest.waivers == (waiver,)


def test_a_threshold_on_something_that_is_not_measured_is_missed() -> None:
    with pytest.raises(ManifestError, match=r"'speed': wanted at most 1, got none of \['accuracy'\]"):
        check_thresholds([Threshold("speed", maximum=1)], {"accuracy": 1.0}, [])
    with pytest.raises(ManifestError, match="'accuracy': wanted at least 0, got nan"):
        check_thresholds([Threshold("accuracy", minimum=0)], {"accuracy": float("nan")}, [])


def test_a_waiver_of_what_is_not_missed_is_refused() -> None:
    waiver = Waiver("accuracy", "just in case it is missed")

    with pytest.raises(ManifestError, match=r"waivers must name missed thresholds, got \['accuracy'\]"):
        check_thresholds([Threshold("accuracy", minimum=0.5)], {"accuracy": 1.0}, [waiver])


def test_a_file_that_the_gate_refuses_is_never_loaded(tmp_path: Path) -> None:
    folder = write_source(tmp_path, model=b"not a model")

    with pytest.raises(ModelFileError):
        built(folder)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("declaration", "model", "message"),
    [
        (DECLARATION, linear(np.ones((3, 2), np.float32)), r"input 'x': expected float32\[None, 3\]"),
        (DECLARATION, linear(np.ones((2, 5), np.float32)), "expected 2 scores a row, one per label, got 5"),
        (DECLARATION, linear(np.full((2, 2), np.nan, np.float32)), "expected finite values"),
        (
            DECLARATION.replace('output = "y"', 'output = "z"'),
            None,
            r"output 'z': expected numbers .*, got \['y'\]",
        ),
        (
            DECLARATION.replace("[[features]]", "[budget]\nlatency_ms = 1e-9\n[[features]]"),
            None,
            "budget latency_ms",
        ),
        (
            DECLARATION + 'rows = 7\ndigest = "00"\n',
            None,
            "dataset 'toy rows': expected 00 with 7 rows, got .* with 40 rows",
        ),
    ],
    ids=["width", "scores", "finite", "output", "latency", "dataset"],
)
def test_a_model_that_does_not_do_what_is_declared_is_refused(
    declaration: str, model: bytes | None, message: str, tmp_path: Path
) -> None:
    refused(write_source(tmp_path, declaration=declaration, model=model), message)

    assert not (tmp_path / "out").exists()


def test_values_that_are_not_finite_have_their_own_reason(tmp_path: Path) -> None:
    folder = write_source(tmp_path, model=linear(np.full((2, 2), np.nan, np.float32)))

    assert refused(folder, "finite").reason is Reason.NOT_FINITE


def test_a_model_of_one_row_a_call_is_asked_row_by_row(tmp_path: Path) -> None:
    version = built(write_source(tmp_path, model=linear(WEIGHTS, rows=1)))

    assert version.manifest.inputs[0].shape == (1, 2)
    assert version.manifest.metrics["accuracy"] == 1.0


def test_rows_that_do_not_fill_the_calls_of_a_model_are_refused(tmp_path: Path) -> None:
    folder = write_source(tmp_path, model=linear(WEIGHTS, rows=7), arrays=evaluation_rows(40))

    refused(folder, "takes 7 rows a call, expected a multiple of it, got 40 rows")


def test_a_model_card_travels_with_the_version(tmp_path: Path) -> None:
    folder = write_source(tmp_path)
    (folder / "card.md").write_text("# Toy\n")

    assert built(folder).manifest.file("card").length == 6


def test_a_file_the_engine_refuses_is_refused_with_its_words(tmp_path: Path) -> None:
    from onnx import helper  # noqa: PLC0415 - one node for one test

    broken = simple(helper.make_node("Gemm", ["x"], ["y"]))

    assert "onnxruntime refuses" in str(refused(write_source(tmp_path, model=broken), "model.onnx"))

"""The committed reference models do what is written of them, on the real data, in the engines of a device."""

from pathlib import Path

import numpy as np
import pytest

from muster_models.errors import ManifestError
from muster_models.golden import decode_golden
from muster_models.manifest import Waiver
from muster_models.publish import Built, build, read_source
from muster_models.publish.source import digest_arrays
from muster_models.runtime import load
from support.fixtures import ROOT
from support.golden_answers import what_is_wrong
from zoo.digits import data as digits
from zoo.weather import data as weather

ZOO = ROOT / "models/zoo"
DATA = {"digits": digits, "weather": weather}
# What models/zoo/README.md says, measured when the weights were made.
FIGURES = {
    ("digits", "1.0.0"): {"accuracy": 0.9536, "confidence": 0.8731},
    ("digits", "1.1.0"): {"accuracy": 0.9647, "confidence": 0.9155},
    ("digits", "1.2.0"): {"accuracy": 0.9332, "confidence": 0.7000},
    ("weather", "1.0.0"): {"mae": 0.5510, "rmse": 0.7347},
    ("weather", "1.1.0"): {"mae": 0.5116, "rmse": 0.6889},
    ("weather", "1.2.0"): {"mae": 0.5711, "rmse": 0.7531},
}
TOLERANCE = 0.004  # kernels of other machines may flip one row in a few hundred
WAIVERS = {
    ("digits", "1.2.0"): Waiver("accuracy", "the bad version of the demonstration"),
    ("weather", "1.2.0"): Waiver("mae", "the bad version of the demonstration"),
}
VERSIONS = list(FIGURES)
SPLITS = ("train", "evaluation", "live")


def built(model: str, version: str, folder: Path, *, waivers: tuple[Waiver, ...] | None = None) -> Built:
    if waivers is None:
        waivers = (WAIVERS[model, version],) if (model, version) in WAIVERS else ()
    source = read_source(ZOO / model / version)
    return build(source, release=1, created="2026-01-01T00:00:00Z", waivers=waivers, output=folder)


@pytest.mark.parametrize(("model", "version"), VERSIONS)
def test_a_version_reaches_its_recorded_figures(model: str, version: str, tmp_path: Path) -> None:
    metrics = built(model, version, tmp_path).manifest.metrics

    assert metrics == pytest.approx(FIGURES[model, version], abs=TOLERANCE)


@pytest.mark.parametrize(("model", "version"), VERSIONS)
def test_a_version_answers_its_golden_vectors(model: str, version: str, tmp_path: Path) -> None:
    manifest = (made := built(model, version, tmp_path)).manifest
    golden = decode_golden(made.files[manifest.file("golden").sha256].read_bytes())
    runtime = load(manifest.runtime, made.files[manifest.file("model").sha256])

    assert what_is_wrong(runtime, golden) == [None] * len(golden.vectors)


@pytest.mark.parametrize("model", DATA)
def test_no_version_passes_for_another_by_its_golden_vectors(model: str, tmp_path: Path) -> None:
    versions = [built(model, version, tmp_path / version) for name, version in VERSIONS if name == model]
    for version in versions:
        golden = decode_golden(version.files[version.manifest.file("golden").sha256].read_bytes())
        for other in versions:
            runtime = load(other.manifest.runtime, other.files[other.manifest.file("model").sha256])

            assert any(what_is_wrong(runtime, golden)) == (other is not version)


@pytest.mark.parametrize(("model", "version"), list(WAIVERS))
def test_the_bad_version_is_not_released_without_a_waiver(model: str, version: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=f"threshold '{WAIVERS[model, version].metric}': wanted at"):
        built(model, version, tmp_path, waivers=())


def test_the_bad_version_of_digits_is_clearly_less_sure(tmp_path: Path) -> None:
    """What a canary sees without labels."""
    sure = {
        version: built("digits", version, tmp_path).manifest.metrics["confidence"]
        for version in ("1.1.0", "1.2.0")
    }

    assert sure["1.1.0"] - sure["1.2.0"] > 0.15


@pytest.mark.parametrize("model", DATA)
def test_a_forecast_or_a_guess_without_a_model_is_worse(model: str) -> None:
    answers = DATA[model].answers("evaluation")
    if model == "weather":
        now = weather.rows("evaluation")["readings"][:, 0]
        worst_allowed = 0.56

        assert np.abs(now - answers).mean() > worst_allowed
    else:
        _, counts = np.unique(answers, return_counts=True)

        assert counts.max() / counts.sum() < 0.2


@pytest.mark.parametrize(("model", "version"), VERSIONS)
def test_the_committed_evaluation_rows_are_the_real_ones(model: str, version: str) -> None:
    source = read_source(ZOO / model / version)
    real = DATA[model].rows("evaluation")

    assert {name: array.tolist() for name, array in source.inputs.items()} == {
        name: array.tolist() for name, array in real.items()
    }
    assert source.answers.tolist() == DATA[model].answers("evaluation").tolist()


@pytest.mark.parametrize(("model", "version"), VERSIONS)
def test_the_declared_digest_of_the_training_rows_is_theirs(model: str, version: str) -> None:
    declared = next(
        entry for entry in read_source(ZOO / model / version).declared.datasets if entry.role == "train"
    )
    rows = {**DATA[model].rows("train"), "answers": DATA[model].answers("train")}

    assert (declared.digest, declared.rows) == (digest_arrays(rows), len(rows["answers"]))


@pytest.mark.parametrize("model", DATA)
def test_no_row_is_in_two_splits(model: str) -> None:
    rows = {
        split: {array.tobytes() for array in next(iter(DATA[model].rows(split).values()))} for split in SPLITS
    }
    shared = [len(rows[a] & rows[b]) for a in SPLITS for b in SPLITS if a < b]

    # Two stations may read the very same at different hours; images never repeat.
    assert max(shared) <= (0 if model == "digits" else 3)


@pytest.mark.parametrize("model", DATA)
def test_the_rows_of_a_split_are_always_the_same(model: str) -> None:
    first, second = (DATA[model].rows("live") for _ in range(2))

    assert digest_arrays({**first}) == digest_arrays({**second})


def test_the_committed_files_are_small() -> None:
    sizes = {
        path: path.stat().st_size for path in ZOO.rglob("*.*") if path.suffix in {".npz", ".onnx", ".tflite"}
    }

    assert len(sizes) == 12
    assert max(sizes.values()) < 100_000

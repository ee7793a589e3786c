"""Accuracy without labels, on a real model and images it never saw: how far off, and when it misleads."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from muster_controller.domain.labels.estimate import Estimate, centres, estimate
from muster_models.manifest import Waiver
from muster_models.publish import build, read_source
from muster_models.runtime import load
from muster_models.sketch.baseline import decode_baseline
from muster_models.sketch.features import CONFIDENCE
from support.fixtures import ROOT
from zoo.digits import data as digits

ZOO = ROOT / "models/zoo/digits"
Array = NDArray[np.float64]
WAIVERS = {"1.2.0": (Waiver("accuracy", "the bad version of the demonstration"),)}


def estimated(version: str, folder: Path, images: Array) -> tuple[float, Estimate, Estimate]:
    """Return the true accuracy on images, the calibrated estimate, and the one that believes the scores."""
    source = read_source(ZOO / version)
    built = build(
        source, release=1, created="2026-01-01T00:00:00Z", waivers=WAIVERS.get(version, ()), output=folder
    )
    baseline = decode_baseline(built.files[built.manifest.file("baseline").sha256].read_bytes())
    column = next(one for one in baseline.columns if one.name == CONFIDENCE)
    scores = load("onnx", source.model_path).run({"image": images.astype(np.float32)})["probabilities"]
    bins = np.searchsorted(column.edge_array(), scores.max(axis=1), side="right")
    counts = np.bincount(bins, minlength=column.ordinary).tolist()
    middle = centres(column.edges)
    calibrated, believed = estimate(counts, middle, built.manifest.reliability), estimate(counts, middle)
    assert calibrated is not None
    assert believed is not None
    truth = float((scores.argmax(axis=1) == digits.answers("live")).mean())
    return truth, calibrated, believed


def live() -> Array:
    return digits.rows("live")["image"].astype(np.float64)


# Measured: 0.001, 0.001 and 0.011 off; the scores alone 0.08, 0.05 and 0.22.
@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
def test_on_images_like_those_of_the_evaluation_set_it_is_within_a_few_hundredths(
    version: str, tmp_path: Path
) -> None:
    truth, calibrated, believed = estimated(version, tmp_path, live())

    assert abs(calibrated.value - truth) < 0.02
    assert abs(calibrated.value - truth) < abs(believed.value - truth) / 4
    assert abs(calibrated.value - truth) <= calibrated.error


def test_noise_that_makes_the_model_less_sure_is_seen(tmp_path: Path) -> None:
    noisy = np.clip(live() + np.random.default_rng(1).normal(0, 4, live().shape), 0, 16)
    clean = estimated("1.1.0", tmp_path / "clean", live())
    truth, calibrated, _ = estimated("1.1.0", tmp_path / "noisy", noisy)

    assert truth < clean[0] - 0.03
    assert calibrated.value < clean[1].value - 0.03
    assert abs(calibrated.value - truth) < 0.03


def test_it_misleads_where_scores_mean_something_else(tmp_path: Path) -> None:
    """Dark images: the network is unsure of them and mostly right, 0.94 where the estimate says 0.72."""
    truth, calibrated, _ = estimated("1.1.0", tmp_path, live() * 0.4)

    assert truth - calibrated.value > 0.15


def test_the_manifest_counts_every_evaluation_row_once(tmp_path: Path) -> None:
    source = read_source(ZOO / "1.1.0")
    manifest = build(source, release=1, created="2026-01-01T00:00:00Z", output=tmp_path).manifest

    assert len(manifest.reliability) == 32
    assert sum(rows for rows, _ in manifest.reliability) == len(source.answers)
    right = sum(right for _, right in manifest.reliability)
    assert right / len(source.answers) == pytest.approx(manifest.metrics["accuracy"], abs=1e-6)

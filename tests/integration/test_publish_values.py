"""What the publisher writes down of maps and of quantised models is what a device takes and answers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from muster_agent.runner import Isolation, Runner, Zygote
from muster_agent.runner.real_numbers import predict_real
from muster_models.errors import ManifestError
from muster_models.manifest import Quantisation, TensorSpec
from support.onnx_models import zip_map
from support.quantised import REAL, SCALE, STEPS, ZERO, built, laid_out, quantised
from support.sources import DECLARATION, write_source

Array = NDArray[np.generic]


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote.start()
    yield zygote
    zygote.close()


def classifier(folder: Path, *, keys: list[str]) -> Path:
    """Return the source of a model that maps keys to the numbers it is given; the larger one is right."""
    rows = np.random.default_rng(5).random((40, 2)).astype(np.float32)
    labels = np.array(["left", "right"]).searchsorted(np.array(keys)[rows.argmax(axis=1)])
    return write_source(folder, model=zip_map(keys), arrays={"x": rows, "labels": labels})


@pytest.mark.parametrize("keys", [["left", "right"], ["right", "left"]])
def test_maps_are_declared_with_a_column_per_label_and_answered_so(
    zygote: Zygote, keys: list[str], tmp_path: Path
) -> None:
    version = built(classifier(tmp_path / "source", keys=keys))
    verified = laid_out(version, tmp_path / "v")
    runner = Runner(zygote, on_failure=lambda *_: None)

    verdict = runner.preflight(verified, tmp_path / "v")
    runner.activate(verified, tmp_path / "v")
    asked = np.array([[0.25, 0.75]], np.float32)
    answer = runner.predict("toy", {"x": asked})["y"]
    runner.close()

    assert version.manifest.outputs == (TensorSpec("y", "float32", (None, 2)),)
    assert version.manifest.metrics["accuracy"] == 1
    assert (verdict.accepted, verdict.detail) == (True, "")
    assert answer.tolist() == [[asked[0, keys.index("left")], asked[0, keys.index("right")]]]


def test_labels_in_another_order_than_the_keys_decide(zygote: Zygote, tmp_path: Path) -> None:
    source = classifier(tmp_path / "source", keys=["left", "right"])
    text = DECLARATION.replace('["left", "right"]', '["right", "left"]')
    (source / "model.toml").write_text(text.replace("minimum = 0.9", "maximum = 0.0"))

    version = built(source)  # every answer is wrong by these labels, as it has to be

    assert version.manifest.metrics["accuracy"] == 0


def test_keys_that_are_no_labels_are_not_published(tmp_path: Path) -> None:
    source = classifier(tmp_path / "source", keys=["left", "right"])
    (source / "model.toml").write_text(DECLARATION.replace('"right"]', '"up"]'))

    with pytest.raises(ManifestError, match=r"the keys \['left', 'right'\], expected the labels"):
        built(source)


@pytest.mark.parametrize("rows", [STEPS, REAL], ids=["integers", "real numbers"])
def test_a_quantised_model_is_measured_in_real_numbers(rows: Array, tmp_path: Path) -> None:
    version = built(quantised(tmp_path / "source", rows))

    assert version.manifest.metrics == {"mae": 0, "rmse": 0}
    assert version.manifest.inputs == (
        TensorSpec("tensor 0", "int8", (1, 1), Quantisation((SCALE,), (ZERO,))),
    )


def test_the_baseline_is_the_same_whichever_form_the_rows_have(tmp_path: Path) -> None:
    versions = [built(quantised(tmp_path / str(rows.dtype), rows)) for rows in (STEPS, REAL)]

    baselines = {version.manifest.file("baseline").sha256 for version in versions}

    assert len(baselines) == 1


@pytest.mark.parametrize("isolation", list(Isolation))
def test_a_device_takes_both_forms(zygote: Zygote, isolation: Isolation, tmp_path: Path) -> None:
    verified = laid_out(built(quantised(tmp_path / "source", REAL)), tmp_path / "v")
    runner = Runner(zygote, on_failure=lambda *_: None, isolation=isolation)

    verdict = runner.preflight(verified, tmp_path / "v")
    runner.activate(verified, tmp_path / "v")
    answers = [runner.predict("toy", {"tensor 0": rows[4:5]})["tensor 1"].tolist() for rows in (STEPS, REAL)]
    runner.close()

    assert (verdict.accepted, verdict.detail) == (True, "")
    assert answers == [[[4 + ZERO]]] * 2


def with_fallback(folder: Path, value: float) -> Path:
    source = quantised(folder, REAL)
    declared = (source / "model.toml").read_text()
    (source / "model.toml").write_text(
        declared.replace("[prediction]", f"fallback = {value}\n\n[prediction]")
    )
    return source


@pytest.mark.parametrize(("fallback", "step"), [(0.0, ZERO), (4.0, 16 + ZERO), (-7.1, ZERO - 28)])
def test_the_fallback_of_a_quantised_output_is_a_real_number(
    zygote: Zygote, tmp_path: Path, fallback: float, step: int
) -> None:
    verified = laid_out(built(with_fallback(tmp_path / "source", fallback)), tmp_path / "v")
    runner = Runner(zygote, on_failure=lambda *_: None, isolation=Isolation.INLINE)
    runner.stop(verified)

    answer = runner.predict("toy", {"tensor 0": STEPS[:1]})["tensor 1"]
    told = predict_real(runner, "toy", {"tensor 0": STEPS[:1]})["tensor 1"].tolist()
    runner.close()

    assert answer.dtype == np.int8
    assert answer.tolist() == [[step]]
    assert told == [[(step - ZERO) * SCALE]]


@pytest.mark.parametrize("fallback", [-7.5, 60.0])
def test_a_fallback_that_an_output_cannot_say_is_not_published(tmp_path: Path, fallback: float) -> None:
    with pytest.raises(ManifestError, match=r"output 'tensor 1' \(int8\) holds -7 to 56.75"):
        built(with_fallback(tmp_path / "source", fallback))

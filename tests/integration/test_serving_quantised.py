"""A quantised model over the socket and in the recorder: real numbers or integers, measured alike."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from muster_agent import Client, Model
from muster_agent.measure.outbox import WindowPart
from muster_agent.measure.recorder import Recorder
from muster_agent.runner import Isolation, Runner, Zygote
from muster_agent.serving.server import Server
from muster_models.errors import PredictionError
from muster_models.manifest import Quantisation
from muster_models.sketch.baseline import decode_baseline
from muster_models.wire import Reporting
from support.quantised import REAL, SCALE, STEPS, ZERO, Array, built, laid_out, quantised

TAKES, GIVES = "tensor 0", "tensor 1"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the socket of a device that runs the model, as it is laid out in ``v``."""
    folder = tmp_path_factory.mktemp("device")
    verified = laid_out(built(quantised(folder / "source", REAL)), folder / "v")
    zygote = Zygote.start()
    runner = Runner(zygote, on_failure=lambda *_: None, isolation=Isolation.INLINE)
    runner.activate(verified, folder / "v")
    server = Server(runner, folder / "agent.sock")
    yield folder
    server.close()
    runner.close()
    zygote.close()


@pytest.mark.parametrize("rows", [STEPS, REAL, REAL.astype(np.float64)])
def test_a_program_passes_and_gets_what_it_likes(place: Path, rows: Array) -> None:
    with Client(place) as client:
        integers = client.predict("toy", {TAKES: rows[6:7]})[GIVES]
        real = client.predict_real("toy", {TAKES: rows[6:7]})[GIVES]

    assert (integers.tolist(), str(integers.dtype)) == ([[6 + ZERO]], "int8")
    assert (real.tolist(), str(real.dtype)) == ([[6 * SCALE]], "float32")


def test_a_model_object_gives_real_numbers_too(place: Path) -> None:
    with Model("toy", place) as model:
        answer = model.predict_real({TAKES: [[1.6]]})[GIVES]

    assert answer.tolist() == [[1.5]]  # the nearest step


def test_the_description_says_what_integers_stand_for(place: Path) -> None:
    with Client(place) as client:
        described = client.describe("toy")

    assert described.inputs[0].quantisation == Quantisation((SCALE,), (ZERO,))
    assert described.outputs[0].quantisation == Quantisation((SCALE,), (ZERO,))


def test_what_has_no_integer_form_is_the_caller_s_mistake(place: Path) -> None:
    with Client(place) as client, pytest.raises(PredictionError, match="NaN has no int8 form"):
        client.predict("toy", {TAKES: np.array([[np.nan]], np.float32)})


def test_json_may_ask_for_real_numbers(place: Path) -> None:
    tensor = {"name": TAKES, "datatype": "FP32", "shape": [1, 1], "data": [0.75]}
    asked = {"inputs": [tensor], "parameters": {"real_output": True}}
    with Client(place) as client:
        answer = json.loads(client.command("/v2/models/toy/infer", json.dumps(asked).encode()))

    assert [(each["datatype"], each["data"]) for each in answer["outputs"]] == [("FP32", [0.75])]


def window(place: Path, rows: Array) -> WindowPart:
    """Return what is told of a window in which rows came in this form; integers are answered, as ever."""
    verified = laid_out(built(quantised(place / "source", REAL)), place / "v")
    baseline = decode_baseline((place / "v/baseline.bin").read_bytes())
    windows: list[WindowPart] = []
    recorder = Recorder(
        verified.manifest,
        baseline,
        Reporting(window_seconds=60.0),
        digest=verified.digest,
        clock=lambda: 1000.0,
        emit=windows.append,
    )
    for at in range(len(rows)):
        recorder.record({TAKES: rows[at : at + 1]}, {GIVES: STEPS[at : at + 1]}, seconds=0.001)
    recorder.close()
    (one,) = windows
    return one


def test_both_forms_are_measured_alike(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    told = [window(tmp_path / "a", STEPS), window(tmp_path / "b", REAL)]

    assert told[0].sketch == told[1].sketch != b""

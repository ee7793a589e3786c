"""The stock client of the protocol, ``tritonclient[http]``, over loopback TCP."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from muster_agent.runner import Serving
from muster_agent.serving.server import Server
from muster_models.errors import PredictionError, Reason
from muster_models.manifest import TensorSpec
from support.manifests import make_manifest
from support.verified import Array

MANIFEST = make_manifest(
    inputs=(TensorSpec("x", "float32", (None, 4)), TensorSpec("name", "str", (None,))),
    outputs=(TensorSpec("y", "float32", (None, 4)), TensorSpec("greeting", "str", (None,))),
)
ALGORITHMS = (None, "gzip", "deflate")


class Greeter:
    """Answers ``y = 2 x`` and a greeting; is told to fail by the name ``fail``."""

    alive = True

    def serving(self) -> Mapping[str, Serving]:
        return {"digits": Serving(MANIFEST, "f" * 64, stopped=False, alive=self.alive)}

    def served(self, model: str) -> Serving | None:
        return self.serving().get(model)

    def predict(self, model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert model == "digits"
        names = inputs["name"].tolist()
        if names[:1] == ["fail"]:
            raise PredictionError(Reason.HUNG, "no answer within 10 s")
        return {
            "y": np.multiply(inputs["x"].astype(np.float32), 2),
            "greeting": np.array([f"hi {name}" for name in names], object),
        }


@pytest.fixture
def predictor() -> Greeter:
    return Greeter()


@pytest.fixture
def client(predictor: Greeter, tmp_path: Path) -> Iterator[Any]:
    server = Server(predictor, tmp_path / "agent.sock", port=0)
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield client
    client.close()
    server.close()


def inputs(rows: int = 3, *, binary: bool = True, name: str = "ann") -> list[Any]:
    x = triton.InferInput("x", [rows, 4], "FP32")
    x.set_data_from_numpy(np.arange(rows * 4, dtype=np.float32).reshape(rows, 4), binary_data=binary)
    names = triton.InferInput("name", [rows], "BYTES")
    names.set_data_from_numpy(np.array([name] * rows, dtype=object), binary_data=binary)
    return [x, names]


def test_health_is_told(client: Any, predictor: Greeter) -> None:
    before = client.is_server_live(), client.is_server_ready(), client.is_model_ready("digits", "1.0.0")
    predictor.alive = False

    assert before == (True, True, True)
    assert client.is_server_live()
    assert not client.is_server_ready()
    assert not client.is_model_ready("digits")
    assert not client.is_model_ready("unknown")


def test_metadata_and_configuration_are_told(client: Any) -> None:
    server = client.get_server_metadata()
    model = client.get_model_metadata("digits", "1.0.0")
    config = client.get_model_config("digits")

    assert server["name"] == "muster"
    assert {"binary_tensor_data", "statistics", "model_repository"} <= set(server["extensions"])
    assert (model["name"], model["versions"]) == ("digits", ["1.0.0"])
    assert model["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    assert config["input"][1] == {"name": "name", "data_type": "TYPE_STRING", "dims": [-1]}
    assert config["max_batch_size"] == 0


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tensors_go_and_come_in_both_forms(client: Any, binary_in: bool, binary_out: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("greeting", "y")]
    result = client.infer("digits", inputs(binary=binary_in), outputs=outputs, request_id="q-1")

    assert result.get_response()["id"] == "q-1"
    assert result.as_numpy("y").tolist() == (np.arange(12).reshape(3, 4) * 2).tolist()
    assert [
        bytes(name) if isinstance(name, bytes) else name.encode() for name in result.as_numpy("greeting")
    ] == [b"hi ann"] * 3


def test_without_a_wish_every_output_comes_in_binary_form(client: Any) -> None:
    result = client.infer("digits", inputs())

    assert [output["parameters"] for output in result.get_response()["outputs"]] == [
        {"binary_data_size": 48},
        {"binary_data_size": 30},
    ]


@pytest.mark.parametrize("request_form", ALGORITHMS)
@pytest.mark.parametrize("response_form", ALGORITHMS)
@pytest.mark.parametrize("binary", [True, False])
def test_bodies_are_compressed_both_ways(
    client: Any,
    request_form: str | None,
    response_form: str | None,
    binary: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    result = client.infer(
        "digits",
        inputs(500, binary=binary),
        request_compression_algorithm=request_form,
        response_compression_algorithm=response_form,
    )

    assert result.as_numpy("y").sum() == np.arange(2000).sum() * 2


@pytest.mark.parametrize("rows", [0, 1, 7, 4096])
def test_a_batch_of_any_size_is_one_request(client: Any, rows: int) -> None:
    result = client.infer("digits", inputs(rows))

    assert result.as_numpy("y").shape == (rows, 4)


def test_the_index_names_what_answers(client: Any, predictor: Greeter) -> None:
    index = client.get_model_repository_index()
    predictor.alive = False

    assert index == [{"name": "digits", "version": "1.0.0", "state": "READY", "reason": ""}]
    assert client.get_model_repository_index()[0]["state"] == "UNAVAILABLE"


def test_statistics_count_what_was_asked(client: Any) -> None:
    for rows in (1, 2, 5):
        client.infer("digits", inputs(rows))
    with pytest.raises(InferenceServerException):
        client.infer("digits", inputs(name="fail"))
    (counts,) = client.get_inference_statistics("digits")["model_stats"]

    assert (counts["name"], counts["version"]) == ("digits", "1.0.0")
    assert (counts["inference_count"], counts["execution_count"]) == (8, 3)
    assert (counts["inference_stats"]["success"]["count"], counts["inference_stats"]["fail"]["count"]) == (
        3,
        1,
    )
    parts = ("compute_input", "compute_infer", "compute_output")
    assert counts["inference_stats"]["success"]["ns"] == sum(
        counts["inference_stats"][part]["ns"] for part in parts
    )
    assert counts["last_inference"] > 0
    assert client.get_inference_statistics() == client.get_inference_statistics("digits", "1.0.0")


@pytest.mark.parametrize(
    ("model", "version", "said"),
    [
        ("unknown", "", "no version of 'unknown' runs here"),
        ("digits", "2.0.0", "version 1.0.0 of digits runs here, got '2.0.0'"),
    ],
)
def test_an_error_is_the_text_of_the_exception(client: Any, model: str, version: str, said: str) -> None:
    with pytest.raises(InferenceServerException, match=said):
        client.infer(model, inputs(), model_version=version)


def test_a_failing_model_is_an_error_with_its_status(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="no answer within 10 s") as caught:
        client.infer("digits", inputs(name="fail"))

    assert caught.value.status() == "504"


def test_an_unknown_output_is_an_error_and_not_left_out(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="expected an output of"):
        client.infer("digits", inputs(), outputs=[triton.InferRequestedOutput("z")])


def test_nobody_loads_a_model_over_the_protocol(client: Any) -> None:
    for order in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="signed desired states"):
            order("digits")


def test_requests_go_side_by_side(client: Any, tmp_path: Path, predictor: Greeter) -> None:
    server = Server(predictor, tmp_path / "other.sock", port=0)
    many = triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4)
    results = [many.async_infer("digits", inputs(rows)) for rows in range(1, 21)]
    shapes = [result.get_result().as_numpy("y").shape[0] for result in results]
    many.close()
    server.close()

    assert shapes == list(range(1, 21))

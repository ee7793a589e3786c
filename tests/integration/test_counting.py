"""Counting over the agent's socket and over HTTP: what arrives, and what is refused."""

import json
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from muster_agent import Client, Model
from muster_agent.runner import Serving
from muster_agent.serving.server import Server
from muster_models.counters import check_counts
from muster_models.errors import MessageError, PredictionError, Reason
from support.manifests import make_manifest
from support.verified import Array

MANIFEST = make_manifest()


class Still:
    """A model that is there and is not asked."""

    def serving(self) -> Mapping[str, Serving]:
        return {"digits": Serving(MANIFEST, "f" * 64, stopped=False, alive=True)}

    def served(self, model: str) -> Serving | None:
        return self.serving().get(model)

    def predict(self, model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        raise NotImplementedError


@pytest.fixture
def counted() -> list[tuple[str, dict[str, int]]]:
    return []


@pytest.fixture
def server(tmp_path: Path, counted: list[tuple[str, dict[str, int]]]) -> Iterator[Server]:
    def count(model: str, counts: Mapping[str, int]) -> None:
        counted.append((model, check_counts(counts)))

    server = Server(Still(), tmp_path / "agent.sock", port=0, count=count)
    yield server
    server.close()


def post(server: Server, path: str, body: bytes, method: str = "POST") -> tuple[int, bytes]:
    assert server.port is not None
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, body)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_an_application_counts_in_one_line(server: Server, counted: list[object]) -> None:
    with Model("digits", server.path) as model:
        model.count("scrap", 3)
        model.count("scrap", np.int64(2))  # as counts come out of arrays
        model.count("good")

    assert counted == [("digits", {"scrap": 3}), ("digits", {"scrap": 2}), ("digits", {"good": 1})]


def test_any_program_counts_over_http(server: Server, counted: list[object]) -> None:
    status, answer = post(server, "/muster/models/digits/count", b'{"scrap": 3, "good": 17}')

    assert (status, json.loads(answer)) == (200, {"name": "digits", "version": MANIFEST.version})
    assert counted == [("digits", {"scrap": 3, "good": 17})]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"3",
        b'{"scrap": 1.5}',
        b'{"scrap": -1}',
        b'{"Scrap": 1}',
        b"\xff",
        b'{"scrap": true}',
        b"[" * 5000,
    ],
)
def test_a_body_of_another_form_is_a_bad_request_and_counts_nothing(
    server: Server, counted: list[object], body: bytes
) -> None:
    status, answer = post(server, "/muster/models/digits/count", body)

    assert status == 400
    assert "expected" in json.loads(answer)["error"]
    assert counted == []


def test_a_model_that_is_not_there_and_another_method_are_refused(server: Server) -> None:
    assert post(server, "/muster/models/weather/count", b'{"scrap": 1}')[0] == 404
    assert post(server, "/muster/models/digits/count", b"", "GET")[0] == 405
    assert post(server, "/muster/models/digits/other", b"{}")[0] == 404


def test_a_client_says_what_was_wrong(server: Server) -> None:
    with Client(server.path) as client, pytest.raises(MessageError, match="named like 'scrap'"):
        client.count("digits", {"Scrap": 1})
    with Client(server.path) as client, pytest.raises(PredictionError) as caught:
        client.count("weather", {"scrap": 1})
    with Model("digits", server.path) as model, pytest.raises(TypeError):
        model.count("scrap", 1.5)  # type: ignore[arg-type]  # as an application may do

    assert caught.value.reason in set(Reason)


def test_an_agent_that_offers_no_counting_says_so(tmp_path: Path) -> None:
    server = Server(Still(), tmp_path / "agent.sock", port=0)
    try:
        assert post(server, "/muster/models/digits/count", b'{"scrap": 1}')[0] == 404
    finally:
        server.close()

"""The local socket: Open Inference Protocol v2 as JSON and in binary form, and everything that is not it."""

import gzip
import json
import random
import socket
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muster_agent.api import Client
from muster_agent.runner import Serving
from muster_agent.serving import httpwire, localsocket
from muster_agent.serving.server import MAX_CONNECTIONS, Server
from muster_models.errors import PredictionError, Reason, StorageError
from muster_models.manifest import TensorSpec
from support.manifests import make_manifest
from support.verified import Array

SPECS = (TensorSpec("x", "float32", (None, 4)), TensorSpec("name", "str", (None,)))
MANIFEST = make_manifest(
    inputs=SPECS, outputs=(TensorSpec("y", "float32", (None, 4)), TensorSpec("greeting", "str", (None,)))
)


class Doubler:
    """Answers ``y = 2 x`` and a greeting, or fails for a reason that is asked for by name."""

    alive = True

    def serving(self) -> Mapping[str, Serving]:
        return {"digits": Serving(MANIFEST, "f" * 64, stopped=False, alive=self.alive)}

    def served(self, model: str) -> Serving | None:
        return self.serving().get(model)

    def predict(self, model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert model == "digits"
        names = inputs["name"].tolist()
        if names[0] in set(Reason):
            raise PredictionError(Reason(names[0]), "as asked")
        if names[0] == "bug":
            raise ZeroDivisionError
        assert inputs["x"].dtype == np.float32
        return {
            "y": np.multiply(inputs["x"].astype(np.float32), 2),
            "greeting": np.array([f"hi {n}" for n in names], object),
        }


@pytest.fixture
def predictor() -> Doubler:
    return Doubler()


@pytest.fixture
def server(predictor: Doubler, tmp_path: Path) -> Iterator[Server]:
    server = Server(predictor, tmp_path / "agent.sock", port=0, control={"/muster/echo": lambda body: body})
    yield server
    server.close()


class Reached(HTTPConnection):
    """The standard library's client over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("muster", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = localsocket.connect(self.path)
        self.sock.settimeout(10)


@pytest.fixture
def http(server: Server) -> Iterator[HTTPConnection]:
    connection = Reached(server.path)
    yield connection
    connection.close()


Answer = tuple[int, Any, Mapping[str, str]]
INFER = "/v2/models/digits/infer"


def ask(http: HTTPConnection, method: str, path: str, body: object = None, **headers: str) -> Answer:
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    http.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
    response = http.getresponse()
    content = response.read()
    is_json = response.headers["Content-Type"] == "application/json" and len(content) > 0
    answer = json.loads(content) if is_json else content
    return response.status, answer, dict(response.headers.items())


def asking(**changes: object) -> dict[str, Any]:
    request: dict[str, Any] = {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [1, 2, 3, 4, 5, 6, 7, 8]},
            {"name": "name", "datatype": "BYTES", "shape": [2], "data": ["ann", "bob"]},
        ]
    }
    return {**request, **changes}


def test_json_in_json_out(http: HTTPConnection) -> None:
    status, answer, _ = ask(http, "POST", INFER, asking(id="q-1"))

    assert status == 200
    assert answer == {
        "model_name": "digits",
        "model_version": "1.0.0",
        "id": "q-1",
        "outputs": [
            {
                "name": "y",
                "datatype": "FP32",
                "shape": [2, 4],
                "data": [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0],
            },
            {"name": "greeting", "datatype": "BYTES", "shape": [2], "data": ["hi ann", "hi bob"]},
        ],
    }


def test_nested_data_is_the_same_as_flat_data(http: HTTPConnection) -> None:
    nested = asking()
    nested["inputs"][0]["data"] = [[1, 2, 3, 4], [5, 6, 7, 8]]

    assert ask(http, "POST", INFER, nested)[:2] == ask(http, "POST", INFER, asking())[:2]


def binary(request: dict[str, Any], *tensors: bytes) -> tuple[bytes, str]:
    for tensor, data in zip(request["inputs"], tensors, strict=True):
        tensor.pop("data", None)
        tensor["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps(request).encode()
    return head + b"".join(tensors), str(len(head))


X = np.arange(8, dtype="<f4").tobytes()
NAMES = b"".join(struct.pack("<I", len(name)) + name for name in (b"ann", b"bob"))


def test_binary_in_binary_out(http: HTTPConnection) -> None:
    body, length = binary(asking(id="q-2", parameters={"binary_data_output": True}), X, NAMES)
    status, content, headers = ask(http, "POST", INFER, body, Inference_Header_Content_Length=length)
    head, tail = split(content, headers)

    assert status == 200
    assert (head["id"], [output["name"] for output in head["outputs"]]) == ("q-2", ["y", "greeting"])
    assert [output["parameters"]["binary_data_size"] for output in head["outputs"]] == [32, 20]
    assert np.frombuffer(tail[:32], "<f4").tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert tail[32:] == b"\x06\0\0\0hi ann\x06\0\0\0hi bob"


def split(content: bytes, headers: Mapping[str, str]) -> tuple[dict[str, Any], bytes]:
    length = int(headers["Inference-Header-Content-Length"])
    return json.loads(content[:length]), content[length:]


def test_outputs_come_in_the_order_and_form_that_was_asked_for(http: HTTPConnection) -> None:
    outputs = [{"name": "greeting"}, {"name": "y", "parameters": {"binary_data": True}}]
    _, content, headers = ask(http, "POST", INFER, asking(outputs=outputs))
    head, tail = split(content, headers)

    assert [output["name"] for output in head["outputs"]] == ["greeting", "y"]
    assert head["outputs"][0]["data"] == ["hi ann", "hi bob"]
    assert len(tail) == 32


@pytest.mark.parametrize(("name", "wbits"), [("gzip", 31), ("deflate", 15)])
def test_compressed_request_bodies_are_read(http: HTTPConnection, name: str, wbits: int) -> None:
    body = zlib.compress(json.dumps(asking(id="q-3")).encode(), wbits=wbits)

    assert ask(http, "POST", INFER, body, Content_Encoding=name)[1]["id"] == "q-3"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate, gzip;q=0.5", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0, deflate; q=0.1", "deflate"),
        ("gzip;q=0.0", None),
        ("*", None),
        ("br", None),
        ("", None),
    ],
)
def test_a_large_answer_is_compressed_as_the_client_accepts_it(
    http: HTTPConnection, accepted: str, encoding: str | None
) -> None:
    request = asking()
    request["inputs"][0] |= {"shape": [500, 4], "data": [1.5] * 2000}
    request["inputs"][1] |= {"shape": [500], "data": ["ann"] * 500}
    http.request("POST", INFER, json.dumps(request), {"Accept-Encoding": accepted})
    response = http.getresponse()
    content = response.read()
    plain = zlib.decompress(content, zlib.MAX_WBITS | 32) if encoding else content

    assert response.headers["Content-Encoding"] == encoding
    assert json.loads(plain)["outputs"][0]["data"] == [3.0] * 2000


def test_a_small_answer_is_sent_as_it_is(http: HTTPConnection) -> None:
    assert "Content-Encoding" not in ask(http, "POST", INFER, asking(), Accept_Encoding="gzip")[2]


def test_the_index_can_leave_out_what_does_not_answer(http: HTTPConnection, predictor: Doubler) -> None:
    predictor.alive = False

    assert ask(http, "POST", "/v2/repository/index", {"ready": True})[1] == []
    assert len(ask(http, "POST", "/v2/repository/index", {"ready": False})[1]) == 1
    assert ask(http, "POST", "/v2/repository/index", {"ready": 3})[0] == 400


def changed(tensor: int, **changes: object) -> dict[str, Any]:
    request = asking()
    request["inputs"][tensor].update(changes)
    return request


BAD = {
    "an unknown output": asking(outputs=[{"name": "z"}]),
    "an unknown input": changed(0, name="z"),
    "a missing input": asking(inputs=asking()["inputs"][:1]),
    "an input twice": asking(inputs=[*asking()["inputs"], asking()["inputs"][0]]),
    "too few values": changed(0, data=[1, 2, 3]),
    "too many values": changed(0, data=list(range(9))),
    "a wrong shape": changed(0, shape=[1, 8]),
    "a negative axis": changed(0, shape=[-2, -4]),
    "axes without end": changed(0, shape=[0, 2**31, 2**31, 2**31], data=[]),
    "a wrong type": changed(0, datatype="FP64"),
    "an unknown type": changed(0, datatype="FP7"),
    "text for numbers": changed(0, data=["1"] * 8),
    "null for a number": changed(0, data=[1, 2, 3, 4, 5, 6, 7, None]),
    "ragged rows": changed(0, data=[[1, 2], [3]]),
    "a value beyond the type": changed(0, data=[1e300] * 8),
    "numbers for text": changed(1, data=[1, 2]),
    "no data": changed(0, data=None),
    "the classification extension": asking(outputs=[{"name": "y", "parameters": {"classification": 3}}]),
    "binary data that are not there": changed(0, parameters={"binary_data_size": 32}),
    "no inputs": {},
    "a list": [],
    "not JSON": b"{",
    "nothing": b"",
    "bytes": b"\xff\xfe\0",
    "depth": b"[" * 100_000,
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_a_bad_request_is_refused_and_the_connection_lives_on(http: HTTPConnection, body: object) -> None:
    status, answer, _ = ask(http, "POST", INFER, body)

    assert status == 400
    assert isinstance(answer["error"], str)
    assert ask(http, "POST", INFER, asking())[0] == 200


@pytest.mark.parametrize(
    ("tensors", "header"),
    [
        ((X[:-1], NAMES), None),
        ((X, NAMES[:-1]), None),
        ((X, NAMES[:2]), None),
        ((X, NAMES + NAMES), None),
        ((X, NAMES), "9999999"),
        ((X, NAMES), "-1"),
        ((X, NAMES), "12x"),
        ((X, NAMES), "9" * 5000),
        ((X, NAMES), "10"),
    ],
)
def test_binary_tensors_that_do_not_fill_their_shapes_are_refused(
    http: HTTPConnection, tensors: tuple[bytes, bytes], header: str | None
) -> None:
    body, length = binary(asking(), *tensors)

    assert ask(http, "POST", INFER, body, Inference_Header_Content_Length=header or length)[0] == 400


def test_bytes_behind_the_last_tensor_are_refused(http: HTTPConnection) -> None:
    body, length = binary(asking(), X, NAMES)

    assert ask(http, "POST", INFER, body + b"!", Inference_Header_Content_Length=length)[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2", 200),
        ("GET", "/v2/", 200),
        ("GET", "/v2/models/digits", 200),
        ("GET", "/v2/models/digits/versions/1.0.0", 200),
        ("GET", "/v2/models/digits/ready", 200),
        ("GET", "/v2/models/digits/versions/1.0.0/ready", 200),
        ("GET", "/v2/models/digits/stats", 200),
        ("GET", "/v2/models/digits/versions/1.0.0/stats", 200),
        ("GET", "/v2/models/stats", 200),
        ("GET", "/v2/models/digits/config", 200),
        ("POST", "/v2/repository/index", 200),
        ("POST", "/v2/repository/models/digits/unload", 403),
        ("POST", "/v2/models/digits/stats", 405),
        ("GET", "/v2/models/digits/versions/2.0.0", 404),
        ("GET", "/v2/models/unknown", 404),
        ("GET", "/v2/models/unknown/ready", 404),
        ("POST", "/v2/models/unknown/infer", 404),
        ("GET", "/v2/models/digits/infer", 405),
        ("DELETE", "/v2/models/digits", 405),
        ("GET", "/v2/models/digits/config/x", 404),
        ("GET", "/v2/health", 404),
        ("GET", "/", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/v2/models/%64igits", 200),
    ],
)
def test_every_path_has_its_status(http: HTTPConnection, method: str, path: str, status: int) -> None:
    got, answer, _ = ask(http, method, path)

    assert got == status
    if status >= 400:
        assert answer["error"] != ""


def test_metadata_say_what_goes_in_and_comes_out(http: HTTPConnection) -> None:
    answer = ask(http, "GET", "/v2/models/digits")[1]

    assert answer["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "name", "datatype": "BYTES", "shape": [-1]},
    ]
    assert (answer["versions"], answer["platform"]) == (["1.0.0"], "onnxruntime_onnx")


def test_a_model_that_cannot_answer_is_not_ready(http: HTTPConnection, predictor: Doubler) -> None:
    predictor.alive = False

    assert ask(http, "GET", "/v2/health/ready")[0] == 503
    assert ask(http, "GET", "/v2/models/digits/ready")[0] == 503
    assert ask(http, "GET", "/v2/health/live")[0] == 200


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("hung", 504),
        ("crashed", 500),
        ("not-finite", 500),
        ("wrong-shape", 500),
        ("ordered", 503),
        ("bug", 500),
    ],
)
def test_a_failing_model_has_a_status_and_a_reason(http: HTTPConnection, reason: str, status: int) -> None:
    got, answer, _ = ask(http, "POST", INFER, changed(1, data=[reason, "b"]))

    assert got == status
    assert answer["reason"] == ("crashed" if reason == "bug" else reason)


def raw(path: Path, data: bytes) -> bytes:
    """Return everything that is answered to some bytes until the server closes the connection."""
    with localsocket.connect(path) as sock:
        sock.settimeout(10)
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass  # it was refused before it was read to its end
        parts: list[bytes] = []
        while True:
            try:
                part = sock.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 67108865\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 4000 + b"\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length : 1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nshort", 400),
        (b"POST / HTTP/1.1\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", 415),
        (b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 100 + b"\r\n", 431),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nunfinished: ", 400),
    ],
)
def test_what_is_not_a_request_is_refused_and_the_connection_ends(
    server: Server, request_: bytes, status: int
) -> None:
    answer = raw(server.path, request_)

    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_a_body_that_grows_when_it_is_unpacked_is_refused(server: Server) -> None:
    bomb = gzip.compress(bytes(httpwire.MAX_BODY + 1))
    head = f"POST {INFER} HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"

    assert raw(server.path, head.encode() + bomb).startswith(b"HTTP/1.1 413 ")


def test_a_request_may_come_in_pieces_and_two_in_one(server: Server) -> None:
    body = json.dumps(asking()).encode()
    one = f"POST {INFER} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with localsocket.connect(server.path) as sock:
        sock.settimeout(10)
        for begin in range(0, len(one), 40):
            sock.sendall(one[begin : begin + 40])
        sock.sendall(one + one)
        sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))

    assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(server: Server) -> None:
    body = json.dumps(asking()).encode()
    with localsocket.connect(server.path) as sock:
        sock.settimeout(10)
        head = f"POST {INFER} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode())
        first = sock.recv(100)
        sock.sendall(body)
        second = sock.recv(15)

    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert second == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [4, 2]},
        {"shape": [8]},
        {"shape": [2, 4, 1]},
        {"datatype": "FP64"},
        {"datatype": "INT32"},
        {"name": "y"},
    ],
)
def test_inputs_that_do_not_fit_are_refused_between_others_that_do(
    http: HTTPConnection, change: dict[str, object]
) -> None:
    good = asking()
    first, *others = good["inputs"]
    bad = good | {"inputs": [first | change, *others]}

    assert [ask(http, "POST", INFER, body)[0] for body in (good, good, bad, good, bad)] == [
        200,
        200,
        400,
        200,
        400,
    ]


def test_a_client_that_stops_within_its_request_holds_nobody_back(
    server: Server, http: HTTPConnection
) -> None:
    with localsocket.connect(server.path) as slow, localsocket.connect(server.path) as slower:
        slow.sendall(f"POST {INFER} HTTP/1.1\r\nContent-Length: 100\r\n\r\n{{".encode())
        slower.sendall(b"POST /v2/mod")

        assert ask(http, "POST", INFER, asking())[0] == 200


def test_a_caller_beyond_the_last_place_is_answered_when_one_is_given_back(server: Server) -> None:
    request = b"GET /v2/health/live HTTP/1.1\r\n\r\n"
    with ExitStack() as stack:
        # One place is kept for whoever comes over TCP.
        taken = [stack.enter_context(localsocket.connect(server.path)) for _ in range(MAX_CONNECTIONS - 1)]
        for sock in taken:
            sock.settimeout(10)
            sock.sendall(request)
        answers = [sock.recv(15) for sock in taken]
        late = stack.enter_context(localsocket.connect(server.path))
        late.settimeout(10)
        late.sendall(request)
        taken[0].close()
        answers.append(late.recv(15))

    assert set(answers) == {b"HTTP/1.1 200 OK"}


def test_garbage_harms_nobody_else(server: Server, http: HTTPConnection) -> None:
    chance = random.Random(20260801)
    body = json.dumps(asking()).encode()
    good = bytearray(f"POST {INFER} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    for _ in range(300):
        damaged = bytearray(good)
        for _ in range(chance.randrange(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        answer = raw(server.path, bytes(damaged))

        assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert ask(http, "POST", INFER, asking())[0] == 200


def test_control_is_reached_over_the_unix_socket_and_not_over_tcp(
    server: Server, http: HTTPConnection
) -> None:
    assert server.port is not None
    tcp = HTTPConnection("127.0.0.1", server.port, timeout=10)
    over_tcp = ask(tcp, "POST", "/muster/echo", {"a": 1})[0]
    models = ask(tcp, "GET", "/v2/models/digits")[0]
    tcp.close()

    assert ask(http, "POST", "/muster/echo", {"a": 1})[1] == {"a": 1}
    assert (over_tcp, models) == (404, 200)


def test_the_client_predicts_from_several_threads(server: Server) -> None:
    failures: list[object] = []

    def work(client: Client, number: int) -> None:
        for _ in range(50):
            x = np.full((1, 4), number, np.float32)
            answer = client.predict("digits", {"x": x, "name": np.array(["ann"], object)})
            if answer["y"].tolist() != [[number * 2.0] * 4] or answer["greeting"].tolist() != ["hi ann"]:
                failures.append(answer)

    with Client(server.path.parent) as client:
        threads = [threading.Thread(target=work, args=(client, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        models = client.models()

    assert failures == []
    assert models == {"digits": "1.0.0"}


def test_the_client_tells_why_it_failed(server: Server) -> None:
    inputs = {"x": np.zeros((1, 4), np.float32), "name": np.array(["hung"], object)}
    with Client(server.path) as client:
        with pytest.raises(PredictionError) as hung:
            client.predict("digits", inputs)
        with pytest.raises(PredictionError) as unknown:
            client.predict("unknown", inputs)
        with pytest.raises(PredictionError) as wrong:
            client.predict("digits", {"x": np.zeros((1, 4))})

    assert (hung.value.reason, str(hung.value)) == (Reason.HUNG, "as asked")
    assert "no version of 'unknown' runs here" in str(unknown.value)
    assert "expected inputs ['name', 'x'], got ['x']" in str(wrong.value)


def test_the_client_outlives_a_restart_of_the_agent(predictor: Doubler, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    inputs = {"x": np.ones((1, 4), np.float32), "name": np.array(["ann"], object)}
    first = Server(predictor, path)
    with Client(path) as client:
        before = client.predict("digits", inputs)
        first.close()
        with pytest.raises(PredictionError) as between:
            client.predict("digits", inputs)
        second = Server(predictor, path)
        after = client.predict("digits", inputs)
        second.close()

    assert between.value.reason is Reason.LOAD_FAILED
    assert before["y"].tolist() == after["y"].tolist()


def test_a_socket_left_by_a_dead_process_is_replaced_and_a_live_one_is_not(
    predictor: Doubler, tmp_path: Path
) -> None:
    path = tmp_path / "agent.sock"
    localsocket.listen(path).close()
    server = Server(predictor, path)

    with pytest.raises(StorageError):
        Server(predictor, path)

    server.close()
    assert not path.exists()


def test_a_path_longer_than_a_socket_address_is_served(predictor: Doubler, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("longer" * 10)
    folder.mkdir(parents=True)
    server = Server(predictor, folder / "agent.sock")
    with Client(folder) as client:
        models = client.models()
    server.close()

    assert len(str(folder)) > 107
    assert models == {"digits": "1.0.0"}


def test_a_model_that_is_being_loaded_is_asked_for_again_and_not_unknown(
    predictor: Doubler, tmp_path: Path
) -> None:
    loading = {"digits", "weather"}
    server = Server(predictor, tmp_path / "starting.sock", loading=lambda: loading)
    connection = Reached(server.path)
    waiting = ask(connection, "POST", "/v2/models/weather/infer", asking())
    here = ask(connection, "POST", INFER, asking())
    ready = ask(connection, "GET", "/v2/health/ready")[0]
    loading.discard("weather")
    unknown = ask(connection, "POST", "/v2/models/weather/infer", asking())
    ready_then = ask(connection, "GET", "/v2/health/ready")[0]
    connection.close()
    server.close()

    assert (waiting[0], waiting[1]["error"]) == (503, "'weather' is being loaded; ask again in a moment")
    assert here[0] == 200
    assert (unknown[0], ready, ready_then) == (404, 503, 200)

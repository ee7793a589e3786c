"""Serving the models of a device to its other programs: Open Inference Protocol v2 on a Unix socket.

Loopback TCP is an option for clients that cannot open a Unix socket. One thread per connection, a bounded
number of them; nothing that comes over a connection harms another one.
"""

import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_agent import localsocket, oip
from muster_agent.httpwire import Connection, HttpError, Message
from muster_agent.runner.channel import set_timeout
from muster_agent.runner.runner import Serving
from muster_models import __version__
from muster_models.errors import MusterError, PredictionError, Reason, StorageError
from muster_models.runtime.protocol import check_inputs

Array = NDArray[np.generic]
Control = Callable[[bytes], bytes]
IDLE_SECONDS = 120.0
MAX_CONNECTIONS = 64
_PLATFORMS = {"onnx": "onnxruntime_onnx", "tflite": "tflite"}
# Statuses for what a model fails at; anything else is 500.
_STATUSES = {
    Reason.HUNG: HTTPStatus.GATEWAY_TIMEOUT,
    Reason.LOAD_FAILED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.ORDERED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
_log = logging.getLogger(__name__)


class Predictor(Protocol):
    """What answers; a ``Runner`` does."""

    def serving(self) -> Mapping[str, Serving]:
        """Return what answers now, by model."""
        ...

    def predict(self, model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output by name.

        Raises:
            PredictionError: The model failed to answer.
        """
        ...


class Reply(msgspec.Struct, frozen=True):
    """An answer to one request."""

    status: HTTPStatus
    body: bytes = b""
    header_length: int | None = None


class Api:
    """Answers requests, whatever they came over.

    Args:
        predictor: Answers predictions.
        control: What may be asked besides the protocol, by path: a JSON body in, a JSON body out. Given to
            the Unix socket only, because any local user can reach a TCP port.
    """

    def __init__(self, predictor: Predictor, control: Mapping[str, Control]) -> None:
        self._predictor = predictor
        self._control = control

    def answer(self, request: Message) -> Reply:
        """Return the answer to a request; what is refused is an answer too."""
        try:
            return self._route(request)
        except HttpError as error:
            return failure(error.status, error)
        except PredictionError as error:
            return failure(_STATUSES.get(error.reason, HTTPStatus.INTERNAL_SERVER_ERROR), error)
        except MusterError as error:
            return failure(HTTPStatus.BAD_REQUEST, error)
        except Exception as error:  # noqa: BLE001 - one request must not end the connection of others
            _log.exception("a request failed")
            return failure(
                HTTPStatus.INTERNAL_SERVER_ERROR, MusterError(Reason.CRASHED, type(error).__name__)
            )

    def _route(self, request: Message) -> Reply:
        method, target, _ = request.start
        path = unquote(target.partition("?")[0]).rstrip("/")
        if path in self._control:
            _expect(method, "POST")
            return Reply(HTTPStatus.OK, self._control[path](request.body))
        match path.split("/"):
            case ["", "v2", "models", model, "versions", version, *rest]:
                return self._model(method, self._find(model, version), rest, request)
            case ["", "v2", "models", model, *rest]:
                return self._model(method, self._find(model, None), rest, request)
            case ["", "v2", "repository", "index"]:
                _expect(method, "POST")
                return _json([_indexed(serving) for serving in self._predictor.serving().values()])
            case ["", "v2", *rest]:
                _expect(method, "GET")
                return self._server(rest)
            case _:
                raise _nothing_at(path)

    def _server(self, rest: Sequence[str]) -> Reply:
        match rest:
            case []:
                return _json({"name": "muster", "version": __version__, "extensions": ["binary_tensor_data"]})
            case ["health", "live"]:
                return Reply(HTTPStatus.OK)
            case ["health", "ready"]:
                states = [serving.alive for serving in self._predictor.serving().values()]
                return _ready(bool(states) and all(states))
            case _:
                raise _nothing_at("/".join(("/v2", *rest)))

    def _find(self, model: str, version: str | None) -> Serving:
        serving = self._predictor.serving().get(model)
        if serving is None:
            raise HttpError(HTTPStatus.NOT_FOUND, f"no version of {model[:64]!r} runs here")
        if version not in {None, serving.manifest.version}:
            raise HttpError(
                HTTPStatus.NOT_FOUND,
                f"version {serving.manifest.version} of {model} runs here, got {version!r}",
            )
        return serving

    def _model(self, method: str, serving: Serving, rest: Sequence[str], request: Message) -> Reply:
        match rest:
            case []:
                _expect(method, "GET")
                return _json(_metadata(serving))
            case ["ready"]:
                _expect(method, "GET")
                return _ready(serving.alive)
            case ["infer"]:
                _expect(method, "POST")
                return self._infer(serving, request)
            case _:
                raise _nothing_at("/".join(rest))

    def _infer(self, serving: Serving, message: Message) -> Reply:
        manifest = serving.manifest
        request, inputs = oip.parse_request(message.body, message.headers.get(oip.HEADER_LENGTH))
        try:
            check_inputs(manifest.inputs, inputs)
        except PredictionError as error:  # the caller's, and not the model's
            raise oip.bad(str(error)) from error
        declared = {spec.name for spec in manifest.outputs}
        for wanted in request.outputs or ():  # asked before the model is
            if wanted.name not in declared:
                raise oip.bad(f"expected an output of {sorted(declared)}, got {wanted.name!r}")
        outputs = self._predictor.predict(manifest.model, inputs)
        body, header_length = oip.make_response(
            request, outputs, model=manifest.model, version=manifest.version
        )
        return Reply(HTTPStatus.OK, body, header_length)


def failure(status: HTTPStatus, error: MusterError) -> Reply:
    """Return the answer that says what is wrong."""
    return Reply(status, msgspec.json.encode(oip.Failure(str(error), error.reason.value)))


def _nothing_at(path: str) -> HttpError:
    return HttpError(HTTPStatus.NOT_FOUND, f"nothing is at {path[:120]!r}")


def _expect(method: str, expected: str) -> None:
    if method != expected:
        raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, f"expected {expected}, got {method[:16]!r}")


def _json(content: object) -> Reply:
    return Reply(HTTPStatus.OK, msgspec.json.encode(content))


def _ready(state: bool) -> Reply:  # noqa: FBT001 - a state, not a switch
    return Reply(HTTPStatus.OK if state else HTTPStatus.SERVICE_UNAVAILABLE)


def _indexed(serving: Serving) -> dict[str, str]:
    manifest = serving.manifest
    state = "READY" if serving.alive else "UNAVAILABLE"
    return {"name": manifest.model, "version": manifest.version, "state": state, "reason": ""}


def _metadata(serving: Serving) -> dict[str, Any]:
    manifest = serving.manifest
    return {
        "name": manifest.model,
        "versions": [manifest.version],
        "platform": _PLATFORMS[manifest.runtime],
        "inputs": [oip.describe(spec) for spec in manifest.inputs],
        "outputs": [oip.describe(spec) for spec in manifest.outputs],
        "parameters": {"digest": serving.digest, "stopped": serving.stopped},
    }


class Server:
    """Listens and answers until it is closed.

    Args:
        predictor: Answers predictions.
        path: Where the Unix socket is made; removed at ``close``.
        port: A loopback TCP port to listen on as well; 0 takes a free one, None takes none.
        control: See ``Api``.

    Raises:
        StorageError: The socket cannot be made, or another process serves it.
    """

    def __init__(
        self,
        predictor: Predictor,
        path: Path,
        *,
        port: int | None = None,
        control: Mapping[str, Control] | None = None,
    ) -> None:
        self.path = path
        self.port: int | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._places = threading.Semaphore(MAX_CONNECTIONS)
        self._closed = False
        listeners = [(localsocket.listen(path), Api(predictor, control or {}))]
        if port is not None:
            tcp = _listen_on_loopback(port, listeners[0][0])
            self.port = tcp.getsockname()[1]
            listeners.append((tcp, Api(predictor, {})))
        self._listeners = [listener for listener, _ in listeners]
        self._threads = [
            threading.Thread(target=self._accept, args=pair, name="muster-serve", daemon=True)
            for pair in listeners
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening, end every connection and remove the socket."""
        with self._lock:
            self._closed = True
            connections = tuple(self._open)
        for sock in (*self._listeners, *connections):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for listener in self._listeners:
            listener.close()
        for _ in range(MAX_CONNECTIONS):  # until the last connection has given its place back
            self._places.acquire()
        self.path.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket, api: Api) -> None:
        while True:
            self._places.acquire()
            try:
                sock, _ = listener.accept()
            except OSError as error:
                self._places.release()
                if self._closed:
                    return
                _log.warning("a connection could not be accepted: %s", error)
                continue
            with self._lock:
                closed = self._closed
                self._open.add(sock)
            if closed:
                self._end(sock)
                return
            threading.Thread(target=self._serve, args=(sock, api), name="muster-call", daemon=True).start()

    def _serve(self, sock: socket.socket, api: Api) -> None:
        try:
            set_timeout(sock, IDLE_SECONDS)
            connection = Connection(sock)
            while (request := _receive(connection)) is not None:
                _send(connection, api.answer(request))
                if request.headers.get("connection", "").lower() == "close":
                    break
        except OSError:
            return  # the other side is gone, or was idle for too long
        finally:
            self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.discard(sock)
        sock.close()
        self._places.release()


def _listen_on_loopback(port: int, first: socket.socket) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        first.close()
        raise StorageError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from error


def _receive(connection: Connection) -> Message | None:
    """Return the next request, or None when there will be none; a malformed one is answered here."""
    try:
        return connection.receive()
    except HttpError as error:
        # What follows cannot be told apart from the rest of this request, so the connection ends with it.
        _send(connection, failure(error.status, error))
        return None


def _send(connection: Connection, reply: Reply) -> None:
    headers = {"Content-Type": "application/json"}
    if reply.header_length is not None:
        headers["Content-Type"] = "application/octet-stream"
        headers["Inference-Header-Content-Length"] = str(reply.header_length)
    connection.send(f"HTTP/1.1 {reply.status.value} {reply.status.phrase}", headers, reply.body)

"""Answers to requests of the Open Inference Protocol v2, whatever connection they came over.

Extensions: binary tensor data, statistics, model repository (its index), model configuration. Sockets belong
to ``serve``, the form of tensors to ``oip``.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_agent.prediction_ids import IdMaker, predict_with_ids
from muster_agent.runner.real_numbers import predict_real
from muster_agent.runner.runner import Serving
from muster_agent.serving import oip
from muster_agent.serving.httpwire import HttpError, Message
from muster_agent.serving.inference_statistics import Laps, Statistics
from muster_models import __version__
from muster_models.errors import MusterError, PredictionError, Reason
from muster_models.manifest import Manifest, TensorSpec
from muster_models.quantised import real
from muster_models.runtime.protocol import check_inputs, fitted

Array = NDArray[np.generic]
Control = Callable[[bytes], bytes]
Count = Callable[[str, Mapping[str, int]], None]
_Kind = tuple[str, "np.dtype[np.generic]", tuple[int, ...]]
Loading = Callable[[], Collection[str]]
_PLATFORMS = {"onnx": "onnxruntime_onnx", "tflite": "tflite"}
# Statuses for what a model fails at; anything else is 500.
_STATUSES = {
    Reason.HUNG: HTTPStatus.GATEWAY_TIMEOUT,
    Reason.LOAD_FAILED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.ORDERED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
_EXTENSIONS = ("binary_tensor_data", "statistics", "model_repository", "model_configuration")
_log = logging.getLogger(__name__)


class Predictor(Protocol):
    """What answers; a ``Runner`` does."""

    def serving(self) -> Mapping[str, Serving]:
        """Return what answers now, by model."""
        ...

    def served(self, model: str) -> Serving | None:
        """Return what answers for a model now; None where nothing does."""
        ...

    def predict(self, model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output by name.

        Raises:
            PredictionError: The model failed to answer.
        """
        ...


class _IndexRequest(msgspec.Struct, frozen=True):
    ready: bool = False


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
        statistics: Counts what is asked; several of these may share one.
        loading: Returns the models that do not answer yet, because the agent has just started.
        ids: Makes the ids of predictions; None offers none.
        count: Adds to the counters of an application; None offers none.
    """

    def __init__(
        self,
        predictor: Predictor,
        control: Mapping[str, Control],
        *,
        statistics: Statistics | None = None,
        loading: Loading = frozenset,
        ids: IdMaker | None = None,
        count: Count | None = None,
    ) -> None:
        self._predictor = predictor
        self._ids = ids
        self._add = count
        self._control = control
        self._loading = loading
        self._statistics = statistics or Statistics()
        # By model, what fitted last as it came: a request that repeats it needs no closer look.
        self._fitting: dict[str, tuple[str, list[_Kind]]] = {}

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
        if path.startswith("/muster/"):
            return self._beside(method, path, request.body)
        match path.split("/"):
            case ["", "v2", "models", "stats"] if "stats" not in self._predictor.serving():
                _expect(method, "GET")
                return self._counts(self._predictor.serving().values())
            case ["", "v2", "models", model, "versions", version, *rest]:
                return self._model(method, self._find(model, version), rest, request)
            case ["", "v2", "models", model, *rest]:
                return self._model(method, self._find(model, None), rest, request)
            case ["", "v2", "repository", "index"]:
                _expect(method, "POST")
                return self._index(request.body)
            case ["", "v2", "repository", "models", _, "load" | "unload"]:
                raise HttpError(
                    HTTPStatus.FORBIDDEN,
                    "models come and go by signed desired states, and not over this protocol",
                )
            case ["", "v2", *rest]:
                _expect(method, "GET")
                return self._server(rest)
            case _:
                raise _nothing_at(path)

    def _beside(self, method: str, path: str, body: bytes) -> Reply:
        """Answer what is asked besides the protocol."""
        if path in self._control:
            _expect(method, "POST")
            return Reply(HTTPStatus.OK, self._control[path](body))
        match path.split("/"):
            case ["", "muster", "models", model, "count"] if self._add is not None:
                _expect(method, "POST")
                return self._count(self._find(model, None), body, self._add)
            case _:
                raise _nothing_at(path)

    def _server(self, rest: Sequence[str]) -> Reply:
        match rest:
            case []:
                return _json({"name": "muster", "version": __version__, "extensions": _EXTENSIONS})
            case ["health", "live"]:
                return Reply(HTTPStatus.OK)
            case ["health", "ready"]:
                states = [serving.alive for serving in self._predictor.serving().values()]
                return _ready(bool(states) and all(states) and not self._waiting())
            case _:
                raise _nothing_at("/".join(("/v2", *rest)))

    def _index(self, body: bytes) -> Reply:
        try:
            wanted = msgspec.json.decode(body or b"{}", type=_IndexRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise oip.bad(f"index request: {error}") from error
        serving = self._predictor.serving().values()
        return _json([_indexed(each) for each in serving if each.alive or not wanted.ready])

    def _counts(self, serving: Iterable[Serving]) -> Reply:
        names = [(each.manifest.model, each.manifest.version) for each in serving]
        return _json({"model_stats": [self._statistics.of(*name) for name in names]})

    def _waiting(self) -> set[str]:
        return set(self._loading()) - self._predictor.serving().keys()

    def _find(self, model: str, version: str | None) -> Serving:
        serving = self._predictor.served(model)
        if serving is None and model in self._waiting():
            raise being_loaded(model)
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
            case ["stats"]:
                _expect(method, "GET")
                return self._counts([serving])
            case ["config"]:
                _expect(method, "GET")
                return _json(_configuration(serving))
            case ["infer"]:
                _expect(method, "POST")
                return self._counted(serving, request)
            case _:
                raise _nothing_at("/".join(rest))

    def _count(self, serving: Serving, body: bytes, add: Count) -> Reply:
        try:
            counts = msgspec.json.decode(body, type=dict[str, int])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise oip.bad(f'expected {{"<name>": <whole number>}}: {error}') from error
        add(serving.manifest.model, counts)
        return _json({"name": serving.manifest.model, "version": serving.manifest.version})

    def _counted(self, serving: Serving, message: Message) -> Reply:
        began = time.perf_counter_ns()
        try:
            return self._infer(serving, message)
        except Exception:
            taken = time.perf_counter_ns() - began
            self._statistics.failed(serving.manifest.model, serving.manifest.version, nanoseconds=taken)
            raise

    def _infer(self, serving: Serving, message: Message) -> Reply:
        manifest = serving.manifest
        began = time.perf_counter_ns()
        request, inputs = self._read(serving, message)
        read = time.perf_counter_ns()
        outputs, ids = self._answer(manifest, request.parameters, inputs)
        answered = time.perf_counter_ns()
        body, header_length = oip.make_response(
            request, outputs, model=manifest.model, version=manifest.version, ids=ids
        )
        self._statistics.succeeded(
            manifest.model,
            manifest.version,
            rows=_rows(inputs),
            laps=Laps(read - began, answered - read, time.perf_counter_ns() - answered),
            at=time.time(),
        )
        return Reply(HTTPStatus.OK, body, header_length)

    def _answer(
        self, manifest: Manifest, parameters: oip.Parameters, inputs: Mapping[str, Array]
    ) -> tuple[dict[str, Array], tuple[str, ...] | None]:
        is_real = parameters.get("real_output") is True
        if parameters.get(oip.PREDICTION_IDS) is True:
            if self._ids is None or any(spec.name == oip.PREDICTION_IDS for spec in manifest.outputs):
                raise oip.bad(f"{oip.PREDICTION_IDS} are not offered for {manifest.model}")
            answer = predict_with_ids(self._predictor, manifest.model, inputs, self._ids)
            outputs = real(manifest.outputs, answer.outputs) if is_real else answer.outputs
            return outputs, answer.ids
        if is_real:
            return predict_real(self._predictor, manifest.model, inputs), None
        return self._predictor.predict(manifest.model, inputs), None

    def _read(self, serving: Serving, message: Message) -> tuple[oip.InferRequest, dict[str, Array]]:
        """Return a request that the model can be asked, and its inputs."""
        request, inputs = oip.parse_request(message.body, message.headers.get(oip.HEADER_LENGTH))
        try:
            inputs = self._fit(serving, inputs)
        except PredictionError as error:  # the caller's, and not the model's
            raise oip.bad(str(error)) from error
        if request.outputs:  # asked before the model is
            declared = {spec.name for spec in serving.manifest.outputs}
            for wanted in request.outputs:
                if wanted.name not in declared:
                    raise oip.bad(f"expected an output of {sorted(declared)}, got {wanted.name!r}")
        return request, inputs

    def _fit(self, serving: Serving, inputs: dict[str, Array]) -> dict[str, Array]:
        manifest = serving.manifest
        kinds = (serving.digest, [(name, array.dtype, array.shape) for name, array in inputs.items()])
        if self._fitting.get(manifest.model) == kinds:
            return inputs
        fit = fitted(manifest.inputs, inputs)
        check_inputs(manifest.inputs, fit)
        if all(fit[name] is array for name, array in inputs.items()):
            self._fitting[manifest.model] = kinds
        return fit


def being_loaded(model: str) -> PredictionError:
    """Return the answer for a model that was asked before it is there again."""
    return PredictionError(Reason.LOAD_FAILED, f"{model[:64]!r} is being loaded; ask again in a moment")


def _rows(inputs: Mapping[str, Array]) -> int:
    for array in inputs.values():
        if array.ndim:
            return len(array)
    return 1


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


def _configuration(serving: Serving) -> dict[str, Any]:
    """Return the part of a Triton configuration that says something here."""
    manifest = serving.manifest
    return {
        "name": manifest.model,
        "platform": _PLATFORMS[manifest.runtime],
        "max_batch_size": 0,  # the first axis is part of each declared shape
        "input": [_configured(spec) for spec in manifest.inputs],
        "output": [_configured(spec) for spec in manifest.outputs],
    }


def _configured(spec: TensorSpec) -> dict[str, Any]:
    described = oip.describe(spec)
    kind = "STRING" if described["datatype"] == "BYTES" else described["datatype"]
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": described["shape"]}


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

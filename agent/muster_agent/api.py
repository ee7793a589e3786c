"""Calling the models of this device from another program, over the agent's Unix socket.

``Client("/var/lib/muster").predict("digits", {"image": rows})["probabilities"]``
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from muster_agent.prediction_ids import Answer
from muster_agent.runner.channel import set_timeout
from muster_agent.serving import localsocket, oip
from muster_agent.serving.httpwire import Connection, HttpError, Message
from muster_agent.serving.localsocket import is_answered
from muster_agent.spare import find_spare
from muster_models.counters import check_counts
from muster_models.errors import PredictionError, Reason
from muster_models.manifest import Quantisation

Array = NDArray[np.generic]
SOCKET = "agent.sock"
_OK = "200"


class TensorDescription(msgspec.Struct, frozen=True):
    """A tensor of a model; -1 stands where any length is accepted.

    Attributes:
        quantisation: What its integers stand for; None where they stand for themselves.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    quantisation: Quantisation | None = None


class ModelDescription(msgspec.Struct, frozen=True):
    """What goes into a model and comes out.

    Attributes:
        versions: The one that answers.
    """

    name: str
    versions: tuple[str, ...]
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]


def socket_of(root: Path) -> Path:
    """Return where the agent of a folder listens: there, or elsewhere where its disk is read-only."""
    spare = find_spare(root)
    return spare / SOCKET if spare is not None and is_answered(spare / SOCKET) else root / SOCKET


# Made before there are threads: see ``muster_models.known_types``.
_description = msgspec.json.Decoder(ModelDescription)
_failure = msgspec.json.Decoder(oip.Failure)


class Client:
    """Predictions from a running agent. It may be used from any thread; connections are kept and shared.

    Args:
        path: The agent's folder, or its socket.
        seconds: How long one call may take.
    """

    def __init__(self, path: Path | str, *, seconds: float = 30.0) -> None:
        place = Path(path)
        self._path = socket_of(place) if place.is_dir() else place
        self._seconds = seconds
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def predict(
        self, model: str, inputs: Mapping[str, ArrayLike], *, version: str | None = None
    ) -> dict[str, Array]:
        """Return every output of ``model`` by name.

        Args:
            model: The name of a model, such as ``digits``.
            inputs: An array for each input, of the declared type; for a quantised one also real numbers.
            version: Refuse to be answered by another one; None takes the one that runs.

        Raises:
            PredictionError: No agent answers, it does not run the model, or the model failed; the reason
                says which.
        """
        return self._predict(model, inputs, version)

    def predict_real(
        self, model: str, inputs: Mapping[str, ArrayLike], *, version: str | None = None
    ) -> dict[str, Array]:
        """Return every output, as the real numbers that the integers of a quantised one stand for.

        Raises:
            PredictionError: As ``predict``.
        """
        return self._predict(model, inputs, version, real_output=True)

    def answer(self, model: str, inputs: Mapping[str, ArrayLike], *, version: str | None = None) -> Answer:
        """Return every output as ``predict`` does, and an id for each row, by which its truth may follow.

        Raises:
            PredictionError: As ``predict``.
        """
        outputs = self._predict(model, inputs, version, prediction_ids=True)
        return Answer(outputs, tuple(outputs.pop(oip.PREDICTION_IDS).tolist()))

    def _predict(
        self, model: str, inputs: Mapping[str, ArrayLike], version: str | None, **parameters: bool
    ) -> dict[str, Array]:
        arrays = {name: np.asarray(array) for name, array in inputs.items()}
        path = f"{model}/versions/{version}" if version is not None else model
        try:
            body, length = oip.binary_request(arrays, **parameters)
            answer = self._ask(
                f"POST /v2/models/{path}/infer HTTP/1.1",
                {"Host": "muster", oip.HEADER_LENGTH: str(length)},
                body,
            )
            return oip.parse_response(answer.body, answer.headers.get(oip.HEADER_LENGTH))
        except HttpError as error:
            raise PredictionError(error.reason, str(error)) from error

    def count(self, model: str, counts: Mapping[str, int]) -> None:
        """Add to counters of the application; see ``Model.count``.

        Raises:
            PredictionError: No agent answers, it does not run the model, or the model has too many counters.
            MessageError: A name or a number has the wrong form.
        """
        body = msgspec.json.encode(check_counts(counts))
        self._ask(f"POST /muster/models/{model}/count HTTP/1.1", {"Host": "muster"}, body)

    def models(self) -> dict[str, str]:
        """Return the version that answers for each model.

        Raises:
            PredictionError: No agent answers.
        """
        answer = self._ask("POST /v2/repository/index HTTP/1.1", {"Host": "muster"}, b"")
        entries = msgspec.json.decode(answer.body, type=list[dict[str, str]])
        return {entry["name"]: entry["version"] for entry in entries}

    def describe(self, model: str) -> ModelDescription:
        """Return what goes into a model and comes out.

        Raises:
            PredictionError: No agent answers, or it does not run the model.
        """
        answer = self._ask(f"GET /v2/models/{model} HTTP/1.1", {"Host": "muster"}, b"")
        return _description.decode(answer.body)

    def command(self, path: str, body: bytes = b"") -> bytes:
        """Return what the agent's control answers at ``path``.

        Raises:
            PredictionError: No agent answers, or it refuses.
        """
        return self._ask(f"POST {path} HTTP/1.1", {"Host": "muster"}, body).body

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, start: str, headers: Mapping[str, str], body: bytes) -> Message:
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        answer = self._try_kept(kept, start, headers, body) if kept is not None else None
        if answer is None:
            answer = self._exchange(self._connect(), start, headers, body)
        if answer.start[1] != _OK:
            raise _refusal(answer)
        return answer

    def _try_kept(
        self, kept: Connection, start: str, headers: Mapping[str, str], body: bytes
    ) -> Message | None:
        """Return an answer over a kept connection, or None when the agent has closed it meanwhile."""
        try:
            return self._exchange(kept, start, headers, body)
        except PredictionError as error:
            if isinstance(error.__cause__, (BrokenPipeError, ConnectionResetError, EOFError)):
                return None
            raise

    def _connect(self) -> Connection:
        try:
            sock = localsocket.connect(self._path)
        except OSError as error:
            raise PredictionError(
                Reason.LOAD_FAILED, f"no agent answers at {self._path}: {error.strerror}"
            ) from error
        set_timeout(sock, self._seconds)
        return Connection(sock)

    def _exchange(
        self, connection: Connection, start: str, headers: Mapping[str, str], body: bytes
    ) -> Message:
        try:
            connection.send(start, headers, body)
            answer = _received(connection)
        except BlockingIOError as error:
            connection.sock.close()
            raise PredictionError(
                Reason.HUNG, f"the agent did not answer within {self._seconds:g} s"
            ) from error
        except (OSError, EOFError, HttpError) as error:
            connection.sock.close()
            raise PredictionError(Reason.CRASHED, f"the agent's answer broke off: {error}") from error
        with self._lock:
            self._idle.append(connection)
        return answer


def _received(connection: Connection) -> Message:
    answer = connection.receive()
    if answer is None:
        raise EOFError("the agent closed the connection")
    return answer


def _refusal(answer: Message) -> PredictionError:
    try:
        failure = _failure.decode(answer.body)
        return PredictionError(Reason(failure.reason), failure.error)
    except (msgspec.MsgspecError, ValueError):
        return PredictionError(Reason.CRASHED, f"the agent answered {' '.join(answer.start[1:])}")

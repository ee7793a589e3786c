"""A model in a process of its own: the worker child that answers, and the supervisor's end of its channel.

A call is one message each way. The worker arms a kernel timer around every call, so that a model that hangs
ends itself; the supervisor waits a little longer than that, for the case that even the timer does not help.
"""

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muster_agent.runner import child
from muster_agent.runner.channel import receive, send, set_timeout
from muster_agent.runner.child import Child
from muster_agent.runner.core import Following
from muster_agent.runner.job import MAX_DETAIL, Job
from muster_agent.runner.outputs import OutputCheck
from muster_agent.runner.tensor_messages import TensorMessages
from muster_models.errors import MessageError, MusterError, PredictionError, Reason
from muster_models.golden import decode_golden
from muster_models.runtime import Runtime
from muster_models.tensors import MAX_BYTES, unpack

Array = NDArray[np.generic]
Outputs = dict[str, Array]
_ANSWER, _FAILURE, _READY = b"\0", b"\1", b"\2"
_FRAMING = 64 * 1024  # bytes of names, types and shapes around the tensors of one message
_GRACE = 1.0  # seconds that the supervisor waits longer than the worker's own timer
_WARM_UPS = 2


class GoneError(PredictionError):
    """The worker had ended, or was replaced, before this call reached it: another may answer instead."""


class Ready(Struct, frozen=True):
    """The worker has loaded and warmed its model."""

    level: str


def serve(job: Job, channel: socket.socket) -> None:
    """Load the model of a job and answer until the channel closes, in a child made for that."""
    child.arm(job.budget.load_seconds)
    level = child.enter(job, cpu_seconds=None)
    try:
        runtime = child.load_model(job)
        _warm(job, runtime)
    except Exception as error:  # noqa: BLE001 - whatever a hostile file raises is an answer
        send(channel, _failure(error))
        return
    child.arm(0)
    send(channel, _READY + msgspec.msgpack.encode(Ready(str(level))))
    with suppress(EOFError, OSError):  # the supervisor is done with this worker, or gone
        _answer_all(job, runtime, channel)


def _warm(job: Job, runtime: Runtime) -> None:
    if job.golden is None:
        return
    golden = decode_golden((Path(job.folder) / job.golden).read_bytes())
    inputs = unpack(golden.vectors[0].inputs)
    for _ in range(_WARM_UPS):
        runtime.run(inputs)


def _answer_all(job: Job, runtime: Runtime, channel: socket.socket) -> None:
    messages = TensorMessages()
    check = OutputCheck(job.outputs, job.budget.output_bytes)
    while True:
        request = receive(channel, MAX_BYTES + _FRAMING)
        child.arm(job.call_seconds)
        try:
            outputs = runtime.run(messages.decode(request, 0))
            check(outputs)
            answer = _bounded(_ANSWER + messages.encode(outputs), job.budget.output_bytes)
        except MemoryError:
            child.end_for_memory()
        except Exception as error:  # noqa: BLE001 - one bad call must not end the worker
            answer = _failure(error)
        child.arm(0)
        send(channel, answer)


def _bounded(answer: bytes, most: int) -> bytes:
    # Arrays of strings tell their true size only here.
    if len(answer) > most + _FRAMING:
        raise PredictionError(Reason.TOO_LARGE, f"outputs may have {most} bytes, got {len(answer)}")
    return answer


def _failure(error: Exception) -> bytes:
    reason, text = child.describe(error)
    return _FAILURE + msgspec.msgpack.encode((reason, text[:MAX_DETAIL]))


class WorkerModel:
    """A loaded version that answers from a worker. ``predict`` may be called from any thread."""

    def __init__(self, worker: Child) -> None:
        """Take over a worker that was just born and wait until it is warm.

        Raises:
            PredictionError: It could not load its model, or ended while doing so; the worker is gone.
        """
        self._worker = worker
        self._lock = threading.Lock()
        self._failed: PredictionError | None = None
        self._messages = TensorMessages()
        self._most = worker.job.budget.output_bytes + _FRAMING
        set_timeout(worker.channel, worker.job.budget.load_seconds + _GRACE)
        try:
            ready = self._receive(_READY)[len(_READY) :]
            self.level = msgspec.msgpack.decode(ready, type=Ready).level
        except PredictionError:
            self.close()
            raise
        set_timeout(worker.channel, worker.job.call_seconds + _GRACE)
        self._following = Following(worker.process)

    @property
    def process(self) -> int:
        """A handle that becomes readable when the worker's process ends."""
        return self._worker.process

    @property
    def failure(self) -> PredictionError | None:
        """Why the worker is gone, or None while it can answer."""
        return self._failed

    def predict(self, inputs: Mapping[str, Array]) -> Outputs:
        """Return every output by name.

        Raises:
            PredictionError: The inputs do not fit, the answer is not acceptable, or the worker is gone.
        """
        request = self._request(inputs)
        with self._lock:
            if self._failed is None:
                self._following.begin()
                try:
                    send(self._worker.channel, request)
                except OSError:
                    self._give_up()
            if self._failed is not None:
                raise GoneError(self._failed.reason, str(self._failed))
            answer = self._receive(_ANSWER)
            self._following.end()
        try:
            return self._messages.decode(answer, len(_ANSWER))
        except MessageError as error:
            raise PredictionError(Reason.WRONG_SHAPE, f"the worker's answer: {error}") from error

    def give_up(self) -> PredictionError:
        """Return why the worker is gone; ends it where it is not."""
        with self._lock:
            return self._give_up()

    def close(self) -> None:
        """Wait for the call that is under way and let the worker end."""
        with self._lock:
            if self._failed is None:
                self._failed = PredictionError(Reason.SUPERSEDED, "this version was replaced")
                self._worker.channel.close()
                if self._worker.ended(_GRACE) is None:
                    self._worker.kill()
            self._worker.close()

    def _receive(self, expected: bytes) -> bytes:
        """Return a message, which begins with its kind."""
        try:
            message = receive(self._worker.channel, self._most)
        except (OSError, EOFError, MessageError) as error:
            raise self._give_up() from error
        match message[:1]:
            case kind if kind == expected:
                return message
            case kind if kind == _FAILURE:
                raise child.parse_failure(message[1:])
            case _:
                raise self._give_up()

    def _request(self, inputs: Mapping[str, Array]) -> bytes:
        try:
            request = self._messages.encode(inputs)
        except MusterError as error:
            raise PredictionError(Reason.WRONG_SHAPE, str(error)) from error
        if len(request) > MAX_BYTES:
            raise PredictionError(
                Reason.TOO_LARGE, f"inputs of a call have at most {MAX_BYTES} bytes, got {len(request)}"
            )
        return request

    def _give_up(self) -> PredictionError:
        if self._failed is None:
            # A worker that broke the channel has mostly ended; one that did not speak in time has not.
            self._failed = PredictionError(*self._worker.cause(_GRACE))
        return self._failed

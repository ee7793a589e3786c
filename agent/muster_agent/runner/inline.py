"""A model in the process of the caller: the fastest way to call one, where its crashes are acceptable."""

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from muster_agent import sandbox
from muster_agent.runner import child
from muster_agent.runner.job import Job
from muster_agent.runner.outputs import OutputCheck
from muster_agent.runner.worker import GoneError
from muster_models.errors import PredictionError, Reason

Array = NDArray[np.generic]
_DRAIN = 0.5  # seconds to wait for the last call, or for whoever keeps an error of one


class InlineModel:
    """A loaded version that answers in the caller's thread. ``predict`` may be called from any thread.

    Raises:
        FitError: The engine is not installed here.
        PredictionError: The engine refuses the file.
    """

    failure: PredictionError | None = None

    def __init__(self, job: Job) -> None:
        runtime = child.load_model(job)
        self._run: Callable[[Mapping[str, Array]], dict[str, Array]] = runtime.run
        self._runtime: object = runtime
        self._check = OutputCheck(job.outputs, job.budget.output_bytes)

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output by name; see ``WorkerModel.predict``."""
        outputs = self._run(inputs)
        self._check(outputs)
        return outputs

    def close(self) -> None:
        """Let go of the model; the engine frees it when the last call that is under way has returned.

        So no call needs a lock. Memory that was freed is given back to the system.
        """
        returned = threading.Event()
        _ = weakref.finalize(self._runtime, returned.set)
        self._run, self._runtime = _refuse, None
        returned.wait(_DRAIN)
        sandbox.trim()


def _refuse(_: Mapping[str, Array]) -> NoReturn:
    raise GoneError(Reason.SUPERSEDED, "this version was replaced")

"""One model as an application uses it, whoever answers: an agent in another process, or one in this.

::

    from muster_agent import Model

    model = Model("digits")
    probabilities = model.predict(image=rows)["probabilities"]
    probabilities = (await model.apredict(image=rows))["probabilities"]
"""

import asyncio
import operator
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muster_agent.api import Client
from muster_agent.prediction_ids import Answer

Array = NDArray[np.generic]
FOLDER = "/var/lib/muster"


class Answering(Protocol):
    """What answers for every model of the device; a ``Client`` does, and so does an ``Agent``."""

    def predict(self, model: str, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return every output by name.

        Raises:
            PredictionError: The model failed to answer.
        """
        ...

    def predict_real(self, model: str, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return every output by name, as real numbers.

        Raises:
            PredictionError: The model failed to answer.
        """
        ...

    def answer(self, model: str, inputs: Mapping[str, ArrayLike]) -> Answer:
        """Return every output by name, and an id for each row.

        Raises:
            PredictionError: The model failed to answer.
        """
        ...

    def count(self, model: str, counts: Mapping[str, int]) -> None:
        """Add to counters of the application.

        Raises:
            PredictionError: No version of the model answers here.
            MessageError: A name or a number has the wrong form.
        """
        ...


class Model:
    """One model of this device. It may be used from any thread and any event loop.

    Args:
        name: Such as ``digits``.
        agent: Who answers: the folder or the socket of a running agent, a ``Client``, or an ``Agent`` in this
            process. One that is passed in stays the caller's to close.
    """

    def __init__(self, name: str, agent: Answering | Path | str = FOLDER) -> None:
        self.name = name
        self._own: Client | None = None
        if isinstance(agent, Path | str):
            agent = self._own = Client(agent)
        self._answering: Answering = agent

    def predict(
        self, inputs: Mapping[str, ArrayLike] | None = None, /, **named: ArrayLike
    ) -> dict[str, Array]:
        """Return every output by name.

        Args:
            inputs: An array for each input, for names that are no words of Python.
            named: The same, by keyword. The type of each array must be the declared one; a quantised input
                also takes real numbers.

        Raises:
            PredictionError: No agent answers, it does not run the model, or the model failed; the reason
                says which.
        """
        return self._answering.predict(self.name, {**(inputs or {}), **named})

    def predict_real(
        self, inputs: Mapping[str, ArrayLike] | None = None, /, **named: ArrayLike
    ) -> dict[str, Array]:
        """Return every output, as the real numbers that the integers of a quantised one stand for.

        Raises:
            PredictionError: As ``predict``.
        """
        return self._answering.predict_real(self.name, {**(inputs or {}), **named})

    def answer(self, inputs: Mapping[str, ArrayLike] | None = None, /, **named: ArrayLike) -> Answer:
        """Return every output as ``predict`` does, and an id for each row.

        An id says all about the prediction that it names; nobody keeps it. Carry it to wherever the truth
        comes from, and push both with ``muster labels push``, also weeks later.

        Raises:
            PredictionError: As ``predict``.
        """
        return self._answering.answer(self.name, {**(inputs or {}), **named})

    def count(self, name: str, amount: SupportsIndex = 1) -> None:
        """Count something that the application knows and the model does not, such as parts scrapped.

        It is added to the window of the version that answers now, and a rollout may compare it, per call,
        with the control. Count 0 once at the start, so that "none" can be told from "nobody counts".

        Args:
            name: Such as ``scrap``: at most 32 of a-z, 0-9, ``_``, ``.`` and ``-``, a letter first.
            amount: 0 or more.

        Raises:
            PredictionError: No agent answers, no version of the model runs, or it has too many counters.
            MessageError: The name or the amount has the wrong form.
            TypeError: The amount is no whole number.
        """
        self._answering.count(self.name, {name: operator.index(amount)})

    async def apredict(
        self, inputs: Mapping[str, ArrayLike] | None = None, /, **named: ArrayLike
    ) -> dict[str, Array]:
        """Return every output by name, and let the event loop go on meanwhile.

        The call runs in a thread of the loop's executor. When the task is cancelled, its answer is dropped.

        Raises:
            PredictionError: As ``predict``.
        """
        return await asyncio.to_thread(self.predict, inputs, **named)

    def close(self) -> None:
        """Close the connections that this object made."""
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

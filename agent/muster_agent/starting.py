"""The models that answered when the agent last ran, until each answers again or is known not to.

Whoever asks meanwhile is told to ask again, and not that there is no such model.
"""

import threading
from collections.abc import Iterable, Mapping

from muster_agent.update.state import ON_TRIAL, ModelState
from muster_agent.update.steps import Activated, ActivationFailed, AnyEvent


class Starting:
    """Keeps which models are being loaded. Thread safe."""

    def __init__(self, states: Iterable[ModelState]) -> None:
        self._lock = threading.Lock()
        self._models = {
            state.model for state in states if state.current is not None or state.phase in ON_TRIAL
        }

    def take(self, state: ModelState | None, event: AnyEvent) -> None:
        """Note what happened to a model in a state, before anything follows from it."""
        if state is None or not isinstance(event, Activated | ActivationFailed):
            return
        # A version on trial that does not load makes way for the current one, which is loaded next.
        gives_way = state.current is not None and state.current.manifest != event.digest
        if isinstance(event, Activated) or not gives_way:
            with self._lock:
                self._models.discard(state.model)

    def among(self, states: Mapping[str, ModelState]) -> frozenset[str]:
        """Return the models that are being loaded and are still wanted, going by their present states."""
        with self._lock:
            waiting = frozenset(self._models)
        return frozenset(
            model
            for model in waiting
            if model in states and (states[model].current is not None or states[model].candidate is not None)
        )

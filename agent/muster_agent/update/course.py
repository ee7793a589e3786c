"""The course of all models of a device: events in, decisions saved, actions handed on. For one thread.

What is decided lies in ``updater``; this keeps its states and saves them before anything is done about them.
Where the disk refuses to save, nothing is done and the event comes again at the next tick. The exceptions are
events after which a model would not answer: going back must not wait for a disk, nor must the version that
proved itself when the agent starts. And a stop order holds at once, in memory: safety goes before durability.
"""

import contextlib
import logging
import random
from collections.abc import Callable

from msgspec.structs import replace

from muster_agent.store import Store
from muster_agent.update.state import AgentState, ModelState, report
from muster_agent.update.steps import (
    Action,
    Activate,
    ActivationFailed,
    AnyEvent,
    Collect,
    Configure,
    Report,
    Restarted,
    RollBackOrdered,
    Tick,
    Unwanted,
    Wanted,
    WorkerFailed,
)
from muster_agent.update.updater import step
from muster_models.errors import StorageError
from muster_models.wire import Desired, DesiredModel, ModelReport

log = logging.getLogger(__name__)

CarryOut = Callable[[ModelState, Action], None]
_URGENT = (WorkerFailed, ActivationFailed, RollBackOrdered)


class Course:
    """Keeps the states of all models.

    Args:
        store: Where states survive; only this object saves to it.
        carry_out: Begins an action for a model, whose state it gets; must not block.
        clock: Monotonic seconds.
        chance: Spreads retries and downloads of a fleet.
        spread_seconds: A download begins at a random time up to this after it was asked for.
    """

    def __init__(
        self,
        store: Store,
        *,
        carry_out: CarryOut,
        clock: Callable[[], float],
        chance: random.Random,
        spread_seconds: float,
    ) -> None:
        self._store = store
        self._carry_out = carry_out
        self._clock = clock
        self._chance = chance
        self._spread_seconds = spread_seconds
        self._postponed: list[tuple[str, AnyEvent]] = []
        self._is_unsaved = False
        self._is_uncollected = False
        self._obeyed: dict[str, bool] = {}  # stop orders followed in memory alone, by model
        self._obeyed_sequence = 0
        self.state = store.load()

    def start(self) -> None:
        """Take up what was going on when the agent last ran."""
        now = self._clock()
        for model in self.state.models:
            self.handle(model, Restarted(now=now, jitter=self._chance.random()))

    def accept(self, desired: Desired) -> None:
        """Follow a verified desired state; the same one again changes nothing.

        Raises:
            StorageError: The disk refused; nothing was changed, and it may be accepted again. What it says
                about stopping models is followed all the same, until the agent ends.
        """
        if desired.sequence < max(self.state.sequence, self._obeyed_sequence):
            return
        events: dict[str, AnyEvent] = {model: self._unwanted(desired.sequence) for model in self.state.models}
        events |= {wanted.model: self._wanted(wanted, desired.sequence) for wanted in desired.models}
        steps = {model: step(self._model(model), event) for model, event in events.items()}
        changed = replace(
            self.state,
            sequence=desired.sequence,
            reporting=desired.reporting,
            samples=desired.samples,
            models=self.state.models | {model: after for model, (after, _) in steps.items()},
        )
        try:
            self._save(changed)
        except StorageError:
            self._obey(desired)
            raise
        for after, actions in steps.values():
            self._act(after, actions)
        self._settle()

    def handle(self, model: str, event: AnyEvent) -> bool:
        """Take an event about one model, and tell whether it changed anything."""
        after, actions = step(self._model(model), event)
        if after == self._model(model) and not actions:
            return False
        changed = replace(self.state, models=self.state.models | {model: after})
        try:
            self._save(changed)
        except StorageError as error:
            log.warning("the state cannot be saved: %s", error)
            if not isinstance(event, _URGENT):
                if not isinstance(event, Tick):  # which comes again by itself
                    self._postponed.append((model, event))
                if isinstance(event, Restarted):
                    self._serve(self._model(model), actions)
                return False
            self.state, self._is_unsaved, self._is_uncollected = changed, True, True
        self._act(after, actions)
        return True

    def tick(self) -> None:
        """Let deadlines pass, and try again what the disk refused."""
        postponed, self._postponed = self._postponed, []
        for model, event in postponed:
            self.handle(model, event)
        if self._is_unsaved:
            with contextlib.suppress(StorageError):
                self._save(self.state)
        if self._is_uncollected and not self._is_unsaved:
            # While the disk refused, nothing could be removed of what was given up.
            self._is_uncollected = False
            self._act(ModelState(""), (Collect(),))
        now = self._clock()
        for model in self.state.models:
            self.handle(model, Tick(now=now, jitter=self._chance.random()))

    def reports(self) -> tuple[ModelReport, ...]:
        """Return what the controller is told about every model; for any thread."""
        obeyed = dict(self._obeyed)
        told = (report(model) for model in self.state.models.values())
        return tuple(replace(one, stopped=obeyed.get(one.model, one.stopped)) for one in told)

    def _model(self, model: str) -> ModelState:
        return self.state.models.get(model) or ModelState(model)

    def _wanted(self, wanted: DesiredModel, sequence: int) -> Wanted:
        return Wanted(
            model=wanted,
            sequence=sequence,
            delay=self._chance.uniform(0, self._spread_seconds),
            now=self._clock(),
            jitter=self._chance.random(),
        )

    def _unwanted(self, sequence: int) -> Unwanted:
        return Unwanted(sequence=sequence, now=self._clock(), jitter=self._chance.random())

    def _obey(self, desired: Desired) -> None:
        """Stop what a desired state stops that cannot be saved; lift only what was stopped in this way."""
        self._obeyed_sequence = desired.sequence
        for wanted in desired.models:
            state = self._model(wanted.model)
            stop = wanted.stop or state.stopped
            if stop != self._obeyed.get(wanted.model, state.stopped):
                log.warning("%s: the order to %s it holds until the agent ends: it cannot be saved",
                            wanted.model, "stop" if stop else "start")  # fmt: skip
                self._obeyed[wanted.model] = stop
                self._act(state, (_configure(state, stop=stop), Report()))

    def _settle(self) -> None:
        """Let what was saved hold in place of what was followed in memory."""
        obeyed, self._obeyed = self._obeyed, {}
        for model, stop in obeyed.items():
            state = self._model(model)
            if state.stopped != stop:
                self._act(state, (_configure(state, stop=state.stopped),))

    def _save(self, changed: AgentState) -> None:
        if changed != self.state or self._is_unsaved:
            self._store.save(changed)
            self.state, self._is_unsaved = changed, False

    def _serve(self, state: ModelState, actions: tuple[Action, ...]) -> None:
        """Carry out the part of a start that changes no state: the version that proved itself answers."""
        proven = Activate(state.current.manifest) if state.current is not None else None
        self._act(state, tuple(a for a in actions if isinstance(a, Configure) or a == proven))

    def _act(self, after: ModelState, actions: tuple[Action, ...]) -> None:
        for action in actions:
            self._carry_out(after, action)


def _configure(state: ModelState, *, stop: bool) -> Configure:
    return Configure(tuple(sorted(state.settings.items())), stop=stop)

"""Bugs planted on purpose: a simulator that does not find each of them proves nothing.

Each function plants one, until its ``MonkeyPatch`` is undone. Those of the machine that decides rollouts
are in ``machine_mutants``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from sqlmodel import Session

from muster_agent.measure.outbox import Outbox
from muster_agent.store import NEW, STATE, Store, _encode
from muster_agent.update import moves, updater
from muster_agent.update.course import Course
from muster_agent.update.state import AgentState, ModelState, kept
from muster_agent.update.steps import (
    Action,
    Activate,
    AnyEvent,
    Configure,
    Restarted,
    ShadowFailed,
    Step,
)
from muster_controller import ingest
from muster_controller.store import inbox, labels
from muster_models import topics, wire
from muster_models.topics import Up
from muster_models.trust import director
from muster_models.wire import Desired, Phase
from simulation import agent
from simulation.machine_mutants import MACHINE_PLANTS

Plant = Callable[[pytest.MonkeyPatch], None]


def acknowledge_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Ingest tells devices what it is about to store."""

    def process(self: ingest.Ingest, batch: Sequence[ingest._Waiting]) -> None:
        for waiting in batch:
            waiting.done()
            if waiting.taken.name is not None:
                name, epoch, sequence = waiting.taken.name
                self._publish(topics.down(name, "stored"), wire.encode(wire.Stored(epoch, sequence)))
        self._store([waiting.taken for waiting in batch])

    patch.setattr(ingest.Ingest, "_process", process)


def acknowledge_over_gaps(patch: pytest.MonkeyPatch) -> None:
    """The watermark is the highest number that came, whatever is missing below it."""

    def contiguous(stream: inbox.Stream, upto: int, known: set[inbox.Name]) -> int:
        return max([upto, *(sequence for *name, sequence in known if tuple(name) == stream)])

    patch.setattr(inbox, "_contiguous", contiguous)


def store_repeats(patch: pytest.MonkeyPatch) -> None:
    """Ingest takes every message for a new one."""
    receive = inbox.receive

    def forgetful(session: Session, names: Any) -> inbox.Receipt:
        asked = frozenset(names)
        return inbox.Receipt(asked, receive(session, asked).marks)

    patch.setattr(inbox, "receive", forgetful)


def count_labels_twice(patch: pytest.MonkeyPatch) -> None:
    """What was pushed before is counted once more."""
    patch.setattr(labels, "labels_of", lambda *_args: {})
    patch.setattr(labels, "counted", lambda *_args: None)


class DeletesOnSending(Outbox):
    """Takes a message that was handed out for one that arrived."""

    def batch(self, after: int, limit: int) -> list[tuple[int, Up, bytes]]:
        messages = super().batch(after, limit)
        for sequence, _, _ in messages:
            with self._transaction():
                self._delete("sequence = ?", sequence)
        return messages


def delete_on_sending(patch: pytest.MonkeyPatch) -> None:
    """The outbox trusts the broker."""
    patch.setattr(agent, "Outbox", DeletesOnSending)


class ActsFirst(Course):
    """Carries out what was decided, and saves it then."""

    def handle(self, model: str, event: AnyEvent) -> bool:
        after, actions = updater.step(self._model(model), event)
        self._act(after, actions)
        self._save(replace(self.state, models=self.state.models | {model: after}))
        return bool(actions)


def save_after_effect(patch: pytest.MonkeyPatch) -> None:
    """The state is saved when everything is done."""
    patch.setattr(agent, "Course", ActsFirst)


class NoFolderSync(Store):
    """Trusts that a renaming is on the disk."""

    def save(self, state: AgentState) -> None:
        self._kept = (self._kept or frozenset()) | kept(state)
        self._write_new(STATE, _encode(state))
        self._disk.rename(STATE + NEW, STATE)
        self._kept = kept(state)


def sync_no_folder(patch: pytest.MonkeyPatch) -> None:
    """What was saved may be gone after a power cut."""
    patch.setattr(agent, "Store", NoFolderSync)


class KeepsAll(Store):
    """Removes nothing."""

    def collect(self, keep: object = ()) -> None:
        """Do nothing."""


def never_collect(patch: pytest.MonkeyPatch) -> None:
    """Old versions stay on the disk."""
    patch.setattr(agent, "Store", KeepsAll)


def count_downloads_as_tries(patch: pytest.MonkeyPatch) -> None:
    """An attempt to download counts as a try of the version."""
    begin = updater._begin_download

    def counting(state: ModelState, now: float) -> Step:
        after, actions = begin(state, now)
        return replace(after, tries=after.tries + 1), actions

    patch.setattr(updater, "_begin_download", counting)


def never_roll_back(patch: pytest.MonkeyPatch) -> None:
    """A device whose candidate failed leaves it answering."""

    def stays(state: ModelState, event: AnyEvent) -> Step:
        after, actions = step(state, event)
        return after, tuple(action for action in actions if not _goes_back(state, action))

    def _goes_back(state: ModelState, action: Action) -> bool:
        is_current = state.current is not None and action == Activate(state.current.manifest)
        return is_current and state.candidate is not None

    step = updater.step
    patch.setattr("muster_agent.update.course.step", stays)


def overlook_failures_in_shadow(patch: pytest.MonkeyPatch) -> None:
    """What fails in shadow is activated all the same."""

    def begins(state: ModelState, event: ShadowFailed) -> Step:
        return moves.begin_trial(state, event.now) if state.phase is Phase.SHADOW else (state, ())

    patch.setattr(updater, "_shadow_failed", begins)


def forget_stops(patch: pytest.MonkeyPatch) -> None:
    """After a start an agent lets a version answer that was stopped."""

    def start(state: ModelState, event: Restarted) -> Step:
        after, actions = restarted(state, event)
        return after, tuple(action for action in actions if not isinstance(action, Configure))

    restarted = updater._restarted
    patch.setattr(updater, "_restarted", start)


def obey_strangers(patch: pytest.MonkeyPatch) -> None:
    """A device obeys any envelope that parses."""

    def trusting(envelope: bytes, _targets: object, **_: object) -> Desired:
        return wire.decode_desired(director._parse(envelope).payload)

    patch.setattr("simulation.outside.open_envelope", trusting)


PLANTS: tuple[Plant, ...] = (
    acknowledge_before_commit,
    acknowledge_over_gaps,
    store_repeats,
    count_labels_twice,
    delete_on_sending,
    save_after_effect,
    sync_no_folder,
    never_collect,
    count_downloads_as_tries,
    never_roll_back,
    overlook_failures_in_shadow,
    forget_stops,
    obey_strangers,
    *MACHINE_PLANTS,
)

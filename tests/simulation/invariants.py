"""What must hold whatever happens, looked at after every step and once more when everything has settled.

The witness stands outside: it reads the disks, the database and the messages, and what it remembers survives
every power cut. It never raises, because much of what it is called from catches errors; it writes down.
"""

import copy
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from muster_agent.measure.outbox import WindowPart
from muster_agent.store import Store
from muster_agent.update.course import Course
from muster_agent.update.state import ON_TRIAL, AgentState, ModelState
from muster_models import wire
from muster_models.wire import Phase, Stored
from simulation import at_rest
from simulation.held import Belief, belief, is_whole, read_state, versions_of
from simulation.outside import Catalogue
from simulation.rollout_laws import RolloutLaws
from simulation.story import Story
from simulation.versions import Version

if TYPE_CHECKING:
    from simulation.device import Device

MAX_FILES = 18  # three versions of three files, their manifests, two states, and some on their way
MAX_TRIES = 3
STOPPED = "the agent stopped"  # what a device says of a version when the power went during its trial
SWAP_SECONDS = 15.0  # in which one version may replace another

Name = tuple[str, int, int]  # device, epoch, sequence
WindowKey = tuple[str, str, int, int]  # device, digest, start and end in milliseconds
EventKey = tuple[str, str, str, str]  # device, kind, digest, detail


@dataclass
class Mail:
    """What devices gave to their outboxes, and what became of it."""

    windows: Counter[WindowKey] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)  # by device and digest
    shadows: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # calls, with the candidate
    events: Counter[EventKey] = field(default_factory=Counter)
    payloads: dict[Name, bytes] = field(default_factory=dict)
    acknowledged: dict[tuple[str, int], int] = field(default_factory=dict)


class Witness:
    """Remembers what was promised, and writes down what was broken.

    Attributes:
        broken: Broken invariants, one line each; empty is what we want.
        rollouts: Looks at the rollouts.
        blamed: Versions that were given up because the power went while they were on trial.
        pushes: How many pushes of labels were taken.
        installs: Versions that were committed, by number; ``returns``: that were rolled back.
    """

    def __init__(self, catalogue: Catalogue, story: Story) -> None:
        self.catalogue = catalogue
        self.broken: list[str] = []
        self.mail = Mail()
        self.rollouts = RolloutLaws(catalogue, story, self.broke)
        self.blamed: set[str] = set()
        self.pushes = 0
        self.outcomes: Counter[str] = Counter()
        self._told: dict[tuple[str, int], bool] = {}  # what was signed, and whether it stops the model
        self._said: dict[Name, set[Belief]] = {}
        self._failed: set[tuple[str, str, int]] = set()  # in shadow: device, version, desired sequence
        self._highest: Counter[str] = Counter()
        self._calls: dict[str, int] = {}
        self._heard = 0
        self._known: tuple[object, object] = (None, None)
        self._silent: dict[str, tuple[object, float]] = {}
        self._reader: sqlite3.Connection | None = None
        self._seen = 0

    def remember(self, before: "Witness") -> None:
        """Go on from what another one has seen."""
        for name in ("mail", "outcomes", "blamed", "_told", "_said", "_highest"):
            setattr(self, name, copy.deepcopy(getattr(before, name)))
        self.rollouts.remember(before.rollouts)

    def read(self, database: Path) -> None:
        """Name the database to look at; ``close`` lets go of it."""
        self._reader = sqlite3.connect(f"file:{database}?mode=ro", uri=True)

    def close(self) -> None:
        """Let go of the database."""
        if self._reader is not None:
            self._reader.close()

    def broke(self, law: str, what: str) -> None:
        """Write down that something does not hold."""
        self.broken.append(f"{law}: {what}")

    # A device

    def watch_saves(self, device: "Device", store: Store, course: Course) -> None:
        """Look at every state that a device saves, and at the one that it has found."""
        save = store.save
        self._look_at_found(device, course.state)

        def watched(state: AgentState) -> None:
            before = course.state
            save(state)
            self._look_at_saved(device, before, state)

        store.save = watched  # type: ignore[method-assign]

    def _look_at_found(self, device: "Device", state: AgentState) -> None:
        if state.sequence < self._highest[device.name]:
            was = self._highest[device.name]
            self.broke("the desired sequence never falls", f"{device.name} had {was}, has {state.sequence}")
        self._look_at_slots(device, state)

    def _look_at_saved(self, device: "Device", before: AgentState, after: AgentState) -> None:
        if after.sequence < before.sequence:
            self.broke(
                "the desired sequence never falls", f"{device.name}: {before.sequence} {after.sequence}"
            )
        if after.sequence and (device.name, after.sequence) not in self._told:
            self.broke("devices obey their controller alone", f"{device.name}: {after.sequence}")
        stops = self._told.get((device.name, after.sequence), False)
        if after.sequence and any(m.stopped != stops for m in after.models.values() if m.wanted is not None):
            self.broke("what is ordered to stop stops", f"{device.name}: {after.sequence}, {stops}")
        for name, model in after.models.items():
            self._look_at_tries(device, before.models.get(name, ModelState(name)), model)
            if model.target is not None and STOPPED in model.detail:
                self.blamed.add(model.target)

    def _look_at_tries(self, device: "Device", before: ModelState, after: ModelState) -> None:
        grew = after.tries - before.tries
        is_begun = after.phase in {Phase.SHADOW, Phase.ACTIVATING}
        if grew > 0 and (not is_begun or grew > 1 or after.tries > MAX_TRIES):
            detail = f"{device.name} {after.phase}: {before.tries} -> {after.tries}"
            self.broke("tries are counted on trial only", detail)

    def failed_in_shadow(self, device: "Device", version: Version) -> None:
        """Remember that a version failed while nobody was given its answers."""
        self._failed.add((device.name, version.digest, device.sequence))

    def activated(self, device: "Device", version: Version) -> None:
        """Look at a version that is about to answer."""
        digest, name = version.digest, f"{version.name} on {device.name}"
        if (device.name, digest, device.sequence) in self._failed:
            self.broke("what failed in shadow does not answer", name)
        if digest not in self.catalogue.listed:
            self.broke("only listed versions run", name)
        if device.name not in self.rollouts.admitted.get(digest, set()):
            self.broke("a version runs only where a rollout admitted it", name)
        if not is_whole(device.disk, digest):
            self.broke("what answers is whole", name)
        saved = read_state(device.disk)
        if digest not in versions_of(saved) and not _goes_back_unsaved(device, saved, digest):
            self.broke("the state is saved before its effect", name)

    def look_at(self, device: "Device") -> None:
        """Look at a device after each thing that happened to it."""
        agent = device.agent
        if agent is None:
            return
        state = agent.course.state
        self._highest[device.name] = max(self._highest[device.name], state.sequence)
        self._look_at_answer(device, state)
        if self._calls.get(device.name) == device.disk.calls:
            return
        self._calls[device.name] = device.disk.calls
        self._look_at_slots(device, state)
        files = len(device.disk.files())
        if files > MAX_FILES:
            self.broke("no garbage grows", f"{files} files on {device.name}")
        for answering in agent.runner.answering.values():
            # One that is about to be replaced answers from links of its own; its files may be gone.
            version = answering.version
            if version.digest in versions_of(state) and not is_whole(device.disk, version.digest):
                self.broke("what answers is whole", f"{version.name} on {device.name}")

    def _look_at_answer(self, device: "Device", state: AgentState) -> None:
        """See that what answers is what should, but for the moments in which one replaces the other.

        A model that is stopped answers with its fallback, also after its agent or its device started anew.
        """
        assert device.agent is not None
        models = state.models.values()
        running = {(model.running.manifest, model.stopped) for model in models if model.running is not None}
        serving = device.agent.runner.serving().values()
        answering = {(held.digest, held.stopped) for held in serving if held.alive}
        rests = (
            device.disk.fault is not None and device.disk.fault.lasts
        )  # what cannot be saved is not followed
        if answering == running or rests or any(model.revive_at is not None for model in models):
            self._silent.pop(device.name, None)
            return
        since = self._silent.setdefault(device.name, (device.agent, device.world.now))
        if since[0] is not device.agent:
            del self._silent[device.name]
        elif device.world.now - since[1] > SWAP_SECONDS:
            self.broke("what should answer does, and nothing else", f"{device.name}: {models}")

    def _look_at_slots(self, device: "Device", state: AgentState) -> None:
        for model in state.models.values():
            on_trial = model.candidate if model.phase in ON_TRIAL else None
            for slot in (model.current, model.previous, on_trial):
                if slot is not None and not is_whole(device.disk, slot.manifest):
                    self.broke("what the state counts on is whole", f"{slot.version} on {device.name}")

    # Mail

    def window_added(self, device: str, part: WindowPart) -> None:
        """Remember a window that is in an outbox."""
        self.mail.windows[device, part.manifest, _milliseconds(part.start), _milliseconds(part.end)] += 1
        self.mail.calls[device, part.manifest] += part.calls
        if part.shadow is not None:
            self.mail.shadows[device, part.manifest, part.shadow.candidate] += part.shadow.calls

    def windows_of(self, digest: str) -> Counter[str]:
        """Return how many windows of a version each device has measured."""
        found: Counter[str] = Counter()
        for (device, version, _, _), count in self.mail.windows.items():
            found[device] += count * (version == digest)
        return found

    def event_added(self, device: str, kind: str, digest: str, detail: str) -> None:
        """Remember an event that is in an outbox."""
        self.mail.events[device, kind, digest, detail] += 1
        self.outcomes[kind] += 1

    def sent(self, payload: bytes) -> None:
        """See that what has a number stays as it is."""
        message = wire.decode_uplink(payload)
        assert not isinstance(message, wire.Hello)
        name = (message.device, message.epoch, message.sequence)
        if self.mail.payloads.setdefault(name, payload) != payload:
            self.broke("a numbered message never changes", f"{name}")
        if isinstance(message, wire.Report):
            self._said.setdefault(name, set()).update(map(belief, message.models))

    def said(self, hello: wire.Hello) -> None:
        """Remember what a device said of itself when it greeted."""
        name = (hello.device, hello.outbox.epoch, hello.outbox.last)
        self._said.setdefault(name, set()).update(map(belief, hello.models))

    def acknowledged(self, device: str, watermark: Stored) -> None:
        """Remember what a device was told is stored."""
        key = (device, watermark.epoch)
        self.mail.acknowledged[key] = max(watermark.upto, self.mail.acknowledged.get(key, 0))

    # The controller

    def told(self, device: str, sequence: int, *, stops: bool) -> None:
        """Remember that the controller signed a desired state."""
        self._told[device, sequence] = stops

    def changes(self) -> int:
        """Return a number that changes whenever the controller has committed something."""
        assert self._reader is not None
        (version,) = self._reader.execute("PRAGMA data_version").fetchone()
        return int(version)

    @property
    def news(self) -> tuple[int, int, int]:
        """What changes whenever the loop may find something that it has not seen."""
        return self._heard, self.rollouts.moves, self.pushes

    def look_at_controller(self, now: float) -> None:
        """Look at what is committed: rollouts, what devices are believed to run, what was acknowledged.

        Args:
            now: Unix seconds by the controller's clock.
        """
        assert self._reader is not None
        version = self.changes()
        if version == self._seen:
            return
        self._seen = version
        self.rollouts.look(self._reader, now)
        self._look_at_beliefs(self._reader)
        held = {
            (device, epoch): upto
            for device, epoch, upto in self._reader.execute("SELECT device, epoch, upto FROM watermark")
        }
        for key, upto in self.mail.acknowledged.items():
            if upto > held.get(key, 0):
                self.broke("what is acknowledged is stored", f"{key}: {upto}, stored {held.get(key, 0)}")

    def passed(self, now: float) -> None:
        """Look at the rollouts after a pass of the loop."""
        assert self._reader is not None
        self.look_at_controller(now)
        self.rollouts.passed(now)
        self.rollouts.look_at_counts(self._reader)

    def _look_at_beliefs(self, connection: sqlite3.Connection) -> None:
        """See that what the controller believes of a device is what the device said."""
        query = "SELECT device, epoch, sequence, current, previous, target, phase FROM running"
        believed = {}
        for device, epoch, sequence, *one in connection.execute(query):
            believed[device] = told = tuple(one)
            if told not in self._said.get((device, epoch, sequence), ()):
                self.broke("the controller believes what devices say", f"{device}: {one}")
        (windows,) = connection.execute("SELECT max(id) FROM window").fetchone()
        if (windows, believed) != self._known:
            self._known = windows, believed
            self._heard += 1

    # The end

    def are_told(self, devices: list["Device"]) -> bool:
        """Tell whether every device holds the newest desired state."""
        assert self._reader is not None
        newest = dict(self._reader.execute("SELECT device, sequence FROM desiredstate").fetchall())
        return all(newest.get(device.name, 0) == device.sequence for device in devices)

    def settle(self, devices: list["Device"]) -> None:
        """Look at everything once the faults are over and everything has settled."""
        assert self._reader is not None
        at_rest.settle(self, self._reader, devices)


def _goes_back_unsaved(device: "Device", saved: AgentState, digest: str) -> bool:
    """Tell whether a device goes back to its previous version while its disk refuses to hold that.

    A version that keeps dying cannot wait for the disk: what was saved still names both.
    """
    known = {model.previous.manifest for model in saved.models.values() if model.previous is not None}
    return device.agent is not None and device.agent.course._is_unsaved and digest in known


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)

"""A simulated device: the real agent without threads, processes and sockets, on a disk that tears.

Real are the store, the update machine and its course, the executor and the installer, the downloader, the
notices and the outbox; see ``agent``. What stands for the rest is in ``outside`` and ``measuring``.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from muster_agent.machine import Machine
from muster_models.errors import StorageError
from simulation.agent import Agent
from simulation.bus import Bus
from simulation.invariants import Witness
from simulation.labelling import Labelling
from simulation.outside import Catalogue
from simulation.story import Fault, Member, Story, Trouble
from simulation.world import Action, World
from support.disk import Fault as DiskFault
from support.disk import PowerCut, SimulatedDisk

BOOT_SECONDS = 8.0


@dataclass(frozen=True)
class Surroundings:
    """What all devices share.

    Attributes:
        folder: For what does not lie on the simulated disk.
        drifts: Tells whether the world has changed at a site.
        is_asked: Tells whether anybody wants predictions.
        labelling: Learns the truth about them.
    """

    story: Story
    world: World
    bus: Bus
    catalogue: Catalogue
    witness: Witness
    folder: Path
    epochs: Callable[[], int]
    drifts: Callable[[str], bool]
    is_asked: Callable[[], bool]
    labelling: Labelling


@dataclass
class Fortunes:
    """What a device went through."""

    cuts: int = 0
    kills: int = 0
    absences: int = 0
    refusals: int = 0
    refused: int = 0


class Device:
    """A machine with a disk, which may be without power or without network."""

    def __init__(self, member: Member, shared: Surroundings, disk: SimulatedDisk | None = None) -> None:
        self.member = member
        self.name = member.name
        self.site = member.site
        self.shared = shared
        self.world = shared.world
        self.disk = disk or SimulatedDisk()
        self.machine = Machine("0.1.0", {"onnx": "1"}, member.hardware, 10**9, member.zone)
        self.is_online = True
        self.agent: Agent | None = None
        self.lives = 0
        self.fortunes = Fortunes()
        self._chance = shared.world.stream(member.name)
        self.skew = member.skew
        self.rows = np.random.default_rng(self._chance.randrange(2**32))
        self._cut_after: int | None = None  # transactions of the outbox
        self._struck: tuple[Fault, Random] | None = None  # the fault that is about to take the power
        self._again = 0  # call to the disk after the next start at which the power goes once more
        shared.bus.attach_device(member.name, self._take)
        self.world.after(self._chance.uniform(0, 3), self.boot)

    # Power

    def boot(self) -> None:
        """Start the agent, unless it runs."""
        if self.agent is not None:
            return
        if self._again:
            self.disk.fault = DiskFault(self.disk.calls + self._again)
            self._again = 0
        self._guard(self._start)

    def _start(self) -> None:
        self.lives += 1
        try:
            self.agent = Agent(self)
        except StorageError as error:
            self.world.note(f"{self.name} does not start: {error}")
            self.world.after(self._chance.expovariate(1 / BOOT_SECONDS), self.boot)
        else:
            self.agent.start()

    def lose_power(self) -> None:
        """Stop everything now, and start again after a while."""
        fault, chance = self._struck or (None, self._chance)
        is_kill = fault is not None and fault.kind is Trouble.KILL
        self.fortunes.kills += is_kill
        self.fortunes.cuts += not is_kill
        self.world.note(f"{self.name} {'is killed' if is_kill else 'loses power'}")
        self._end()
        if is_kill:
            self.disk.kill()
        else:
            self.disk.cut_power(chance)
        self._cut_after = None
        if fault is not None and fault.again and not self._again:
            self._again = fault.again
            self._struck = (Fault(fault.at, Trouble.CUT, fault.who), chance)  # the second time is the last
        self.world.after(chance.expovariate(1 / BOOT_SECONDS), self.boot)

    def _end(self) -> None:
        if self.agent is not None:
            self.agent.end()
        self.agent = None

    def is_cut(self) -> bool:
        """Tell whether the power goes at this transaction."""
        if self._cut_after is None:
            return False
        self._cut_after -= 1
        return self._cut_after <= 0

    # What goes wrong

    def suffer(self, fault: Fault) -> None:
        """Let something go wrong with this device, now or a few calls from now."""
        chance = Random(f"{self.world.seed}/{fault.at}/{fault.who}/{fault.kind}")
        match fault.kind:
            case Trouble.CUT:
                self._struck = fault, chance
                self._guard(_cut)
            case Trouble.HALF:
                self._struck, self._cut_after = (fault, chance), int(fault.size)
            case Trouble.TORN | Trouble.KILL:
                self._struck = fault, chance
                self.disk.fault = DiskFault(self.disk.calls + int(fault.size))
            case Trouble.AWAY | Trouble.SITE:
                self._go_away(fault.size)
            case Trouble.DISK:
                self._refuse(fault)
            case Trouble.WORKER:
                self._lose_worker()
            case Trouble.CLOCK:
                self.skew += fault.size
                self.world.note(f"the clock of {self.name} jumps by {fault.size:+g} s")
            case Trouble.CRASH | Trouble.FORGET | Trouble.PAUSE | Trouble.STOP:
                raise AssertionError(f"{fault} is no matter of a device")

    def _refuse(self, fault: Fault) -> None:
        """Let the disk be full, or broken, for some seconds."""
        self.fortunes.refusals += 1
        fails = DiskFault(self.disk.calls + 1, error=getattr(errno, fault.error), lasts=True)
        self.disk.fault = fails
        self.world.note(f"the disk of {self.name} refuses ({fault.error})")
        self.world.after(fault.size, lambda: self._repair(fails))

    def _repair(self, fault: DiskFault) -> None:
        if self.disk.fault is fault:
            self.disk.fault = None

    def relieve(self) -> None:
        """End whatever is still to go wrong, and set the clock right."""
        self._cut_after = None
        self._again = 0
        self.disk.fault = None
        self.skew = self.member.skew

    def _lose_worker(self) -> None:
        if self.agent is not None:
            self.agent.lose_worker()

    def live(self, agent: Agent, action: Action) -> None:
        """Do something as a part of one life of the agent; nothing when that is over."""
        if self.agent is agent:
            self._guard(action)

    def _guard(self, action: Action) -> None:
        try:
            action()
        except PowerCut:
            self.lose_power()
        self.shared.witness.look_at(self)

    # Network

    def _go_away(self, seconds: float) -> None:
        if not self.is_online:
            return
        self.is_online = False
        self.fortunes.absences += 1
        self.world.note(f"{self.name} is offline")
        self.world.after(seconds, self.come_back)

    def come_back(self) -> None:
        """Have a network again."""
        if not self.is_online:
            self.is_online = True
            self.world.note(f"{self.name} is online")
            self.connect()

    def connect(self) -> None:
        """Begin a session anew, where there is a network and an agent."""
        if self.is_online and self.agent is not None:
            agent = self.agent
            self.live(agent, agent.connect)

    def _take(self, topic: str, payload: bytes) -> None:
        if self.is_online and self.agent is not None:
            agent = self.agent
            self.live(agent, lambda: agent.take(topic, payload))

    @property
    def sequence(self) -> int:
        """Number of the newest desired state that was accepted; 0 for none, and while nothing runs."""
        return self.agent.course.state.sequence if self.agent is not None else 0

    @property
    def is_settled(self) -> bool:
        """Whether the device is well, has nothing to do, and nothing left to say."""
        agent = self.agent
        if agent is None or agent.outbox.status().waiting:
            return False
        models = agent.course.state.models.values()
        if any(model.candidate is not None or model.revive_at is not None for model in models):
            return False
        wanted = {model.wanted.manifest for model in models if model.wanted is not None}
        return wanted == {model.current.manifest for model in models if model.current is not None}

    def wall(self) -> float:
        """Return Unix seconds by the device's own clock."""
        return self.world.now + self.skew


def _cut() -> None:
    raise PowerCut

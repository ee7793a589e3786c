"""A broker that promises nothing: messages get lost, doubled, late, out of order; and strangers send too."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from muster_models import topics
from simulation.world import Action, World

Take = Callable[[str, bytes], None]
# Given the device that is about to be told something, returns what a stranger sends it instead.
Mischief = Callable[[str], bytes]


@dataclass
class Traffic:
    """What became of the messages."""

    sent: int = 0
    lost: int = 0
    duplicated: int = 0
    forged: int = 0


@dataclass
class Bus:
    """Carries messages up to the controller and down to the devices."""

    world: World
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        # One stream per device: whom the controller tells first is its own matter.
        self._chances: dict[str, Random] = {}
        self._controller: Take = _drop
        self._devices: dict[str, Take] = {}
        self._mischief: Mischief | None = None
        self._era = 0

    def forget(self) -> None:
        """Lose everything that is on its way."""
        self._era += 1

    def attach_controller(self, take: Take, mischief: Mischief) -> None:
        """Name who takes what comes up, and what strangers send down."""
        self._controller = take
        self._mischief = mischief

    def attach_device(self, device: str, take: Take) -> None:
        """Name who takes what comes down to a device."""
        self._devices[device] = take
        self._chances[device] = self.world.stream(f"bus/{device}")

    def up(self, topic: str, payload: bytes) -> None:
        """Carry a message to the controller, or not, or twice."""
        self._carry(_device(topic), lambda: self._controller(topic, payload))

    def down(self, topic: str, payload: bytes) -> None:
        """Carry a message to a device, or not, or twice."""
        device = _device(topic)
        take, chance = self._devices[device], self._chances[device]
        self._carry(device, lambda: take(topic, payload))
        is_tempting = topic == topics.down(device, "desired") and self._mischief is not None
        if is_tempting and chance.random() < self.world.weather.mischief:
            assert self._mischief is not None
            forged = self._mischief(device)
            self.traffic.forged += 1
            self.world.after(self._delay(chance), lambda: take(topic, forged))

    def _carry(self, device: str, deliver: Action) -> None:
        weather, chance = self.world.weather, self._chances[device]
        self.traffic.sent += 1
        if chance.random() < weather.loss:
            self.traffic.lost += 1
            return
        era = self._era

        def arrive() -> None:
            if self._era == era:
                deliver()

        self.world.after(self._delay(chance), arrive)
        if chance.random() < weather.duplication:
            self.traffic.duplicated += 1
            self.world.after(2 * self._delay(chance), arrive)

    def _delay(self, chance: Random) -> float:
        return chance.expovariate(1 / self.world.weather.delay)


def _device(topic: str) -> str:
    return topic.split("/")[3]


def _drop(_topic: str, _payload: bytes) -> None:
    """Take nothing: nobody listens."""

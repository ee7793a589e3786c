"""Time, chance and weather: all that happens in a simulated fleet happens here, one thing after another.

A seed names a history. Every actor draws from a stream of its own, so that a change to one of them leaves the
chances of the others as they were.
"""

import hashlib
import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

START = 1_800_000_000.0  # Unix seconds; a multiple of every window
WINDOW_SECONDS = 10.0

Action = Callable[[], None]


@dataclass(frozen=True)
class Weather:
    """How much goes wrong; shares are 0..1, times are means in seconds (infinite: never).

    Attributes:
        loss, duplication: Of messages, in either direction.
        delay: Of a message; drawn anew for each, so that they overtake each other.
        cut, away, refusal: Between two power cuts, absences and disk refusals of one device.
        crash: Between two crashes of the controller.
        worker: Between two deaths of a worker that proved itself, on one device.
        broken, damaged: Of downloads: that end early, that deliver other bytes.
        mischief: Of desired states, beside which a stranger sends something else.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.05
    cut: float = math.inf
    away: float = math.inf
    refusal: float = math.inf
    crash: float = math.inf
    worker: float = math.inf
    broken: float = 0.0
    damaged: float = 0.0
    mischief: float = 0.0

    @property
    def calm(self) -> "Weather":
        """The same network, and nothing goes wrong."""
        return Weather(delay=self.delay)


def draw_weather(chance: Random) -> Weather:
    """Return the weather of a seed: each fault is absent in a third of them, and one in ten is calm."""

    def sometimes(worst: float) -> float:
        return chance.uniform(0, worst) if chance.random() < 2 / 3 else 0.0

    def between(least: float, most: float) -> float:
        return chance.uniform(least, most) if chance.random() < 2 / 3 else math.inf

    drawn = Weather(
        loss=sometimes(0.3),
        duplication=sometimes(0.3),
        delay=chance.choice((0.02, 0.3, 2.0)),
        cut=between(60, 400),
        away=between(100, 500),
        refusal=between(150, 600),
        crash=between(20, 150),
        worker=between(300, 900),
        broken=sometimes(0.5),
        damaged=sometimes(0.15),
        mischief=sometimes(0.5),
    )
    return drawn.calm if chance.random() < 0.1 else drawn


class World:
    """The clock, the chances, and what is still to happen.

    Attributes:
        now: Unix seconds.
        weather: As it is now.
        log: What happened, one line each, when it is kept.
        steps: How many things happened.
    """

    def __init__(self, seed: int, weather: Weather, *, keeps_log: bool = False) -> None:
        self.seed = seed
        self.now = START
        self.weather = weather
        self.steps = 0
        self.log: list[str] = []
        self._keeps_log = keeps_log
        self._hash = hashlib.sha256()
        self._order = itertools.count()
        self._coming: list[tuple[float, int, Action]] = []

    def stream(self, name: str) -> Random:
        """Return the chances of one actor."""
        return Random(f"{self.seed}/{name}")

    def after(self, seconds: float, action: Action) -> None:
        """Let something happen so many seconds from now; nothing for an infinite time."""
        if seconds < math.inf:
            heapq.heappush(self._coming, (self.now + seconds, next(self._order), action))

    def every(self, seconds: float, action: Action) -> None:
        """Let something happen again and again."""

        def again() -> None:
            self.after(seconds, again)
            action()

        self.after(seconds, again)

    def now_and_then(self, mean: Callable[[Weather], float], chance: Random, action: Action) -> None:
        """Let something happen at random times while the weather has it."""

        def happen() -> None:
            if mean(self.weather) < math.inf:
                action()
                self.after(chance.expovariate(1 / mean(self.weather)), happen)

        if mean(self.weather) < math.inf:
            self.after(chance.expovariate(1 / mean(self.weather)), happen)

    def clear_up(self) -> None:
        """End the bad weather."""
        self.weather = replace(self.weather.calm)
        self.note("the faults stop")

    def run(self, until: float, ended: Callable[[], bool]) -> None:
        """Let things happen until a time (Unix seconds), or until ``ended`` says so after one of them."""
        while self._coming and self._coming[0][0] <= until:
            self.now, _, action = heapq.heappop(self._coming)
            self.steps += 1
            action()
            if ended():
                return
        self.now = max(self.now, until)

    def note(self, text: str) -> None:
        """Write down what happened: the same seed writes the same."""
        line = f"{self.now - START:9.3f} {text}"
        self._hash.update(line.encode())
        if self._keeps_log:
            self.log.append(line)

    @property
    def digest(self) -> str:
        """Names the history so far."""
        return self._hash.hexdigest()[:16]

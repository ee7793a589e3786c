"""Time and chance: all that happens in a simulated fleet happens here, one thing after another.

A story names a history. Every actor draws from a stream of its own, so that a change to one of them leaves
the chances of the others as they were.
"""

import hashlib
import heapq
import itertools
import math
from collections.abc import Callable
from random import Random

from simulation.story import Pace, Weather

START = 1_800_000_000.0  # Unix seconds; a multiple of every window

Action = Callable[[], None]


class World:
    """The clock, the chances, and what is still to happen.

    Attributes:
        now, start: Unix seconds: now, and when it all began.
        weather: As it is now.
        log: What happened, one line each, when it is kept.
        steps: How many things happened.
    """

    def __init__(
        self, seed: int, weather: Weather, pace: Pace, *, start: float = START, keeps_log: bool = False
    ) -> None:
        self.seed = seed
        self.start = self.now = start
        self.weather = weather
        self.pace = pace
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

    def clear_up(self) -> None:
        """End the bad weather."""
        self.weather = self.weather.calm
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
        """Write down what happened: the same story writes the same."""
        line = f"{self.now - self.start:9.3f} {text}"
        self._hash.update(line.encode())
        if self._keeps_log:
            self.log.append(line)

    @property
    def digest(self) -> str:
        """Names the history so far."""
        return self._hash.hexdigest()[:16]

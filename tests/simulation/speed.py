"""How much faster than real time a fleet lives here: at the intervals that a fleet has by default."""

import time
from dataclasses import dataclass

from msgspec.structs import replace

from simulation.run import Outcome, live
from simulation.story import SITES, USUAL, Member, Story
from simulation.versions import Kind

WARM_UP = 4  # devices of the fleet that is lived first, so that nothing is compiled while the clock runs


@dataclass(frozen=True)
class Speed:
    """What it took to live a story.

    Attributes:
        spent: Seconds of one processor.
    """

    outcome: Outcome
    spent: float

    @property
    def ratio(self) -> float:
        """Seconds that were lived in one second."""
        return self.outcome.seconds / self.spent

    def tell(self) -> str:
        """Say it in words."""
        lived, rate = self.outcome, f"{self.ratio:,.0f} x real time"
        return (
            f"{len(lived.story.fleet)} devices, windows of {lived.story.pace.window:g} s: {rate}; "
            f"{lived.seconds:,.0f} s lived in {self.spent:.1f} s of one processor, "
            f"{lived.windows:,} windows, {lived.steps:,} steps; {'; '.join(lived.broken) or 'all well'}"
        )


def measure(devices: int) -> Speed:
    """Let a fleet be given one version and then another, and return how fast that went."""
    story = make_story(devices)
    live(replace(story, fleet=story.fleet[:WARM_UP]))
    began = time.process_time()
    outcome = live(story)
    return Speed(outcome, time.process_time() - began)


def make_story(devices: int) -> Story:
    """Return a calm day of a fleet."""
    sites = [SITES[number % len(SITES)] for number in range(devices)]
    fleet = tuple(
        Member(f"{site}-{number}", site, rate=2.0, skew=(number % 7 - 3) / 4)
        for number, site in enumerate(sites, start=1)
    )
    return Story(1, fleet, versions=(Kind.FINE,), stages=(10.0, 50.0, 100.0), pace=USUAL)

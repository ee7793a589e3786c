"""The story, told to nobody, and what it left behind."""

from dataclasses import dataclass

from story.chapters import Facts, Story
from story.fleet import Fleet


class Silence:
    """Nobody watches; pytest shows what failed."""

    def begin(self, title: str) -> None:
        """Hear nothing."""

    def tell(self, detail: str) -> None:
        """Hear nothing."""

    def end(self, fact: str) -> None:
        """Hear nothing."""


@dataclass(frozen=True)
class Told:
    """A fleet that still runs, and what the story has shown on it."""

    fleet: Fleet
    story: Story
    facts: Facts

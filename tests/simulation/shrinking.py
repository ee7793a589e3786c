"""From a story that breaks a law to a short one that breaks the same law.

Delta debugging over everything that a story lists: faults, versions, devices, and the weather. What is left
is not the shortest story there is, but nothing can be taken away from it.
"""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from simulation.run import Outcome, live
from simulation.story import Story, Terms, Weather

LEAST_DEVICES = 2


def shrink(outcome: Outcome, *, tell: Callable[[str], None]) -> Outcome:
    """Return what happens in a short story that breaks a law which ``outcome`` broke.

    Args:
        tell: Told of every step that made it shorter.
    """
    law = min(outcome.laws)
    shrinking = _Shrinking(law, outcome, tell)
    while shrinking.goes_on():
        shrinking.cut_off_faults()
        shrinking.leave_out("faults")
        shrinking.leave_out("versions")
        shrinking.calm_down()
        shrinking.simplify()
        shrinking.leave_out("fleet", least=LEAST_DEVICES)
    return shrinking.best


class _Shrinking:
    """The shortest story so far."""

    def __init__(self, law: str, outcome: Outcome, tell: Callable[[str], None]) -> None:
        self._law = law
        self._tell = tell
        self._size: tuple[int, ...] = ()
        self.best = outcome
        self.tries = 0

    def goes_on(self) -> bool:
        """Tell whether the last round through everything made the story shorter."""
        before, self._size = self._size, _size(self.best.story)
        return self._size != before

    def _accepts(self, story: Story, what: str) -> bool:
        """Live a story, and keep it if it breaks the same law."""
        if story == self.best.story:
            return False
        self.tries += 1
        outcome = live(story, keeps_log=True)
        if self._law not in outcome.laws:
            return False
        self.best = outcome
        self._tell(what)
        return True

    def cut_off_faults(self) -> None:
        """Leave out what happens after the law is broken."""
        story = self.best.story
        early = tuple(fault for fault in story.faults if fault.at <= self.best.seconds)
        if len(early) < len(story.faults):
            self._accepts(replace(story, faults=early), f"{len(early)} faults before it breaks")

    def leave_out(self, field: str, *, least: int = 0) -> None:
        """Leave out as many entries of a field as the law lets, in ever smaller pieces."""
        size = max(1, len(getattr(self.best.story, field)) // 2)
        while size:
            at = 0
            while at < len(held := getattr(self.best.story, field)):
                left = held[:at] + held[at + size :]
                shorter = replace(self.best.story, **{field: left})
                if len(left) < least or not self._accepts(shorter, f"{field}: {len(left)}"):
                    at += size
            size //= 2

    def calm_down(self) -> None:
        """Take away what goes wrong all the time, one thing after the other."""
        calm = Weather()
        for name in Weather.__struct_fields__:
            weather = replace(self.best.story.weather, **{name: getattr(calm, name)})
            self._accepts(replace(self.best.story, weather=weather), f"no {name}")

    def simplify(self) -> None:
        """Take away what is peculiar to the story and its devices."""
        for changes in _simpler(self.best.story):
            self._accepts(replace(self.best.story, **changes), f"plain {', '.join(changes)}")


def _simpler(story: Story) -> Iterator[dict[str, object]]:
    plain = Story(0, ())
    for name in (
        "drifting",
        "own_baselines",
        "outbox_bytes",
        "shadow",
        "ramp",
        "windows",
        "terms",
        "recorder",
        "stages",
    ):
        yield {name: getattr(plain, name)}
    yield {
        "fleet": tuple(replace(member, offset=0.0, skew=0.0, rate=80.0, zone="UTC") for member in story.fleet)
    }
    yield {"fleet": story.first}
    for name in Terms.__struct_fields__:
        yield {"terms": replace(story.terms, **{name: getattr(plain.terms, name)})}
    yield {"faults": tuple(replace(fault, again=0) for fault in story.faults)}


def _size(story: Story) -> tuple[int, ...]:
    weather = sum(getattr(story.weather, name) != 0 for name in Weather.__struct_fields__)
    oddities = sum(
        bool(value)
        for value in (
            story.drifting,
            story.shadow,
            story.ramp,
            story.windows,
            story.recorder,
            story.own_baselines,
            *(getattr(story.terms, name) for name in Terms.__struct_fields__),
        )
    )
    again = sum(bool(fault.again) for fault in story.faults)
    return len(story.faults), len(story.versions), len(story.fleet), weather, oddities, again

"""What the detectors of labels said, round by round, computed again from the stored ledger. Pure.

The controller's loop judges all that has been pushed whenever it ticks; a replay judges one push after the
other, by the same functions. So an alarm's time may differ by one tick, and where several pushes came within
one, or one was too large to be judged at once, the evidence that raised it may differ as well.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from muster_controller.domain.labels.detector import (
    DEVICE,
    FLEET,
    GROUP,
    NEW,
    Fall,
    Level,
    Round,
    State,
    Subjects,
    subjects_of,
    sums_of,
    watch,
)
from muster_controller.domain.labels.falls import Terms, bound_of, follow


@dataclass(frozen=True)
class Push:
    """What somebody said about some windows at once.

    Attributes:
        at: When it came, Unix seconds.
    """

    at: float
    actor: str
    rounds: Sequence[Round]


@dataclass(frozen=True)
class Asked:
    """Whose evidence is asked for."""

    level: Level
    subject: str


@dataclass(frozen=True)
class Step:
    """What was known after one round in which the subject was heard of.

    Attributes:
        at, actor: When the labels came and who pushed them; Unix seconds.
        end: Of the window that they are about, Unix seconds.
        devices: Devices of the subject that the round says something about.
        n, bad: Labels of these, and how many were wrong, or the sum of the sizes of errors.
        value, bound: Logarithms of the subject's detector, and of what one has to reach.
        who, highest: Whose detector is highest, of the subject and its devices in this round, and how high:
            one device may raise the alarm about all that are worse with it.
        rate: Share of wrong answers, or mean error, of the subject of late.
        state: ``quiet``, ``firing`` or ``resolved``: of an alarm about the subject.
    """

    at: float
    actor: str
    end: float
    devices: int
    n: int
    bad: float
    value: float
    bound: float
    who: str
    highest: float
    rate: float
    state: str


@dataclass(frozen=True)
class Told:
    """What a replay found: round by round, and every alarm about the subject as it was last."""

    steps: tuple[Step, ...]
    falls: tuple[Fall, ...]


def replay(pushes: Iterable[Push], terms: Terms, asked: Asked) -> Told:
    """Judge labels again, one push after the other, in the order in which they came."""
    state, steps, falls = NEW, list[Step](), dict[float, Fall]()
    for push in pushes:
        before = "firing" if _about(state.falls, asked) else "quiet"
        fresh = [_step(push, one, terms, asked, subjects) for one, subjects in _watched(state, push, terms)]
        state, ended = follow(state, push.rounds, terms, now=push.at)
        standing, over = _about(state.falls, asked), _about(ended, asked)
        falls |= {fall.since: fall for fall in (*over, *standing)}
        after = "firing" if standing else "resolved" if over else "quiet"
        # Alarms are opened and closed when all rounds of a push are known.
        told = [replace(step, state=before) for step in fresh if step is not None]
        steps += [*told[:-1], *(replace(step, state=after) for step in told[-1:])]
    return Told(tuple(steps), tuple(falls.values()))


def _about(falls: Iterable[Fall], asked: Asked) -> list[Fall]:
    return [fall for fall in falls if (fall.level, fall.subject) == (asked.level, asked.subject)]


def _watched(state: State, push: Push, terms: Terms) -> Iterator[tuple[Round, Subjects]]:
    """Yield the rounds of a push in the order in which they are judged, each with what is known then."""
    subjects = subjects_of(state)
    for one in sorted(push.rounds, key=lambda one: one.end):
        subjects = watch(subjects, one, terms.promise, terms.groups)
        yield one, subjects


def _step(push: Push, one: Round, terms: Terms, asked: Asked, subjects: Subjects) -> Step | None:
    heard = [name for name in one.devices if _is_member(name, terms, asked)]
    n, bad, _ = sums_of([one.devices[name] for name in heard], terms.promise) if heard else (0.0, 0.0, 0.0)
    if n <= 0:
        return None
    own = subjects[asked.level, asked.subject]
    detectors = [(own.value, asked.subject), *((subjects[DEVICE, name].value, name) for name in heard)]
    highest, who = max(detectors, key=lambda detector: detector[0])
    return Step(
        at=push.at,
        actor=push.actor,
        end=one.end,
        devices=len(heard),
        n=round(n),
        bad=bad,
        value=own.value,
        bound=bound_of(subjects, terms),
        who=who,
        highest=highest,
        rate=own.rate,
        state="quiet",
    )


def _is_member(device: str, terms: Terms, asked: Asked) -> bool:
    if asked.level == FLEET:
        return True
    if asked.level == GROUP:
        return asked.subject in terms.groups.get(device, ())
    return device == asked.subject

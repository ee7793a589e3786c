"""Applications that learn the truth about their predictions, late, and push it to the controller.

Half of them keep the ids of predictions and push one label each; the others count, and push a confusion for
each window. What has become known is pushed together, again until the controller has taken it, and sometimes
once more, because its answer was lost. Now and then the truth was wrong, and is corrected later.
"""

import functools
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from muster_models.prediction_id import VERSION_DIGITS, ClassAnswer, PredictionId
from simulation.story import Story
from simulation.versions import CLASSES, MODEL, Array, Version
from simulation.world import World

NAMED, COUNTED = 25, 200  # labels of a window, of applications that keep ids and of those that count
EXPORT_SECONDS = 15.0  # between two pushes of everything that has become known
AGAIN = 0.2  # share of the pushes that are made a second time
WRONG = 0.1  # of windows whose truth is corrected later

# Takes the bytes of a push; tells whether it was taken.
Push = Callable[[bytes], bool]
Pair = tuple[int, int]  # the class that was predicted, the class that was true


@dataclass(frozen=True)
class Window:
    """Predictions of one window; ``start`` and ``end`` are Unix seconds by the device's clock."""

    device: str
    version: Version
    start: float
    end: float


@dataclass(eq=False)
class _Known:
    """What is known of a window's predictions.

    Attributes:
        confidences: Of the pairs.
        told: How many wrong ones were pushed; None for nothing yet.
    """

    window: Window
    pairs: list[Pair]
    confidences: list[float]
    told: int | None = None

    @property
    def wrong(self) -> int:
        """How many answers are wrong."""
        return sum(predicted != true for predicted, true in self.pairs)


@dataclass(frozen=True)
class Given:
    """Labels that were pushed.

    Attributes:
        end: Of the window that they are about, Unix seconds by the device's clock.
        at: When they were pushed for the first time, whether or not they were taken, Unix seconds.
    """

    device: str
    digest: str
    end: float
    n: int
    at: float


@dataclass
class Truth:
    """What was pushed, for whoever looks at what is stored.

    Attributes:
        labels, wrong: By device and digest, as they should be once everything was taken.
        given: In the order in which it was pushed.
    """

    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: Counter[tuple[str, str]] = field(default_factory=Counter)
    given: list[Given] = field(default_factory=list)


class Labelling:
    """The applications of a fleet, where a story has labels.

    Attributes:
        truth: What was pushed.
        waiting: Windows whose truth is still to come, or to be taken.
    """

    def __init__(self, world: World, story: Story, push: Push) -> None:
        self._world = world
        self._delay = story.terms.labels
        self._push = push
        self._luck = world.stream("truth")
        self._counting = {member.name for member in story.fleet[::2]}
        self._ready: list[_Known] = []
        self._sent: list[_Known] = []  # and not known to be taken
        self.truth = Truth()
        self.waiting = 0
        if self._delay:
            world.every(EXPORT_SECONDS, self._export)

    def saw(self, window: Window, rows: Array) -> None:
        """Remember what a version answered to calls; its truth becomes known some time later."""
        if not self._delay or window.start >= window.end:  # a clock may have been set back
            return
        most = COUNTED if window.device in self._counting else NAMED
        answered = [(int(of), sure) for sure, of in rows[:most, 2:].tolist() if not math.isnan(of)]
        if not answered:
            return
        pairs = [(of, self._true(of, window.version)) for of, _ in answered]
        self.waiting += 1
        known = _Known(window, pairs, [sure for _, sure in answered])
        self._later(lambda: self._ready.append(known))

    def _true(self, predicted: int, version: Version) -> int:
        is_right = self._luck.random() < version.accuracy
        return predicted if is_right else (predicted + self._luck.randrange(1, CLASSES)) % CLASSES

    def _later(self, action: Callable[[], None]) -> None:
        self._world.after(self._delay * self._luck.uniform(0.5, 1.5), action)

    def _export(self) -> None:
        """Push what has become known; what nobody took is pushed again, alone and as it was."""
        if not self._sent:
            self._sent, self._ready = self._ready, []
            for known in self._sent:
                self._note(known)
        if not self._sent:
            return
        body = "\n".join(line for known in self._sent for line in self._lines(known)).encode()
        if not self._push(body):
            return
        if self._luck.random() < AGAIN:
            self._push(body)
        taken, self._sent = self._sent, []
        for known in taken:
            if self._luck.random() < WRONG:
                self._later(functools.partial(self._correct, known))
            else:
                self.waiting -= 1

    def _note(self, known: _Known) -> None:
        """Note what is pushed."""
        window, n, name = known.window, len(known.pairs), (known.window.device, known.window.version.digest)
        if known.told is None:
            self.truth.given.append(Given(*name, window.end, n, self._world.now))
            self.truth.labels[name] += n
        self.truth.wrong[name] += known.wrong - (known.told or 0)
        known.told = known.wrong

    def _correct(self, known: _Known) -> None:
        """Learn that the truth about one prediction is another one."""
        predicted, true = known.pairs[0]
        known.pairs[0] = predicted, (true + 1) % CLASSES
        self._ready.append(known)

    def _lines(self, known: _Known) -> list[str]:
        window = known.window
        if window.device in self._counting:
            return [json.dumps(_counts(known))]
        answers = zip(known.pairs, known.confidences, strict=True)
        return [
            json.dumps({"id": _name(window, number, ClassAnswer(predicted, sure)), "label": true})
            for number, ((predicted, true), sure) in enumerate(answers)
        ]


def _counts(known: _Known) -> dict[str, object]:
    window, confusion = known.window, dict[str, dict[str, int]]()
    for (predicted, true), n in sorted(Counter(known.pairs).items()):
        confusion.setdefault(str(predicted), {})[str(true)] = n
    return {
        "device": window.device,
        "model": MODEL,
        "version": window.version.name,
        "start": window.start,
        "end": window.end,
        "confusion": confusion,
    }


def _name(window: Window, number: int, answer: ClassAnswer) -> str:
    digits = window.version.digest[:VERSION_DIGITS]
    return PredictionId(MODEL, window.device, digits, int(1000 * window.start), number, answer).encode()

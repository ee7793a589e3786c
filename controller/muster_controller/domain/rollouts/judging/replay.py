"""A rollout's evidence computed again from what is stored: anyone can check what a verdict rests on.

What a ledger says follows from the plan, the windows and labels in the order in which they came, and its
journal, which says after which of them rounds were closed, who was compared, the control's level was fixed,
and a stage began. It does not follow from how often anybody looked. Each verdict follows from the ledger at
that point, from crashes, and from the look that was recorded with it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from muster_controller.domain.facts import LabelFacts, Observed, WindowFacts
from muster_controller.domain.rollouts.judging.evidence import Look
from muster_controller.domain.rollouts.judging.ledger import Entry, Ledger, Trial, begin_stage, freeze
from muster_controller.domain.rollouts.judging.rounds import take_in
from muster_controller.domain.rollouts.planning.plan import Plan

Fact = TypeVar("Fact")
Numbered = Iterable[tuple[int, WindowFacts]]
NumberedLabels = Iterable[tuple[int, LabelFacts]]
CLOSE = 1e-6  # relative, of logarithms of evidence: sums of floats in another order


@dataclass(frozen=True)
class Inputs:
    """What is stored of a rollout, besides plan and journal.

    Attributes:
        windows, labels: With their numbers, in order; those that a rollout ignores may be left out.
        started: When the rollout began, Unix seconds.
        reliability: By version, where the plan asks for an estimate.
    """

    windows: Numbered
    started: float
    labels: NumberedLabels = ()
    reliability: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """The ledger once something was done to it.

    Attributes:
        done: An entry of the journal, or the index of the look that was taken.
        stages: How many had begun.
    """

    done: Entry | int
    ledger: Ledger
    stages: int


def replay(plan: Plan, stored: Ledger, inputs: Inputs) -> Ledger:
    """Return the ledger that the stored windows and labels lead to, by the journal of ``stored``."""
    return deque(course(plan, stored, inputs), maxlen=1)[0].ledger


def course(plan: Plan, stored: Ledger, inputs: Inputs, looks: Sequence[Look] = ()) -> Iterator[Point]:
    """Yield the ledger after each entry of a journal, at each look, and with all that was taken in at last.

    Args:
        stored: Of which only the journal is used, and what was taken in since its last entry.
        looks: In order.
    """
    past = _Past(plan, inputs)
    waiting = deque(enumerate(looks))
    last = Entry("round", stored.closed, stored.upto, stored.labels_upto)
    for number, entry in enumerate((*stored.journal, last)):
        while waiting and waiting[0][1].entries <= number:
            index, look = waiting.popleft()
            past.read(past.ledger.closed, look.upto, look.labels_upto)
            yield Point(index, past.ledger, past.stages)
        past.do(entry)
        yield Point(entry, past.ledger, past.stages)
    for index, look in waiting:
        past.read(past.ledger.closed, look.upto, look.labels_upto)
        yield Point(index, past.ledger, past.stages)


class _Past:
    """A ledger that is made again, entry by entry."""

    def __init__(self, plan: Plan, inputs: Inputs) -> None:
        self.ledger = Ledger()
        self.stages = 0
        self._plan, self._inputs = plan, inputs
        self._arms: dict[str, int] = {}
        self._windows, self._labels = _Feed(inputs.windows), _Feed(inputs.labels)

    def do(self, entry: Entry) -> None:
        """Take in what had come, and do what was done."""
        self.read(entry.current, entry.upto, entry.labels_upto)
        if entry.kind == "freeze":
            self.ledger = freeze(self.ledger)
        elif entry.kind == "stage":
            self.ledger = begin_stage(self.ledger)
            self.stages += 1
        elif entry.kind == "cast":
            arms = self._arms | entry.arms
            self._arms = {device: arm for device, arm in arms.items() if arm is not None}

    def read(self, current: int, upto: int, labels_upto: int) -> None:
        """Take in windows and labels up to their numbers, while a round was running."""
        self.ledger = take_in(
            self._plan,
            self.ledger,
            self._windows.upto(upto),
            arms=self._arms,
            started=self._inputs.started,
            now=(current + 0.5) * self._plan.round_seconds,
            observed=Observed(
                labels=self._labels.upto(labels_upto),
                labels_upto=labels_upto,
                reliability=self._inputs.reliability,
            ),
            upto=upto,
        )


class _Feed(Generic[Fact]):
    """What came, in order, each once."""

    def __init__(self, numbered: Iterable[tuple[int, Fact]]) -> None:
        self._rest = iter(numbered)
        self._next = next(self._rest, None)

    def upto(self, number: int) -> list[Fact]:
        """Return what has a number up to this one, and was not returned before."""
        found = []
        while self._next is not None and self._next[0] <= number:
            found.append(self._next[1])
            self._next = next(self._rest, None)
        return found


def differences(stored: Ledger, again: Ledger) -> tuple[str, ...]:
    """Return what of the evidence is not the same in two ledgers, in words; empty when all of it is."""
    found = [] if stored.rounds == again.rounds else [f"rounds: {stored.rounds}, again {again.rounds}"]
    for gauge in sorted(stored.trials.keys() | again.trials.keys()):
        sides = stored.trials.get(gauge, ()), again.trials.get(gauge, ())
        if len(sides[0]) != len(sides[1]):
            found.append(f"{gauge}: compared in {len(sides[0])} directions, again in {len(sides[1])}")
        found += [
            f"{gauge}: effect {one.effect:+.6g} over {one.rounds} rounds, again {other.effect:+.6g} over "
            f"{other.rounds}"
            for one, other in zip(*sides, strict=False)
            if not _alike(one, other)
        ]
    return tuple(found)


def _alike(one: Trial, other: Trial) -> bool:
    return one.rounds == other.rounds and bool(
        np.allclose(one.harm, other.harm, rtol=CLOSE, atol=CLOSE)
        and np.allclose(one.assurance, other.assurance, rtol=CLOSE, atol=CLOSE)
    )

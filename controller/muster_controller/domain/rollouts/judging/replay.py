"""A rollout's evidence computed again from what is stored: anyone can check what a verdict rests on.

What a ledger says follows from the plan, the arms, the windows and labels in the order in which they came,
and its journal, which says after which of them rounds were closed, the control's level was fixed, and a stage
began. It does not follow from how often anybody looked. Exact for a cohort that nobody joined or left; a
device that joined later is taken for one that was there from the beginning.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from muster_controller.domain.facts import LabelFacts, Observed, WindowFacts
from muster_controller.domain.rollouts.judging.ledger import Entry, Ledger, Trial, begin_stage, freeze
from muster_controller.domain.rollouts.judging.rounds import take_in
from muster_controller.domain.rollouts.planning.plan import Plan

Fact = TypeVar("Fact")
Numbered = Sequence[tuple[int, WindowFacts]]
NumberedLabels = Sequence[tuple[int, LabelFacts]]
CLOSE = 1e-6  # relative, of logarithms of evidence: sums of floats in another order


@dataclass(frozen=True)
class Inputs:
    """What is stored of a rollout, besides plan and journal.

    Attributes:
        windows, labels: With their numbers, in order; those that a rollout ignores may be left out.
        arms: Of the witnesses.
        started: When the rollout began, Unix seconds.
        reliability: By version, where the plan asks for an estimate.
    """

    windows: Numbered
    arms: Mapping[str, int]
    started: float
    labels: NumberedLabels = ()
    reliability: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)


def replay(plan: Plan, stored: Ledger, inputs: Inputs) -> Ledger:
    """Return the ledger that the stored windows and labels lead to, by the journal of ``stored``."""
    return deque(course(plan, stored, inputs), maxlen=1)[0][1]


def course(plan: Plan, stored: Ledger, inputs: Inputs) -> Iterator[tuple[Entry, Ledger]]:
    """Yield the ledger after each entry of a journal, and after what was taken in since the last one.

    Args:
        stored: Of which only the journal is used, and what was taken in since its last entry.
    """
    ledger = Ledger()
    last = Entry("round", stored.closed, stored.upto, stored.labels_upto)
    for entry in (*stored.journal, last):
        ledger = take_in(
            plan,
            ledger,
            _between(inputs.windows, ledger.upto, entry.upto),
            arms=inputs.arms,
            started=inputs.started,
            now=(entry.current + 0.5) * plan.round_seconds,
            observed=Observed(
                labels=_between(inputs.labels, ledger.labels_upto, entry.labels_upto),
                labels_upto=entry.labels_upto,
                reliability=inputs.reliability,
            ),
            upto=entry.upto,
        )
        if entry.kind == "freeze":
            ledger = freeze(ledger)
        elif entry.kind == "stage":
            ledger = begin_stage(ledger)
        yield entry, ledger


def _between(numbered: Sequence[tuple[int, Fact]], after: int, upto: int) -> list[Fact]:
    """Return what has a number above ``after``, up to ``upto``."""
    first = bisect_right(numbered, after, key=lambda pair: pair[0])
    last = bisect_right(numbered, upto, key=lambda pair: pair[0])
    return [fact for _, fact in numbered[first:last]]


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

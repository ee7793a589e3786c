"""What another method may look at after each window, and what it may answer."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from muster_models.wire import LATENCY_EDGES_MS
from rollouts.fleet import MOMENTS, Array, Counts, baseline


class Word(StrEnum):
    """What a method says about the present stage."""

    STOP = "stop"
    GO = "go"  # to the next stage
    WAIT = "wait"


@dataclass(frozen=True)
class Arm:
    """The devices of one side in one window, together.

    Attributes:
        values: Predictions per bin of the baseline.
        latency: Calls per bin of ``LATENCY_EDGES_MS``.
        chance: Of how rows and failed calls fall into the moments of the window.
    """

    calls: int
    errors: int
    values: Counts
    latency: Counts
    chance: Callable[[], np.random.Generator]

    @property
    def failing(self) -> float:
        """The share of failed calls."""
        return self.errors / self.calls

    @property
    def mean(self) -> float:
        """The mean prediction, read from the middles of the bins."""
        held = self.values[: len(_middles())]
        return float(held @ _middles()) / float(held.sum())

    def moments(self) -> tuple[Array, Array]:
        """Return the mean prediction and the share of failed calls of ``MOMENTS`` parts of the window."""
        chance = self.chance()
        held = chance.permutation(np.repeat(_middles(), self.values[: len(_middles())]))
        means = np.array([part.mean() for part in np.array_split(held, MOMENTS) if len(part)])
        calls = np.full(MOMENTS, self.calls // MOMENTS)
        calls[: self.calls % MOMENTS] += 1
        errors = chance.multivariate_hypergeometric(calls, self.errors)
        return means, np.asarray(errors[calls > 0] / calls[calls > 0])

    def slow(self, share: float) -> float:
        """Return the upper edge, in milliseconds, of the bin in which a quantile of the calls lies."""
        upto = np.cumsum(self.latency) / self.latency.sum()
        edges = [*LATENCY_EDGES_MS, float("inf")]
        return float(edges[int(np.searchsorted(upto, share))])


@functools.cache
def _middles() -> NDArray[np.float64]:
    """Return one prediction for each ordinary bin; the open ones count as their edge."""
    edges = baseline().columns[0].edge_array()
    return np.concatenate([[edges[0]], (edges[1:] + edges[:-1]) / 2, [edges[-1]]])


@dataclass(frozen=True)
class Look:
    """The end of one window.

    Attributes:
        canary: Of devices that run the version; None when nothing was heard of them.
        control: Of devices that are kept on the previous one; None likewise.
        group: Devices of the present stage, and of them those that ``failed`` and that have ``finished``.
        given: Devices of all stages so far, and of them those that ``failed_of_given``.
    """

    canary: Arm | None
    control: Arm | None
    group: int
    failed: int
    finished: int
    given: int
    failed_of_given: int


Judge = Callable[[Sequence[Look], int], Word]


@dataclass(frozen=True)
class Peer:
    """A method beside ours.

    Attributes:
        rule: In one sentence.
        source: Repository, file and commit, or page, that it restates.
        judge: From the looks since the stage began and the windows that a stage lasts.
        goes_back: It brings devices back by itself.
    """

    name: str
    rule: str
    source: str
    judge: Judge
    goes_back: bool

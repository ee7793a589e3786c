"""Concept drift: labelled predictions of one version are worse than what was signed for it.

A promise comes with the version: the accuracy, or the mean error, that was measured on its evaluation set.
What does not matter is taken off it, and so is the evaluation set's own error. Whether labels are worse than
that is asked by Shiryaev-Roberts e-detectors (see ``domain.sequential``) of every device, of every group and
of the fleet, from the same counts:

- Classes: bets that a label is wrong more often, as binomial likelihood ratios. Exact where every label is
  wrong with at most the allowed probability, whatever came before.
- Values: bets on the standardised mean of at least 30 errors; approximate, because the variance is estimated.

A round is what one push says about one window. Without concept drift the first false alarm of a version comes
after ``run_length`` rounds on average or later, over all its subjects together.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muster_controller.domain.drift.groups import Groups
from muster_controller.domain.labels.counts import Counts
from muster_models.errors import SketchError
from muster_models.manifest import ClassOutput, Manifest

Array = NDArray[np.float64]
FORMAT = 1
MINIMUM = 30  # errors in a mean that is bet on
MEMORY = 200.0  # labels after which what was seen counts for a third: what "now" means
# How far between what is allowed and always wrong a bet lies; how large it is on a mean.
_RATES = np.array([0.05, 0.1, 0.2, 0.4, 0.7])
_SIZES = np.array([0.25, 0.5, 1.0])
_CLIP = 6.0
Level = Literal["device", "group", "fleet"]
DEVICE: Level = "device"
GROUP: Level = "group"
FLEET: Level = "fleet"
ALL = "all"


@dataclass(frozen=True)
class Promise:
    """What a version was signed with, and what is still within it.

    Attributes:
        metric: ``accuracy`` or ``mae``.
        signed: As measured at publishing.
        allowed: The share of wrong answers, or the mean error, that raises no alarm.
    """

    metric: str
    signed: float
    allowed: float

    @property
    def is_share(self) -> bool:
        """Whether it is about right and wrong."""
        return self.metric == "accuracy"

    def said(self, badness: float) -> float:
        """Return a share of wrong answers, or a mean error, as the metric says it."""
        return 1 - badness if self.is_share else badness


def promise_of(manifest: Manifest, *, accuracy_tolerance: float, error_tolerance: float) -> Promise | None:
    """Return what a version promises; None where its metrics do not say.

    Args:
        manifest: Of the version.
        accuracy_tolerance: What may be lost of the accuracy, 0..1.
        error_tolerance: By which share of itself the mean error may grow.
    """
    rows = max([entry.rows for entry in manifest.datasets if entry.role == "evaluation"], default=1)
    metrics = manifest.metrics
    if isinstance(manifest.prediction, ClassOutput):
        signed = metrics.get("accuracy")
        if signed is None:
            return None
        # One row more of each kind, so that a perfect evaluation is not taken for a perfect model.
        wrong = ((1 - signed) * rows + 1) / (rows + 2)
        doubt = math.sqrt(wrong * (1 - wrong) / rows)
        return Promise("accuracy", signed, min(0.95, 1 - signed + accuracy_tolerance + doubt))
    signed = metrics.get("mae")
    if signed is None:
        return None
    doubt = math.sqrt(max(0.0, metrics.get("rmse", signed) ** 2 - signed**2) / rows)
    return Promise("mae", signed, signed * (1 + error_tolerance) + doubt)


class Seen(Struct, frozen=True):
    """What is remembered of one subject.

    Attributes:
        logs: Logarithm of R, by bet.
        n, bad, square: Of late, older labels counting less: labels, wrong ones or sum of errors, squares.
        quiet: End of the last window after which R was small, Unix seconds: no drift began before it.
        waiting: Labels, sum and squares of a round that was too small to be tested.
    """

    logs: tuple[float, ...]
    n: float = 0.0
    bad: float = 0.0
    square: float = 0.0
    quiet: float = 0.0
    waiting: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def rate(self) -> float:
        """Share of wrong answers, or mean error, of late."""
        return self.bad / self.n if self.n else 0.0

    @property
    def noise(self) -> float:
        """Standard error of ``rate``."""
        if self.n <= 1:
            return math.inf
        return math.sqrt(max(self.square / self.n - self.rate**2, 1e-12) / self.n)

    @property
    def value(self) -> float:
        """Logarithm of the detector."""
        return _log_mean(np.array(self.logs))


@dataclass(frozen=True)
class Round:
    """What one push says about one window.

    Attributes:
        end: Of the window, Unix seconds.
        devices: Counts by device.
    """

    end: float
    devices: Mapping[str, Counts]


Subjects = dict[tuple[Level, str], Seen]


def watch(subjects: Subjects, one: Round, promise: Promise, groups: Groups) -> Subjects:
    """Return every subject after one more round.

    Args:
        subjects: By level and name.
        one: The round.
        promise: Of the version.
        groups: Names of the groups that each device belongs to, such as ``site=berlin``.
    """
    heard: dict[tuple[Level, str], list[Counts]] = {}
    for device, counts in one.devices.items():
        for name in ((DEVICE, device), *((GROUP, group) for group in groups.get(device, ())), (FLEET, ALL)):
            heard.setdefault(name, []).append(counts)
    fresh = Seen((-math.inf,) * len(_RATES if promise.is_share else _SIZES), quiet=one.end)
    return subjects | {
        name: _seen(subjects.get(name, fresh), held, promise, one.end) for name, held in heard.items()
    }


def _seen(seen: Seen, held: Iterable[Counts], promise: Promise, end: float) -> Seen:
    n, bad, square = sums_of(held, promise)
    if n <= 0:
        return seen
    kept = math.exp(-n / MEMORY)
    seen = msgspec.structs.replace(
        seen, n=seen.n * kept + n, bad=seen.bad * kept + bad, square=seen.square * kept + square
    )
    if promise.is_share:
        gain = _bet_share(n, bad, promise.allowed)
    else:
        n, bad, square = (a + b for a, b in zip(seen.waiting, (n, bad, square), strict=True))
        if n < MINIMUM:
            return msgspec.structs.replace(seen, waiting=(n, bad, square))
        seen = msgspec.structs.replace(seen, waiting=(0.0, 0.0, 0.0))
        gain = _bet_mean(n, bad, square, promise.allowed)
    logs = np.logaddexp(0.0, np.array(seen.logs)) + gain
    quiet = end if _log_mean(logs) <= 0 else seen.quiet
    return msgspec.structs.replace(seen, logs=tuple(logs.tolist()), quiet=quiet)


def sums_of(held: Iterable[Counts], promise: Promise) -> tuple[float, float, float]:
    """Return how many labels there are, how many are wrong or the sum of errors, and of their squares."""
    sums = [
        (float(c.n), float(c.wrong), float(c.wrong))
        if promise.is_share
        else (float(c.n), c.absolute, c.square)
        for c in held
    ]
    n, bad, square = (sum(column) for column in zip(*sums, strict=True))
    return n, bad, square


def _bet_share(n: float, wrong: float, allowed: float) -> Array:
    more = allowed + (1 - allowed) * _RATES
    gain = wrong * np.log(more / allowed) + (n - wrong) * np.log((1 - more) / (1 - allowed))
    return np.asarray(gain)


def _bet_mean(n: float, total: float, square: float, allowed: float) -> Array:
    deviation = math.sqrt(max(square / n - (total / n) ** 2, 1e-12 * allowed**2))
    z = min(_CLIP, (total / n - allowed) / deviation * math.sqrt(n))
    return np.asarray(_SIZES * z - _SIZES**2 / 2)


def _log_mean(logs: Array) -> float:
    return float(np.logaddexp.reduce(logs)) - math.log(len(logs))


class Fall(Struct, frozen=True):
    """An alarm that is firing: some devices are worse than was promised.

    Attributes:
        since: When it was noticed; ``began`` is the earliest that it can have begun. Unix seconds.
        calm: Rounds in a row in which its devices kept the promise.
        badness: Share of wrong answers, or mean error, of late.
        value, bound: Logarithms of the detector when it was noticed, and of what it had to reach.
        other: What else was known to be wrong with its devices, which then is the alarm; empty for nothing.
    """

    level: Level
    subject: str
    devices: tuple[str, ...]
    since: float
    began: float
    badness: float
    n: int
    value: float
    bound: float
    calm: int = 0
    other: str = ""


class State(Struct, frozen=True):
    """All that concept drift remembers of one version."""

    format: int
    subjects: dict[Level, dict[str, Seen]]
    falls: tuple[Fall, ...] = ()


NEW = State(FORMAT, {})


def encode(state: State) -> bytes:
    """Return the bytes for the store."""
    return msgspec.msgpack.encode(state)


def decode(data: bytes) -> State:
    """Return the state that ``encode`` made.

    Raises:
        SketchError: Damaged, or of another format.
    """
    try:
        state = msgspec.msgpack.decode(data, type=State)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SketchError(f"state of labels: {error}") from error
    if state.format != FORMAT:
        raise SketchError(f"expected a state of labels of format {FORMAT}, got {state.format}")
    return state


def subjects_of(state: State) -> Subjects:
    """Return every subject by level and name."""
    return {(level, name): seen for level, held in state.subjects.items() for name, seen in held.items()}


def with_subjects(state: State, subjects: Subjects) -> State:
    """Return a state that remembers these subjects."""
    held: dict[Level, dict[str, Seen]] = {}
    for (level, name), seen in subjects.items():
        held.setdefault(level, {})[name] = seen
    return msgspec.structs.replace(state, subjects=held)

"""Which alarms were right: false incidents, share detected, delay; and how sure that is."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

CONFIDENCE = 1.96  # standard deviations: 95 %


@dataclass(frozen=True)
class Alarm:
    """One incident that a method reported.

    Attributes:
        window: Window that it was reported at, from the first that is judged.
        level: ``device``, ``group`` or ``fleet``.
        devices: Whom it is about.
        columns: What moved, as the method says.
    """

    window: int
    level: str
    devices: frozenset[int]
    columns: frozenset[int]


@dataclass(frozen=True)
class Truth:
    """What was planted: the level at which it is to be told, who, what, and since which window."""

    level: str
    devices: frozenset[int] = frozenset()
    columns: frozenset[int] = frozenset()
    onset: int = 0


@dataclass(frozen=True)
class Score:
    """How one run of a method was judged.

    Attributes:
        false: Incidents about what did not drift, or with a scope that is not the cause's.
        true: Incidents that name a cause at its level.
        parts: Incidents about a part of the cause: a device of a site that drifted as a whole.
        subjects: How many incidents would have told everything.
        delays: Windows of drift that had been seen when the first true incident was reported, by subject.
        flagged: Feature-windows that a method flagged and should not have; None for one that has incidents.
    """

    feature_windows: int
    false: int
    true: int
    parts: int
    subjects: int
    delays: tuple[int, ...] = ()
    flagged: int | None = None


def judge(alarms: Sequence[Alarm], truth: Truth, *, feature_windows: int) -> Score:
    """Compare what was reported with what was planted.

    An incident is true when it came at or after the onset, names a drifted column, is at the cause's level
    and about its devices only; for drift of single devices one incident each, or one for all together.
    """
    false = true = parts = 0
    found: dict[int, int] = {}
    for alarm in sorted(alarms, key=lambda alarm: alarm.window):
        match _verdict(alarm, truth):
            case "false":
                false += 1
            case "part":
                parts += 1
            case _:
                true += 1
                for subject in _subjects(alarm, truth):
                    found.setdefault(subject, alarm.window - truth.onset + 1)
    subjects = len(truth.devices) if truth.level == "device" else min(1, len(truth.devices))
    return Score(feature_windows, false, true, parts, subjects, tuple(found.values()))


def _verdict(alarm: Alarm, truth: Truth) -> str:
    about_drift = (
        alarm.window >= truth.onset and alarm.devices & truth.devices and alarm.columns & truth.columns
    )
    if not about_drift or not alarm.devices <= truth.devices:
        return "false"
    if truth.level in ("device", alarm.level) or alarm.devices == truth.devices:
        return "true"
    return "part"


def _subjects(alarm: Alarm, truth: Truth) -> Collection[int]:
    return alarm.devices if truth.level == "device" else (0,)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927); (0, 1) of no trials.

    >>> tuple(round(end, 4) for end in wilson(0, 100))
    (0.0, 0.037)
    """
    if trials == 0:
        return 0.0, 1.0
    share, z2 = hits / trials, CONFIDENCE**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = CONFIDENCE / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def poisson(events: int) -> tuple[float, float]:
    """Return the exact 95 % interval of the mean of a count (Garwood, 1936), by bisection.

    >>> tuple(round(end, 3) for end in poisson(0))
    (0.0, 3.689)
    >>> tuple(round(end, 3) for end in poisson(3))
    (0.619, 8.767)
    """
    high = _solve(lambda mean: _at_most(events, mean) - 0.025, events + 10 * math.sqrt(events + 1) + 10)
    if events == 0:
        return 0.0, high
    return _solve(lambda mean: _at_most(events - 1, mean) - 0.975, float(events)), high


def _at_most(events: int, mean: float) -> float:
    return sum(math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(events + 1))


def _solve(falling: Callable[[float], float], high: float) -> float:
    low = 1e-12
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2

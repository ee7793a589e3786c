"""How fast a stage is given its version: when devices may be disturbed, how many a minute, how many bytes.

What a plan says, what a rollout remembers of it, and how much is left; ``admission`` keeps to it.
"""

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from muster_models.errors import RequestError

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Clock = Annotated[str, Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]
FASTEST = 1e9  # devices a minute, whatever the growth
GRAINS = 256  # into which the time that is looked back upon is divided
_MUCH = 100.0  # e to this is beyond any fleet
WEEK: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class MaintenanceWindow(Struct, frozen=True, forbid_unknown_fields=True):
    """When a device may be given a version, by the clock on its wall.

    Attributes:
        days: On which the window begins.
        start: ``HH:MM``; the minute it names is inside.
        end: ``HH:MM`` or ``24:00``, the minute it names is outside; one before ``start`` is of the next day.
    """

    start: Clock
    end: Clock
    days: Annotated[tuple[Day, ...], Meta(max_length=7)] = WEEK


class Ramp(Struct, frozen=True, forbid_unknown_fields=True):
    """How many devices a minute are given the version.

    Attributes:
        per_minute: At most; a rate below 1 is one device in more than a minute.
        growth: The rate is multiplied by this each time ``after`` more devices run the version; a failure
            brings it back to ``per_minute``.
        after: Devices; 0: the rate stays.
    """

    per_minute: Annotated[float, Meta(gt=0, le=1e6)]
    growth: Annotated[float, Meta(ge=1, le=100)] = 1.0
    after: Annotated[int, Meta(ge=0)] = 0


class ByteBudget(Struct, frozen=True, forbid_unknown_fields=True):
    """What the fleet as a whole may download of the version.

    Attributes:
        bytes: At most, in any ``seconds`` on end; a device counts with all files of the version.
    """

    bytes: Annotated[int, Meta(ge=1)]
    seconds: Annotated[float, Meta(gt=0, le=1e8)]


def check_windows(windows: tuple[MaintenanceWindow, ...]) -> None:
    """Refuse windows that never open.

    Raises:
        RequestError: One has no day, names one twice, or ends when it begins.
    """
    for number, window in enumerate(windows, start=1):
        if not window.days:
            raise RequestError(
                f"plan: windows[{number}].days must name a day at least, such as [{WEEK[0]}], got none"
            )
        if len(set(window.days)) < len(window.days):
            raise RequestError(
                f"plan: windows[{number}].days must name each day once, got {', '.join(window.days)}"
            )
        if window.start == window.end:
            raise RequestError(
                f"plan: windows[{number}] never opens: start and end are both {window.start}, expected two"
                " different times HH:MM"
            )


def check_ramp(ramp: Ramp) -> None:
    """Refuse a ramp that says half of what it takes to grow.

    Raises:
        RequestError: ``growth`` without ``after``, or the other way round.
    """
    if (ramp.growth > 1) != (ramp.after > 0):
        raise RequestError(
            "plan: ramp.growth above 1 and ramp.after above 0 belong together,"
            f" got growth {ramp.growth:g} and after {ramp.after}"
        )


class Gift(Struct, frozen=True, array_like=True):
    """Devices that were given the version, at about the same time.

    Attributes:
        since, until: Unix seconds of the first and of the last of them.
    """

    since: float
    until: float
    devices: int


class Pace(Struct, frozen=True):
    """What a rollout remembers of its speed.

    Attributes:
        gifts: As far back as the plan's rate and budget look, oldest first.
        grown_from: Devices that ran the version when the rate was last ``per_minute``.
    """

    gifts: tuple[Gift, ...] = ()
    grown_from: int = 0


def after_failure(pace: Pace, running: int) -> Pace:
    """Return the pace with the rate back at where it began."""
    return pace if pace.grown_from == running else replace(pace, grown_from=running)


def rate_of(ramp: Ramp, pace: Pace, running: int) -> float:
    """Return how many devices a minute may be given the version, with so many running it."""
    grown = max(0, running - pace.grown_from) // ramp.after if ramp.after else 0
    return min(ramp.per_minute * math.exp(min(grown * math.log(ramp.growth), _MUCH)), FASTEST)


def rate_left(ramp: Ramp | None, pace: Pace, *, running: int, now: float) -> float:
    """Return how many devices the rate allows now."""
    if ramp is None:
        return math.inf
    most, span = _in_span(rate_of(ramp, pace, running))
    return max(0, most - _given(pace, now - span))


def bytes_left(budget: ByteBudget | None, pace: Pace, *, each: int, now: float) -> float:
    """Return how many devices the byte budget allows now, with so many bytes for ``each``."""
    if budget is None or each <= 0:
        return math.inf
    return max(0, budget.bytes // each - _given(pace, now - budget.seconds))


def record(ramp: Ramp | None, budget: ByteBudget | None, pace: Pace, *, devices: int, now: float) -> Pace:
    """Return the pace after so many devices were given the version, as far back as anything looks.

    What was given at about the same time is kept as one, as if all of it had been given at the end: that can
    only make the rollout slower, and bounds what is kept.
    """
    slowest = 60.0 if ramp is None else max(60.0, 60.0 / ramp.per_minute)
    spans = [*([slowest] if ramp is not None else []), *([budget.seconds] if budget is not None else [])]
    if not spans:
        return pace
    kept = [gift for gift in pace.gifts if gift.until > now - max(spans)]
    if devices:
        grain = max(spans) / GRAINS
        if kept and now - kept[-1].since < grain:
            last = kept.pop()
            kept.append(Gift(last.since, now, last.devices + devices))
        else:
            kept.append(Gift(now, now, devices))
    return pace if len(kept) == len(pace.gifts) and not devices else replace(pace, gifts=tuple(kept))


def _in_span(rate: float) -> tuple[int, float]:
    """Return a rate as whole devices, and the seconds in which there may be so many."""
    return (math.floor(rate), 60.0) if rate >= 1 else (1, 60.0 / rate)


def _given(pace: Pace, since: float) -> int:
    return sum(gift.devices for gift in pace.gifts if gift.until > since)

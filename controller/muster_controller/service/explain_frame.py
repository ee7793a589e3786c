"""What every alarm that is computed again has in common: whom it is about, and what is stored otherwise."""

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from muster_controller.store.views.alarms import AlarmView

TICKS = 60.0  # seconds by which the loop may have come later than a replay does
CLOSE = 0.05  # logarithms that differ by less are the same: the sums of 32-bit numbers are


@dataclass(frozen=True, kw_only=True)
class FrameView:
    """An alarm that was computed again.

    Attributes:
        says: The alarm in one sentence.
        complete: All of it was judged that there ever was.
        differences: Between what is stored and what was computed again; empty when both are the same.
    """

    alarm: int
    says: str
    kind: str
    level: str
    subject: str
    devices: tuple[str, ...]
    began: dt.datetime
    complete: bool
    differences: tuple[str, ...]


def frame(alarm: AlarmView, differences: Iterable[str], *, complete: bool) -> dict[str, Any]:
    """Return the fields of ``FrameView`` for an alarm, by name."""
    return {
        "alarm": alarm.id,
        "says": alarm.says,
        "kind": alarm.kind,
        "level": alarm.level,
        "subject": alarm.subject,
        "devices": tuple(alarm.evidence.get("devices", ())),
        "began": moment(float(alarm.evidence.get("began") or alarm.since.timestamp())),
        "complete": complete,
        "differences": tuple(differences),
    }


def unlike(name: str, stored: float, computed: float, *, close: float) -> Iterator[str]:
    """Yield what is said of two numbers, unless they differ by ``close`` or less."""
    if abs(stored - computed) > close:
        yield f"{name}: {stored:.6g} is stored, {computed:.6g} was computed"


def unlike_times(name: str, stored: float | None, computed: float | None) -> Iterator[str]:
    """Yield what is said of two instants (Unix seconds; None for never), unless a tick lies between them."""
    if (stored is None) != (computed is None) or abs((stored or 0.0) - (computed or 0.0)) > TICKS:
        yield f"{name}: {_words(stored)} is stored, {_words(computed)} was computed"


def moment(seconds: float) -> dt.datetime:
    """Return Unix seconds as an instant."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _words(seconds: float | None) -> str:
    return "nothing" if seconds is None else f"{moment(seconds):%Y-%m-%d %H:%M:%S} UTC"

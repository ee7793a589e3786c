"""Which windows are judged: once each, none of them long past or in the future; the others are counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from muster_controller.domain.drift.state import DriftState, Spans
from muster_controller.domain.facts import WindowFacts

Reason = Literal["again", "overlapping", "disordered", "ahead", "stale", "late"]
AHEAD_ROUNDS = 2  # a window may end so far ahead of the controller's clock
SLOP = 0.05  # of a round: windows of one device that overlap by less are neighbours
REMEMBERED = 16  # spans of each device; a window that lies before all of them may have been counted


@dataclass(frozen=True)
class Placed:
    """Windows that are to be judged.

    Attributes:
        spans: Start and end of the newest windows of each device.
        counted: Windows of all times, by reason. Left out: ``again`` (it was there), ``overlapping`` (a part
            of its time was counted), ``disordered`` (older than all that is remembered of the device),
            ``ahead`` (of the controller's clock) and ``stale`` (too long past). Judged in a round of its
            own: ``late``.
    """

    windows: list[WindowFacts]
    spans: Mapping[str, Spans]
    counted: Mapping[str, int]


def place(
    windows: Sequence[WindowFacts], state: DriftState, seconds: float, history: float, *, now: float
) -> Placed:
    """Sort windows out, in the order of their arrival.

    A device measures one thing after the other. A window that covers time which was covered before is the
    same again, or comes of a clock that was set back: adding it up would count rows twice.

    Args:
        seconds: Of a round.
        history: Age in seconds beyond which a window is stale.
    """
    spans, counted = dict(state.spans), dict(state.counted)
    kept: list[WindowFacts] = []
    for window in windows:
        known = spans.get(window.device, ())
        reason = _reason(window, known, seconds, history, now=now)
        if reason is not None:
            counted[reason] = counted.get(reason, 0) + 1
        if reason is None or reason == "late":
            kept.append(window)
            added = (*known, (window.start, window.end))
            if known and window.start < known[-1][0]:
                added = tuple(sorted(added))
            spans[window.device] = added[-REMEMBERED:]
    return Placed(kept, spans, counted)


def _reason(
    window: WindowFacts, known: Spans, seconds: float, history: float, *, now: float
) -> Reason | None:
    if window.end > now + AHEAD_ROUNDS * seconds:
        return "ahead"
    if window.end < now - history:
        return "stale"
    slop = SLOP * seconds
    if known and window.start < known[-1][1] - slop:
        if (window.start, window.end) in known:
            return "again"
        if any(window.start < end - slop and start < window.end - slop for start, end in known):
            return "overlapping"
        if len(known) == REMEMBERED and window.end < known[0][0] + slop:
            return "disordered"
    return "late" if (window.start + window.end) / 2 // seconds < now // seconds - 1 else None

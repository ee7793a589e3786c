"""The clock on the wall of a device: whether its maintenance windows are open, and when the next one opens.

Times of day come from the offset of the device's time zone at this instant, so they are right on both sides
of a change to or from summer time; what lies ahead of such a change is told an hour wrong until it is past.
"""

from collections.abc import Sequence

from muster_controller.domain.rollouts.admitting.pace import WEEK, MaintenanceWindow

_MINUTE, _DAY = 60.0, 86_400.0
_THURSDAY = 3  # the day on which Unix time begins


def is_open(windows: Sequence[MaintenanceWindow], offset: float | None, now: float) -> bool:
    """Tell whether one of the windows is open on a device; without any they always are.

    Args:
        windows: Of the plan.
        offset: Seconds by which the device's wall is ahead of UTC; None when its zone is not known: then
            nobody knows what its wall shows, and no window is open.
        now: Unix seconds.
    """
    if not windows:
        return True
    if offset is None:
        return False
    day, second = divmod(now + offset, _DAY)
    today = (int(day) + _THURSDAY) % 7
    return any(_is_inside(window, today, second) for window in windows)


def opens_in(windows: Sequence[MaintenanceWindow], offset: float | None, now: float) -> float | None:
    """Return the seconds until one of the windows opens next; None when the device's zone is not known."""
    if offset is None:
        return None
    day, second = divmod(now + offset, _DAY)
    today = (int(day) + _THURSDAY) % 7
    waits = [
        ahead * _DAY + _seconds(window.start) - second
        for window in windows
        for ahead in range(8)
        if WEEK[(today + ahead) % 7] in window.days
    ]
    return min((wait for wait in waits if wait > 0), default=None)


def _is_inside(window: MaintenanceWindow, today: int, second: float) -> bool:
    start, end = _seconds(window.start), _seconds(window.end)
    begins_today, began_yesterday = WEEK[today] in window.days, WEEK[today - 1] in window.days
    if start < end:
        return begins_today and start <= second < end
    return (begins_today and second >= start) or (began_yesterday and second < end)


def _seconds(clock: str) -> float:
    hours, _, minutes = clock.partition(":")
    return (int(hours) * 60 + int(minutes)) * _MINUTE

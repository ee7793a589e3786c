"""Which drifts must be named: what docs/drift.md promises, restated from the windows that are stored.

A drift of one standard deviation shows within a few windows of one device. A window counts when it is judged:
it comes after the one before it by the device's own clock, and ends no more than two rounds ahead of the
controller's. A device whose clock runs further ahead is counted by the detector, and not heard.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from simulation.story import Story

ENOUGH_WINDOWS = 5  # of one device at the site
SHOWN_ROUNDS = 5.0  # in which an alarm is closed, attributed and held
AHEAD_ROUNDS = 2.0  # by which a window may end ahead of the controller's clock
SLOP_ROUNDS = 0.05  # by which windows of one device may overlap


def is_promised(database: Path, story: Story, digest: str, *, since: float, until: float) -> bool:
    """Tell whether enough was judged of a drift that it must be named.

    Args:
        digest: Of the version that ran when it began.
        since, until: Unix seconds in which it was there to be found.
    """
    length = story.pace.window
    query = "SELECT device, start, end, received_at FROM window WHERE digest = ? ORDER BY id"
    counts: dict[str, int] = {}
    ends: dict[str, float] = {}
    with closing(sqlite3.connect(database)) as connection:
        for device, *times in connection.execute(query, (digest,)):
            start, end, received = (time / 1000 for time in times)
            is_in_order = start >= ends.get(device, 0.0) - SLOP_ROUNDS * length
            is_ahead = end > received + AHEAD_ROUNDS * length
            if is_ahead or not is_in_order:
                continue
            ends[device] = end
            # A clock that is ahead, as far as it may be, dates windows from before the drift after it.
            begun = start >= since + AHEAD_ROUNDS * length
            if begun and received <= until - SHOWN_ROUNDS * length and story.sites[device] == story.drifting:
                counts[device] = counts.get(device, 0) + 1
    return max(counts.values(), default=0) >= ENOUGH_WINDOWS

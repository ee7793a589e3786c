"""Time zones: by how much the walls of each are ahead of UTC at one instant."""

import datetime as dt
from collections.abc import Iterable
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def offsets(zones: Iterable[str], now: float) -> dict[str, float]:
    """Return the offset of each zone that is known, in seconds east of UTC, as it is at ``now``.

    >>> offsets(["Europe/Berlin", "UTC", "Nowhere/Much"], 1_750_000_000.0)
    {'Europe/Berlin': 7200.0, 'UTC': 0.0}
    """
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    found = {name: _zone(name) for name in set(zones)}
    return {
        name: offset.total_seconds()
        for name, zone in sorted(found.items())
        if zone is not None and (offset := moment.astimezone(zone).utcoffset()) is not None
    }


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | dt.timezone | None:
    if name == "UTC":
        return dt.UTC  # also where the machine has no table of zones
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # The device said so: a name that is no zone, or a path out of the table.
        return None

"""Instants: integer Unix milliseconds in tables, UTC datetimes in views, RFC 3339 in JSON."""

import datetime as dt
from typing import overload


@overload
def instant(milliseconds: int) -> dt.datetime: ...
@overload
def instant(milliseconds: None) -> None: ...
def instant(milliseconds: int | None) -> dt.datetime | None:
    """Return a stored time as a UTC datetime; None stays None."""
    return None if milliseconds is None else dt.datetime.fromtimestamp(milliseconds / 1000, tz=dt.UTC)

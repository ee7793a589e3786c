"""The present time for tests of real TLS, whose certificates are judged by the machine's clock."""

import time

from support.office import Clock


def wall_clock() -> Clock:
    """Return a clock that stands at the present."""
    return Clock(time.time())

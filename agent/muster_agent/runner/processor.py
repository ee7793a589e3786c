"""How much of a processor is used, and how much may be."""

import time
from collections.abc import Callable
from pathlib import Path

BURST_SECONDS = 1.0  # of allowance that may be saved up: a pause must not be made good by a long burst

Clock = Callable[[], float]


class CpuBudget:
    """A share of one core, on average. For one thread.

    What is spent is known only afterwards, so one call may overdraw it; then nothing is affordable until time
    has made up for it. Over any period at most ``percent`` of it, plus ``BURST_SECONDS`` of allowance, plus
    one call is spent.

    Args:
        percent: Of one core, above 0.
        clock: Seconds, monotonic.
    """

    def __init__(self, percent: float, clock: Clock) -> None:
        self._rate = percent / 100.0
        self._clock = clock
        self._credit = self._rate * BURST_SECONDS
        self._at = clock()
        self.spent = 0.0

    def is_affordable(self) -> bool:
        """Tell whether something may be done now."""
        now = self._clock()
        earned = self._rate * (now - self._at)
        self._credit = min(self._credit + earned, self._rate * BURST_SECONDS)
        self._at = now
        return self._credit > 0

    def spend(self, seconds: float) -> None:
        """Take off what was used."""
        self._credit -= seconds
        self.spent += seconds


def process_clock(handle: int) -> Clock:
    """Return a clock that tells the processor seconds of another process, all its threads together.

    Args:
        handle: Of the process (a pidfd), open.

    Returns:
        A function that raises ``OSError`` once the process has ended, or where the system has no such clock.
    """
    try:
        clock = _clock_of(pid_of(handle))
    except OSError as error:
        missing = error
    else:
        return lambda: time.clock_gettime(clock)

    def refuse() -> float:
        raise missing

    return refuse


def pid_of(handle: int) -> int:
    """Return the id of the process that a handle (a pidfd) is of.

    Raises:
        OSError: It has ended, or this is no such handle.
    """
    lines = Path(f"/proc/self/fdinfo/{handle}").read_text(encoding="ascii").splitlines()
    pid = next((int(line.split()[1]) for line in lines if line.startswith("Pid:")), -1)
    if pid <= 0:
        raise ProcessLookupError(f"open file {handle} is no handle of a process that runs")
    return pid


def _clock_of(pid: int) -> int:
    # What clock_getcpuclockid(3) computes on Linux; CPUCLOCK_SCHED is 2.
    return (~pid << 3) | 2


def own_clock() -> float:
    """Return the processor seconds of this thread."""
    return time.thread_time()

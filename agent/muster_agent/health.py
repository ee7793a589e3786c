"""How this machine is now: load, memory of the agent, temperature, clock. What nobody says is left out.

Asked at each greeting and report; takes a few milliseconds.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from muster_models.wire import Health

PROCESSES = Path("/proc")
THERMAL = Path("/sys/class/thermal")
_MILLI = 1000
# What sensors say that are not there, or not ready.
_PLAUSIBLE = (-100.0, 250.0)


def measure(
    *, now: float, time_floor: float, waiting: int, processes: Path = PROCESSES, thermal: Path = THERMAL
) -> Health:
    """Return how this machine and this agent are.

    Args:
        now: Unix seconds by the clock of the machine.
        time_floor: The newest time that was seen signed, Unix seconds.
        waiting: Messages in the outbox.
    """
    return Health(
        at=max(0.0, now),
        load=round(os.getloadavg()[0] / (os.cpu_count() or 1), 3),
        memory_bytes=sum(_memory(processes, process) for process in _family(processes, os.getpid())),
        waiting=waiting,
        celsius=_celsius(thermal),
        behind_seconds=max(0.0, time_floor - now),
    )


def _family(processes: Path, first: int) -> Iterator[int]:
    """Yield a process and all that descend from it."""
    yield first
    for path in processes.glob(f"{first}/task/*/children"):
        with contextlib.suppress(OSError, ValueError):  # it ended meanwhile
            for child in path.read_text().split():
                yield from _family(processes, int(child))


def _memory(processes: Path, process: int) -> int:
    """Return the bytes of a process: its share of what it shares, else all that is resident."""
    with contextlib.suppress(OSError, ValueError):
        for line in (processes / f"{process}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Pss":
                return int(value.split()[0]) * 1024
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((processes / f"{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _celsius(thermal: Path) -> float | None:
    """Return the temperature of the warmest zone."""
    found = []
    for path in thermal.glob("thermal_zone*/temp"):
        with contextlib.suppress(OSError, ValueError):  # a sensor that sleeps answers with an error
            found.append(int(path.read_text()) / _MILLI)
    lowest, highest = _PLAUSIBLE
    return max((value for value in found if lowest < value < highest), default=None)

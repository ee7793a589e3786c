"""The machine that a benchmark ran on, in words: a ratio travels, an absolute figure does not."""

import os
import platform
from pathlib import Path

_GIB = 1024**3


def describe() -> dict[str, str]:
    """Return what a reader of a figure wants to know; ``load`` is that of the last minute."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    """Return the name that Linux gives the processor; ARM boards often give none."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())

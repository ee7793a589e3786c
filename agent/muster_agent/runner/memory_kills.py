"""Whether the kernel killed a child for lack of memory, or somebody else did: SIGKILL alone does not tell.

The kernel counts its kills for each control group, and for the whole machine. Not here: what a child says
itself about memory that it was refused.
"""

from collections.abc import Sequence
from pathlib import Path

_WORD = "oom_kill"
_GROUPS = Path("/sys/fs/cgroup")


def counters(own: str, groups: Path = _GROUPS) -> list[Path]:
    """Return where the kernel may count its kills, the narrowest first.

    Args:
        own: Content of ``/proc/self/cgroup``.
        groups: Where control groups are mounted.
    """
    found = []
    for line in own.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        place = path.lstrip("/")
        if controllers == "":
            found.append(groups / place / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(groups / controllers / place / "memory.oom_control")
            # In a container the path is often that of the host, and the mount begins at the group itself.
            found.append(groups / controllers / "memory.oom_control")
    return [*found, Path("/proc/vmstat")]


def read(paths: Sequence[Path]) -> int | None:
    """Return how often the kernel has killed, by the first counter that can be read; None for no counter."""
    for path in paths:
        try:
            words = (line.split() for line in path.read_text().splitlines())
            return next(int(rest[0]) for name, *rest in filter(None, words) if name == _WORD)
        except (OSError, StopIteration, ValueError, IndexError):
            continue
    return None


class Kills:
    """Says of each child that ended by SIGKILL whether the kernel has counted a kill for it.

    Args:
        paths: See ``counters``.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._claimed = read(paths) or 0

    @classmethod
    def here(cls) -> "Kills":
        """Return one for this process."""
        try:
            own = Path("/proc/self/cgroup").read_text()
        except OSError:
            own = ""
        return cls(counters(own))

    def claim(self) -> bool | None:
        """Tell whether one more kill was counted than claimed so far; None where nothing counts them."""
        counted = read(self._paths)
        if counted is None:
            return None
        if counted <= self._claimed:
            return False
        self._claimed += 1
        return True

    def forget(self) -> None:
        """Leave aside what was counted up to now: it was not about a child that is born later."""
        self._claimed = read(self._paths) or 0

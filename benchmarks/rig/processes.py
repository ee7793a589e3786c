"""What a process and everything it started cost, as the kernel counts it."""

import os
from pathlib import Path

PROC = Path("/proc")
_PARENT = 1  # place in /proc/PID/stat behind the name, which may hold anything


def tree(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    parents: dict[int, int] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (status := _read(folder / "stat")):
            parents[int(folder.name)] = int(status.rpartition(")")[2].split()[_PARENT])
    found = [root]
    for process in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == process]
    return found


def memory(root: int) -> dict[str, float]:
    """Return the megabytes of a process and all its descendants.

    ``rss`` adds up what each has mapped, so pages that they share count for each; ``pss`` counts a page once,
    split among all processes of the machine that share it.
    """
    totals = {"rss": 0.0, "pss": 0.0}
    for process in tree(root):
        for line in _read(PROC / str(process) / "smaps_rollup").splitlines()[1:]:
            name, kilobytes, *_ = line.split()
            if (kind := name.rstrip(":").lower()) in totals:
                totals[kind] += int(kilobytes) * 1024 / 1e6
    return totals


def pin(root: int) -> None:
    """Keep a process, all that descend from it, and what they start from now on, on one core."""
    core = {min(os.sched_getaffinity(root))}
    for process in tree(root):
        for thread in (PROC / str(process) / "task").iterdir():
            os.sched_setaffinity(int(thread.name), core)


def cpu_seconds(root: int) -> float:
    """Return the CPU time that the living threads of a process and its descendants have used."""
    return sum(
        int(_read(thread / "schedstat").split()[0]) / 1e9
        for process in tree(root)
        for thread in (PROC / str(process) / "task").iterdir()
    )


def written_bytes(root: int) -> int:
    """Return the bytes that a process and its descendants have sent to the disk, in whole pages."""
    return sum(
        int(line.split()[1])
        for process in tree(root)
        for line in _read(PROC / str(process) / "io").splitlines()
        if line.startswith("write_bytes:")
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it ended
        return ""

"""The processes below this one, and the memory that each holds for itself."""

import os
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return every process below one."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*found, *(below for child in found for below in children(child))]


def private_bytes(pid: int) -> int:
    """Return the memory that would come back if a process ended."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def own_family() -> list[int]:
    """Return this process and those below it."""
    return [os.getpid(), *children(os.getpid())]

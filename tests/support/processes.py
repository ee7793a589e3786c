"""The processes below this one, and the memory that each holds for itself."""

import os
from pathlib import Path

from support import commands

SHARED = {"postgres", commands.NAME}  # a test before may have started them for the whole session


def children(pid: int) -> list[int]:
    """Return every process below one, but for what is shared by the whole session."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found = [
            int(child) for child in listed if Path(f"/proc/{child}/comm").read_text().strip() not in SHARED
        ]
    except (FileNotFoundError, ProcessLookupError):  # one has ended meanwhile
        return children(pid) if Path(f"/proc/{pid}").exists() else []
    return [*found, *(below for child in found for below in children(child))]


def private_bytes(pid: int) -> int:
    """Return the memory that would come back if a process ended."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def own_family() -> list[int]:
    """Return this process and those below it."""
    return [os.getpid(), *children(os.getpid())]

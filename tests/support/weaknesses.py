"""Code that forgets to make something durable, on purpose: the search through power cuts must find each.

Planted in a process of its own, which ends with it.
"""

import os
import sqlite3
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

from muster_agent import disk
from muster_agent.batch import parts, written
from muster_agent.measure import outbox_database
from muster_models import durable


def _without(module: object, is_left_out: Callable[[int], bool]) -> None:
    """Let a module sync only what is not left out."""

    def sync(handle: int) -> None:
        if not is_left_out(os.fstat(handle).st_mode):
            os.fsync(handle)

    module.os = SimpleNamespace(**{**vars(os), "fsync": sync})  # type: ignore[attr-defined]


def durable_without_file_sync() -> None:
    """Files are renamed into place before they are on the medium."""
    _without(durable, stat.S_ISREG)


def durable_without_folder_sync() -> None:
    """Nothing says that a renaming is on the medium."""
    _without(durable, stat.S_ISDIR)


def outbox_unsynchronised() -> None:
    """SQLite is told that the operating system takes care of everything."""
    opened = outbox_database._open

    def _open(path: Path | str, draw: Callable[[], int]) -> sqlite3.Connection:
        database = opened(path, draw)
        database.execute("PRAGMA synchronous = OFF")
        return database

    outbox_database._open = _open


def parts_without_sync() -> None:
    """The progress of a batch is saved before the answers that it counts."""
    _without(parts, stat.S_ISREG)


def output_without_sync() -> None:
    """The output of a batch gets its name before it is on the medium."""
    _without(written, stat.S_ISREG)


def store_without_file_sync() -> None:
    """What the store writes is not on the medium when it gets its name."""
    _without(disk, stat.S_ISREG)


WEAKNESSES: Mapping[str, Callable[[], None]] = {
    "durable without file sync": durable_without_file_sync,
    "durable without folder sync": durable_without_folder_sync,
    "outbox unsynchronised": outbox_unsynchronised,
    "parts without sync": parts_without_sync,
    "output without sync": output_without_sync,
    "store without file sync": store_without_file_sync,
}

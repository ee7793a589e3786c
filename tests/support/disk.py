"""A disk in memory that loses power: a ``Disk`` that keeps what a file system really promises, and no more.

- The content of a file is safe as of its last ``sync``. After a cut, what was written since is there, or not,
  or in part: torn, filled with zeros or garbage, or old and new blocks mixed.
- A folder is safe as of its last ``sync_folder``. After a cut, any of the later creations, renamings and
  removals happened, in their order. One renaming happens whole or not at all.
- A ``sync`` that failed once says nothing when it succeeds later: the kernel has forgotten the pages.

Everything is drawn from the ``random.Random`` that is passed in, so a seed names an outcome.
"""

import copy
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self, TypeVar

from muster_models.durable import refusal

BLOCK_BYTES = 16  # small, so that small files are torn in the middle too
Change = TypeVar("Change")


class PowerCut(BaseException):
    """The process is gone, at this call; what is on the disk decides ``SimulatedDisk.cut_power``."""


@dataclass(frozen=True)
class Fault:
    """What happens at one changing call, counted from 1.

    Attributes:
        error: An ``errno`` such as ``errno.ENOSPC``; None when the process ends here.
        lasts: Whether every later call fails too.
    """

    call: int
    error: int | None = None
    lasts: bool = False

    def strikes(self, call: int) -> bool:
        return call == self.call or (self.lasts and call > self.call)


@dataclass(eq=False)
class _Inode:
    safe: bytes = b""
    now: bytes = b""
    is_forgotten: bool = False  # a sync failed: the kernel believes that there is nothing left to write


@dataclass
class _Folder:
    safe: dict[str, _Inode] = field(default_factory=dict)
    now: dict[str, _Inode] = field(default_factory=dict)
    pending: list[dict[str, _Inode | None]] = field(default_factory=list)

    def change(self, change: dict[str, _Inode | None]) -> None:
        _apply(self.now, change)
        self.pending.append(change)


def _apply(entries: dict[str, _Inode], change: dict[str, _Inode | None]) -> None:
    for name, inode in change.items():
        if inode is None:
            entries.pop(name, None)
        else:
            entries[name] = inode


class SimulatedDisk:
    """A ``Disk``. Set ``fault`` to strike at one call; ``cut_power`` or ``kill`` before it is used again.

    Attributes:
        calls: How many changing calls were made: places where a fault can strike.
    """

    def __init__(self, *, capacity: int = 1 << 30) -> None:
        self.capacity = capacity
        self.calls = 0
        self.fault: Fault | None = None
        self._folders = {"": _Folder()}

    def clone(self) -> Self:
        """Return an independent disk in the same state, to try another outcome from here."""
        return copy.deepcopy(self)

    # What the store calls

    def size(self, name: str) -> int | None:
        inode = self._find(name)
        return None if inode is None else len(inode.now)

    def read(self, name: str) -> bytes:
        inode = self._find(name)
        if inode is None:
            raise refusal(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), name)
        return inode.now

    def chunks(self, name: str) -> Iterator[bytes]:
        yield self.read(name)

    def names(self, folder: str) -> list[str]:
        return sorted(self._folders[folder].now) if folder in self._folders else []

    def make_folder(self, folder: str) -> None:
        if folder not in self._folders:
            self._call(folder)
            self._folders[folder] = _Folder()

    def create(self, name: str) -> "SimulatedFile":
        self._call(name)
        folder, plain = self._place(name)
        inode = _Inode()
        folder.change({plain: inode})
        return SimulatedFile(self, name, inode)

    def append(self, name: str) -> "SimulatedFile":
        inode = self._find(name)
        return SimulatedFile(self, name, inode) if inode is not None else self.create(name)

    def rename(self, source: str, target: str) -> None:
        self._call(target)
        (old, old_name), (new, new_name) = self._place(source), self._place(target)
        assert old is new, "a renaming between folders is not one change to the disk"
        new.change({old_name: None, new_name: self._inode(source)})

    def remove(self, name: str) -> None:
        if self._find(name) is not None:
            self._call(name)
            folder, plain = self._place(name)
            folder.change({plain: None})

    def sync_folder(self, folder: str) -> None:
        self._call(folder)
        held = self._folders[folder]
        held.safe, held.pending = dict(held.now), []

    def free_bytes(self) -> int:
        held = sum(len(inode.now) for folder in self._folders.values() for inode in folder.now.values())
        return self.capacity - held

    def export(self, name: str, path: Path) -> None:
        path.write_bytes(self.read(name))

    # What a test does to it

    def files(self) -> list[str]:
        """Return every file, with its folder."""
        return [
            f"{folder}/{name}".lstrip("/") for folder in sorted(self._folders) for name in self.names(folder)
        ]

    def damage(self, name: str, chance: Random) -> None:
        """Change one byte of a file, on the medium."""
        inode = self._inode(name)
        at = chance.randrange(len(inode.now))
        inode.safe = inode.now = inode.now[:at] + bytes([inode.now[at] ^ 0xFF]) + inode.now[at + 1 :]

    def kill(self) -> None:
        """The process ended, the machine did not: memory still holds what was not synced."""
        self.fault = None

    def cut_power(self, chance: Random) -> None:
        """Keep what was safe, and of the rest what ``chance`` decides."""
        self.fault = None
        for folder in self._folders.values():
            for change in survivors(folder.pending, chance):
                _apply(folder.safe, change)
            folder.now, folder.pending = dict(folder.safe), []
        for inode in {
            id(inode): inode for held in self._folders.values() for inode in held.now.values()
        }.values():
            inode.safe = inode.now = _after_cut(inode.safe, inode.now, chance)
            inode.is_forgotten = False

    # How it works

    def _call(self, name: str) -> None:
        self.calls += 1
        if self.fault is not None and self.fault.strikes(self.calls):
            if self.fault.error is None:
                raise PowerCut
            raise refusal(OSError(self.fault.error, os.strerror(self.fault.error)), name)

    def _place(self, name: str) -> tuple[_Folder, str]:
        folder, _, plain = name.rpartition("/")
        return self._folders[folder], plain

    def _find(self, name: str) -> _Inode | None:
        folder, _, plain = name.rpartition("/")
        held = self._folders.get(folder)
        return None if held is None else held.now.get(plain)

    def _inode(self, name: str) -> _Inode:
        folder, plain = self._place(name)
        return folder.now[plain]


class SimulatedFile:
    """A file of a ``SimulatedDisk``, open for writing at its end."""

    def __init__(self, disk: SimulatedDisk, name: str, inode: _Inode) -> None:
        self._disk = disk
        self._name = name
        self._inode = inode

    def write(self, data: bytes) -> None:
        try:
            self._disk._call(self._name)
        except BaseException:
            self._inode.now += data[: len(data) // 2]  # a write may stop anywhere
            raise
        self._inode.now += data

    def sync(self) -> None:
        try:
            self._disk._call(self._name)
        except Exception:
            self._inode.is_forgotten = True
            raise
        if not self._inode.is_forgotten:
            self._inode.safe = self._inode.now

    def close(self) -> None:
        pass


def survivors(pending: list[Change], chance: Random) -> list[Change]:
    """Return what a power cut leaves of changes that were not synced: none, all, the first, or any."""
    match chance.randrange(4):
        case 0:
            return []
        case 1:
            return pending
        case 2:
            return pending[: chance.randint(0, len(pending))]
        case _:
            return [change for change in pending if chance.random() < 0.5]


def _after_cut(safe: bytes, now: bytes, chance: Random) -> bytes:
    if safe == now:
        return safe
    common = next(
        (at for at, (a, b) in enumerate(zip(safe, now, strict=False)) if a != b), min(len(safe), len(now))
    )
    tail = len(now) - common
    old = safe.ljust(len(now), b"\0")
    mixed = (chance.choice((old, now))[at : at + BLOCK_BYTES] for at in range(0, len(now), BLOCK_BYTES))
    outcomes = (
        safe,
        now,
        now[: common + chance.randint(0, tail)],
        now[:common] + bytes(tail),
        now[:common] + chance.randbytes(tail),
        b"".join(mixed)[: len(now)],
    )
    return chance.choice(outcomes)

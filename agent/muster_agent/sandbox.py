"""Confining a process that will run somebody's model: resource limits, no new privileges, Landlock.

Called by a child about itself; what it takes away cannot be had back. Each layer that the kernel lacks is
left out and the level that was reached is returned, so that it can be reported.
"""

import contextlib
import ctypes
import functools
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

# The system calls have these numbers on every architecture (they are newer than the common table).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 1, 1 << 2, 1 << 3
_CONTROL_DEVICE = 1 << 15  # ioctl, a right of its own since version 5
# How many file rights the kernel knows, by Landlock version: 13 at first, then refer, truncate and ioctl.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_FILE_RIGHTS_NEWEST = 16
_TCP_SINCE, _IOCTL_SINCE, _SCOPES_SINCE = 4, 5, 6
_TCP_BIND_AND_CONNECT = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


class Level(StrEnum):
    """How far a child could be confined on this machine."""

    LANDLOCK = "landlock"
    NO_NEW_PRIVS = "no-new-privs"
    RLIMITS = "rlimits"


@dataclass(frozen=True)
class Limits:
    """What a confined process may use.

    Attributes:
        memory_bytes: Address space above what the process has when it is confined.
        cpu_seconds: Processor time in all; None where the process is meant to live.
        open_files: Highest number of open files.
    """

    memory_bytes: int
    cpu_seconds: float | None = None
    open_files: int = 64


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("beneath", ctypes.c_int32))


def confine(limits: Limits, *, readable: Sequence[Path], writable: Sequence[Path] = ()) -> Level:
    """Confine this process for good: it may read ``readable`` and write no file but ``writable`` anywhere.

    Files and sockets that are open already stay usable.

    Args:
        limits: Enforced at every level.
        readable: Files, and folders with all that is below them; what does not exist is left out.
        writable: The same, for devices that are opened for writing and controlled.

    Returns:
        The level that this machine allows.
    """
    _limit(limits)
    libc = _libc()
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return Level.RLIMITS
    return Level.LANDLOCK if _landlock(libc, readable, writable) else Level.NO_NEW_PRIVS


def level() -> Level:
    """Tell how far ``confine`` would get on this machine, without confining anything."""
    return Level.LANDLOCK if _landlock_version(_libc()) > 0 else Level.NO_NEW_PRIVS


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process ``signal_number`` when the thread that forked it ends."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def trim() -> None:
    """Give free heap memory back to the system; a dropped model's memory stays with the process otherwise."""
    with contextlib.suppress(AttributeError):  # only glibc has it
        _libc().malloc_trim(0)


def address_space() -> int:
    """Return the bytes of address space that this process has mapped."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


def _limit(limits: Limits) -> None:
    wanted = {
        resource.RLIMIT_AS: address_space() + limits.memory_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: limits.open_files,
    }
    if limits.cpu_seconds is not None:
        wanted[resource.RLIMIT_CPU] = int(limits.cpu_seconds) + 1
    for which, value in wanted.items():
        _, hard = resource.getrlimit(which)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (bound, bound))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _landlock_version(libc: ctypes.CDLL) -> int:
    return int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION))


def _landlock(libc: ctypes.CDLL, readable: Sequence[Path], writable: Sequence[Path]) -> bool:
    version = _landlock_version(libc)
    if version < 1:
        return False
    rules = _Ruleset(
        files=(1 << _FILE_RIGHTS.get(version, _FILE_RIGHTS_NEWEST)) - 1,
        tcp=_TCP_BIND_AND_CONNECT,
        scopes=_ABSTRACT_SOCKETS_AND_SIGNALS,
    )
    size = 8 * (1 + (version >= _TCP_SINCE) + (version >= _SCOPES_SINCE))
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    try:
        control = _CONTROL_DEVICE if version >= _IOCTL_SINCE else 0
        rights = [(path, _READ_FILE) for path in readable]
        rights += [(path, _READ_FILE | _WRITE_FILE | control) for path in writable]
        allowed = all(_allow(libc, ruleset, path, of_file) for path, of_file in rights if path.exists())
        return allowed and libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, of_file: int) -> bool:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(of_file | (_READ_FOLDER if path.is_dir() else 0), handle)
        return bool(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0) == 0)
    finally:
        os.close(handle)

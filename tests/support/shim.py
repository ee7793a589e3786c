"""Runs what writes on a device in a process whose calls to the disk go wrong at a chosen one.

The process (``support.shim_process``) is started once under a shim in C and forks a child per run, so that a
run costs what the writing costs.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

SOURCE = Path(__file__).with_name("shim.c")
TESTS = Path(__file__).parents[1]
COUNT, KILL, TEAR, REFUSE = range(4)  # as shim.c has them
REFUSED = 3  # exit status of a child that gave up because the disk refused


@dataclass(frozen=True)
class Strike:
    """What goes wrong at one changing call, counted from 1; by default nothing does.

    Attributes:
        mode: ``TEAR`` counts writes alone; of the one at ``call`` half happens before the process is killed.
        error: The ``errno`` of ``REFUSE``.
        lasts: Whether later calls are refused too.
    """

    mode: int = COUNT
    call: int = 0
    error: int = 0
    lasts: bool = False


@dataclass(frozen=True)
class Run:
    """What the process is asked to do.

    Attributes:
        device: The folder whose changes count.
        told: A file outside of it, where the child writes what it was told is done.
        record: A file outside of it, where every changing call is written down; none where empty.
        weakness: What is taken from the code on purpose, by the names of ``support.weaknesses``.
    """

    course: str
    device: str
    told: str
    arguments: Mapping[str, str]
    strike: Strike
    record: str = ""
    weakness: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes:
        status: Exit status, negative for a signal.
        calls: Changing calls that it made, where it lived to say so.
        error: What it ended with, where that was no refusal of the disk.
    """

    status: int
    calls: int = 0
    error: str = ""


@dataclass
class ShimProcess:
    """The process; ``run`` waits for the child."""

    _process: "subprocess.Popen[bytes]"

    def run(self, run: Run) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(run) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Outcome)


def build(folder: Path) -> Path:
    """Compile the shim; a machine without a C compiler cannot run these tests, and says so by failing."""
    library = folder / "shim.so"
    command: list[str | Path] = [
        "cc",
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Werror",
        "-o",
        library,
        SOURCE,
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return library


@contextmanager
def started(folder: Path) -> Iterator[ShimProcess]:
    """Start the process, with the shim compiled into ``folder``."""
    environment = {**os.environ, "LD_PRELOAD": str(build(folder)), "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(
        [sys.executable, "-m", "support.shim_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        yield ShimProcess(process)
        assert process.stdin is not None
        process.stdin.close()

"""Lives that end where a test says: each is a process of its own, forked from one that has imported all.

A life is told on a line of standard input (world, database, step to die at), and how it ended comes back on
a line of standard output. A death is SIGKILL, and nothing of Python's runs after it.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from muster_controller.config import Folder, load_settings
from muster_controller.service.opening import open_folder
from support.databases import child_environment, parse_place
from support.office import START, make_test_baseline
from support.rollout_course import Manner, Site, live

STOP_SECONDS = 20.0


@dataclass(frozen=True)
class End:
    """How a life ended.

    Attributes:
        code: Of the process: 0, or minus the number of the signal.
        steps: That were begun.
    """

    code: int
    steps: int


class Nursery:
    """Starts lives of the controller of one folder; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        """Start the process that the others are forked from."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.rollout_nursery", str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(STOP_SECONDS)
        self._process.stdout.close()

    def live(self, world: Path, place: Path | str, *, dies_at: int = 0, manner: Manner = "careful") -> End:
        """Let a controller live what is left of the world's instant, or die at a step, counted from 1."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(world), str(place), dies_at, manner]) + "\n")
        self._process.stdin.flush()
        code, steps = json.loads(self._process.stdout.readline())
        return End(code, steps)


def main(folder: Path) -> None:
    """Start a life for every line, one after the other."""
    made = Folder(folder)
    settings = load_settings(made)
    made.database = folder / "nobody.sqlite"  # each life has a database of its own
    opened = open_folder(made, msgspec.structs.replace(settings, database=""), clock=lambda: START)
    opened.close()
    baseline = make_test_baseline()
    for line in sys.stdin:
        world, place, dies_at, manner = json.loads(line)
        site = Site(opened, Path(world), baseline)
        sys.stdout.write(json.dumps(_fork(site, parse_place(place), dies_at, manner)) + "\n")
        sys.stdout.flush()


def _fork(site: Site, place: Path | str, dies_at: int, manner: Manner) -> tuple[int, int]:
    counter, counted = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(counter)
        _live_and_exit(site, place, dies_at, manner=manner, counted=counted)
    os.close(counted)
    with os.fdopen(counter, "rb") as steps:
        number = len(steps.read())
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), number


def _live_and_exit(site: Site, place: Path | str, dies_at: int, *, manner: Manner, counted: int) -> None:
    left = dies_at

    def step() -> None:
        nonlocal left
        os.write(counted, b".")
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        live(site, place, step, manner=manner)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as the one it came from
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

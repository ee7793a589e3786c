"""``scripts/demo`` stops what it started, in whatever way it ends."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
END_SECONDS = 90.0


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that name a folder."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found


def wait_until(gone: Path) -> list[str]:
    """Return what is left of a demo's processes when they should all be gone."""
    deadline = time.monotonic() + END_SECONDS
    while (left := processes_of(gone)) and time.monotonic() < deadline:
        select.select([], [], [], 0.1)
    return left


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo whose fleet is being enrolled: the controller, its broker and some agents run."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "story", "--keep"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said: list[str] = []
        while "enrol" not in (line := child.stdout.readline()):
            said.append(line)
            assert line, f"the demo ended: {said}"
        yield child
        child.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_no_folder(
    demo: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    assert len(processes_of(tmp_path)) > 8

    demo.send_signal(number)

    assert demo.wait(END_SECONDS) == 130
    assert wait_until(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_killed_demo_leaves_no_process(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    assert len(processes_of(tmp_path)) > 8

    demo.kill()

    assert wait_until(tmp_path) == []

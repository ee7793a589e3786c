"""Commands as processes of their own, forked from one that has imported them.

Starting Python and importing what a command needs takes longer than most commands. Here that is done once
for all tests of a process; a command still has its own process, environment and files, and ends as always.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from support.databases import child_environment

MAINS = {"muster": "muster_controller.cli.__main__", "muster-controller": "muster_controller.__main__"}
# What commands import when they need it.
LATER = (
    "httpx",
    "muster_controller.founding",
    "muster_models.publish.build",
    "muster_models.publish.deltas",
    "muster_models.publish.source",
    "muster_models.trust.publisher",
    "onnx",
    "onnxruntime",
)
NAME = "nursery"  # of the process, for tests that look at processes


class Nursery:
    """Runs one command after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="muster-commands-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.commands"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
            process_group=0,
        )
        self._reply(120.0)

    def run(
        self, command: str, arguments: Sequence[str], environment: Mapping[str, str], *, seconds: float
    ) -> tuple[int, str, str]:
        """Run a command to its end; return its exit code, and what it wrote on both streams.

        Raises:
            subprocess.TimeoutExpired: It did not end within ``seconds``; it was killed.
        """
        out, err = (Path(self._folder.name) / name for name in ("out", "err"))
        asked = [command, list(arguments), dict(environment), str(Path.cwd()), str(out), str(err)]
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            code = int(self._reply(seconds))
            return code, out.read_text(), err.read_text()

    def stop(self) -> None:
        """End the process that the others are forked from."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.write("\n")  # whoever was forked from this process may hold the pipe open
            self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._folder.cleanup()

    def _reply(self, seconds: float) -> str:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired("a command", seconds)
        line = self._process.stdout.readline()
        assert line, "the process that commands are forked from has ended"
        return line


class _Now:
    """What this process has.

    Attributes:
        nursery: Once a test needed it; None before, and in a process that was forked from one that has it.
    """

    nursery: Nursery | None = None
    pid: int = 0


def nursery() -> Nursery:
    """Return the nursery of this process, which is started when it is first needed."""
    if _Now.nursery is None or _Now.pid != os.getpid():
        _Now.nursery, _Now.pid = Nursery(), os.getpid()
    return _Now.nursery


def stop() -> None:
    """End the nursery of this process, if there is one."""
    if _Now.nursery is not None and _Now.pid == os.getpid():
        _Now.nursery.stop()
        _Now.nursery = None


def main() -> None:
    """Run a command for every line, one after the other, until one is empty."""
    Path("/proc/self/comm").write_text(NAME)
    for name in (*MAINS.values(), *LATER):
        importlib.import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "what is forked from must have one thread"
    _say("ready")
    while line := sys.stdin.readline().strip():
        command, arguments, environment, folder, out, err = json.loads(line)
        child = os.fork()
        if child == 0:
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(folder)
            _redirect(out, err)
            _run(command, arguments)
        _, status = os.waitpid(child, 0)
        _say(str(os.waitstatus_to_exitcode(status)))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _redirect(out: str, err: str) -> None:
    places = (os.devnull, os.O_RDONLY), (out, os.O_WRONLY | os.O_CREAT), (err, os.O_WRONLY | os.O_CREAT)
    for number, (path, flags) in enumerate(places):
        handle = os.open(path, flags | (os.O_TRUNC if number else 0), 0o600)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the one before may have read ahead


def _run(command: str, arguments: Sequence[str]) -> NoReturn:
    sys.argv = [command, *arguments]
    code = 1
    try:
        importlib.import_module(MAINS[command]).main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as Python itself ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

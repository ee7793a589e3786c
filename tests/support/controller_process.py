"""A real controller in a process of its own, and the real ``muster`` command against it."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from story.ports import free_port
from support import commands

BIN = Path(sys.executable).parent
SECONDS = 60.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class ControllerProcess:
    """``muster-controller run`` on free ports, from the beginning of the block to its end."""

    folder: Path
    ports: dict[str, int] = field(
        default_factory=lambda: {name: free_port() for name in ("web", "device", "mqtt")}
    )
    child: subprocess.Popen[str] | None = None

    @property
    def home(self) -> Path:
        """The controller's folder."""
        return self.folder / "controller"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['web']}"

    @property
    def token_file(self) -> Path:
        return self.home / "operator.token"

    def init(self) -> Done:
        """Make the folder."""
        ports = ("--port", "web"), ("--device-port", "device"), ("--mqtt-port", "mqtt")
        options = [part for option, name in ports for part in (option, str(self.ports[name]))]
        return execute("muster-controller", "init", str(self.home), *options)

    def start(self) -> None:
        """Run it, and return once it answers."""
        self.child = subprocess.Popen(
            [str(BIN / "muster-controller"), "run", str(self.home)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.wait(lambda: self.status() is not None)

    def wait(self, probe: Callable[[], bool]) -> None:
        """Wait until ``probe`` says yes; a controller that ended is an error at once."""
        deadline = time.monotonic() + SECONDS
        while not probe():
            assert self.child is not None
            if self.child.poll() is not None:
                raise AssertionError(f"the controller ended: {self.child.communicate()[0]}")
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(POLL_SECONDS)  # another process: there is only its answer to wait for

    def status(self) -> dict[str, Any] | None:
        """Return what ``/status`` says; None when nobody answers."""
        headers = {"Authorization": f"Bearer {self.token_file.read_text().strip()}"}
        try:
            answer = httpx.get(f"{self.url}/api/v1/status", headers=headers, trust_env=False, timeout=SECONDS)
        except httpx.TransportError:
            return None
        found: dict[str, Any] = answer.json()
        return found

    def stop(self) -> Done:
        """Ask it to end, and return how it did."""
        assert self.child is not None
        self.child.send_signal(signal.SIGTERM)
        out, _ = self.child.communicate(timeout=SECONDS)
        return Done(self.child.returncode, out, "")

    def __enter__(self) -> Self:
        made = self.init()
        assert made.code == 0, made.err
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.child is not None and self.child.poll() is None:
            self.stop()

    def muster(self, *arguments: str, **environment: str) -> Done:
        """Run the operator's command against it."""
        settings = {"MUSTER_URL": self.url, "MUSTER_TOKEN_FILE": str(self.token_file)}
        return execute("muster", *arguments, **{**settings, **environment})


def execute_on_terminal(command: str, *arguments: str, **environment: str) -> Done:
    """Run a command whose output goes to a terminal, 160 characters wide."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / command), *arguments],
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "160", "LINES": "60", **environment},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    said = bytearray()
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while part := os.read(ours, 65_536):
            said += part
    os.close(ours)
    _, err = process.communicate(timeout=120)
    return Done(process.returncode, said.decode(), err)


def execute(command: str, *arguments: str, **environment: str) -> Done:
    """Run a command to its end in a process of its own; nobody answers its questions.

    The installed scripts are run where they start a program that stays; ``support.commands`` runs what ends.
    """
    if command == "muster" or arguments[:1] == ("init",):
        held = {**os.environ, **environment}
        return Done(*commands.nursery().run(command, arguments, held, seconds=120))
    done = subprocess.run(
        [str(BIN / command), *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Done(done.returncode, done.stdout, done.stderr)

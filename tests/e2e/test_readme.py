"""The README's ten commands and its Python snippet, run as they stand, with real processes.

Only what a second machine or a busy port would change is put in: ports, and the token that command 6 prints.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from story.ports import free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SECTION = README[README.index("## Your own model and device") :]
BIN = Path(sys.executable).parent
SECONDS = 180.0  # for anything, on a machine that does much else
POLL_SECONDS = 0.1
PORTS = {"--port": "8420", "--device-port": "8421", "--mqtt-port": "8883"}  # as the README takes for granted


def block(language: str) -> str:
    """Return the section's only code block in a language; the commands have none."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", SECTION, flags=re.MULTILINE | re.DOTALL)
    return str(found)


def commands() -> list[list[str]]:
    """Return the words of each command, comments left out."""
    lines = block("").replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@dataclass
class Stranger:
    """Somebody who types the README's commands in an empty folder beside the checkout's models."""

    folder: Path
    ports: dict[str, int] = field(default_factory=lambda: {option: free_port() for option in PORTS})
    environment: dict[str, str] = field(init=False)
    token: str = ""
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "models").symlink_to(ROOT / "models")
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "MUSTER_PASSPHRASE": "correct horse",  # the README's other way is a prompt
            "MUSTER_URL": f"http://127.0.0.1:{self.ports['--port']}",
        }

    def type(self, words: list[str]) -> None:
        """Do what one line says; a command that keeps its terminal goes on running."""
        words = [self._put_in(word) for word in words]
        match words:
            case ["export", assignment]:
                name, _, value = assignment.partition("=")
                self.environment[name] = value
            case ["muster-controller", "init", *_]:
                self.do([*words, *(part for item in self.ports.items() for part in map(str, item))])
            case ["muster-controller", "run", *_]:
                self.begin(words)
                self.wait(self._answers)
            case ["muster-agent", "run", *_] | ["muster", "rollout", "watch", *_]:
                self.begin(words)
            case ["muster", "device", "token", *_]:
                self.token = self.do(words).strip()
            case _:
                self.do(words)

    def do(self, words: list[str]) -> str:
        """Run a command that ends, and return what it printed."""
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stderr}; {self.ended()}; {self.last_words()}"
        return done.stdout

    def begin(self, words: list[str]) -> None:
        """Run a command that keeps its terminal."""
        with (self.folder / f"{Path(words[0]).name}.log").open("w") as log:
            self.running.append(
                subprocess.Popen(
                    words, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, text=True,
                )
            )  # fmt: skip

    def wait(self, probe: Callable[[], bool]) -> None:
        """Wait for something that other processes bring about; one that failed is an error at once."""
        deadline = time.monotonic() + SECONDS
        while not probe():
            failed = [child.args for child in self.running if child.poll() not in {None, 0}]
            assert failed == [], self.last_words()
            assert time.monotonic() < deadline, self.last_words()
            time.sleep(POLL_SECONDS)  # other processes: there is only their answer to wait for

    def ended(self) -> dict[str, int]:
        """Return the exit status of each command that should go on running and does not."""
        statuses = {str(child.args): child.poll() for child in self.running}
        return {command: status for command, status in statuses.items() if status is not None}

    def last_words(self) -> dict[str, str]:
        """Return the end of each log."""
        return {log.name: log.read_text()[-4000:] for log in self.folder.glob("*.log")}

    def runs(self, model: str) -> bool:
        """Tell whether the device's status shows a model that answers."""
        status = json.loads(self.do(["muster-agent", "status", "press-1", "-o", "json"]))
        return model in status["answering"]

    def leave(self) -> list[int]:
        """End what was begun, the last first, and return the exit statuses in that order."""
        statuses = []
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
            statuses.append(process.wait(SECONDS))
        self.running.clear()
        return statuses

    def _put_in(self, word: str) -> str:
        for option, port in PORTS.items():
            word = word.replace(f":{port}", f":{self.ports[option]}")
        return self.token if word == "TOKEN" else word

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.ports["--port"]), timeout=1).close()
        except OSError:
            return False
        return True


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text())
    return found


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Stranger]:
    typing = Stranger(tmp_path)
    try:
        yield typing
    finally:
        typing.leave()


def test_there_are_ten_commands() -> None:
    assert len(commands()) == 10


def test_what_the_readme_says_works_as_it_stands(stranger: Stranger) -> None:
    for words in commands():
        stranger.type(words)
    watch = stranger.running[-1]
    stranger.wait(lambda: stranger.runs("digits"))
    stranger.begin([sys.executable, "-c", block("python")])
    stranger.wait(lambda: watch.poll() is not None)

    assert watch.returncode == 0, stranger.last_words()
    application, _, *rest = stranger.leave()
    assert application in {0, -signal.SIGTERM}, stranger.last_words()
    assert rest == [0, 0]
    assert processes_in(stranger.folder) == []

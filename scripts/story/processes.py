"""The processes of the story: started, watched, and stopped to the last one."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STOP_SECONDS = 8.0
# From util-linux: a child dies with this program, in whatever way this program ends.
TIED = ("setpriv", "--pdeathsig", "TERM", "--")


@dataclass
class Children:
    """Child processes by name; each writes to ``<logs>/<name>.log`` and leads a process group of its own."""

    logs: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(
        self, name: str, command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start a child that lives until ``stop``, or until this process dies in whatever way."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*TIED, *(str(part) for part in command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def died(self) -> list[str]:
        """Return the names of children that ended although nobody stopped them."""
        return [name for name, child in self.running.items() if child.poll() is not None]

    def last_words(self, name: str) -> str:
        """Return the last line that a child wrote, for an error message."""
        lines = (self.logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"

    def stop(self, *names: str) -> None:
        """Ask the named children (without names: all) to end, and kill the groups of those that do not."""
        chosen = {name: self.running.pop(name) for name in names or tuple(self.running)[::-1]}
        for child in chosen.values():
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for child in chosen.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
            # Whoever is left in the group has outlived its leader.
            _signal_group(child, signal.SIGKILL)
            child.wait()


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)

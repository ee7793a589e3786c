"""One command, without a shell, bounded in time and output; of our environment it has what is named.

It runs in a session of its own, so that all it started can be ended together.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

OUTPUT_BYTES = 16_384  # the end of what it said
CHUNK_BYTES = 4096
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        exit_status: As the system tells it, negative for a signal; None when it never ran.
        why: Empty when it ended by itself.
    """

    exit_status: int | None
    output: str
    why: str = ""

    @property
    def is_good(self) -> bool:
        """It ended by itself, and well."""
        return self.exit_status == 0 and not self.why


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    timeout: float,
    cancelled: threading.Event,
) -> Ended:
    """Run a command to its end, or to ours.

    Args:
        command: Program and arguments.
        environment: All that it has.
        folder: Where it runs.
        timeout: Seconds; then all that it started is ended.
        cancelled: Ends it early.
    """
    try:
        child = subprocess.Popen(  # noqa: S603 - argv of the operator's own file, and no shell
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Ended(None, "", f"{command[0]}: {error}")
    assert child.stdout is not None
    tail = _Tail(child.stdout)
    why = _wait(child, timeout, cancelled)
    # Also what it left behind: it would hold the pipe open, and run on unseen.
    _end_all(child)
    output = tail.text()
    return Ended(child.returncode, output, why)


def _wait(child: subprocess.Popen[bytes], timeout: float, cancelled: threading.Event) -> str:
    left = timeout
    while child.poll() is None:
        if cancelled.is_set():
            return "the controller was stopped"
        if left <= 0:
            return f"did not end within {timeout:g} s"
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(min(POLL_SECONDS, left))
        left -= POLL_SECONDS
    return ""


def _end_all(child: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)


class _Tail:
    """Reads all that comes, so that nobody waits for us, and keeps the end of it."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._chunks: deque[bytes] = deque(maxlen=OUTPUT_BYTES // CHUNK_BYTES + 1)
        self._thread = threading.Thread(target=self._read, name="job output", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Return the end of it, once it is over."""
        self._thread.join(GRACE_SECONDS)
        return b"".join(self._chunks)[-OUTPUT_BYTES:].decode(errors="replace")

    def _read(self) -> None:
        with self._pipe:
            while chunk := self._pipe.read(CHUNK_BYTES):
                self._chunks.append(chunk)

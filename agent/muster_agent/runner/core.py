"""Where a worker runs: on the core of whoever calls it, while its calls are short.

The caller waits for the answer, so its core is free. On two cores each hand-over would wake the other one
from its idle, which takes longer than a small model does.
"""

import ctypes
import os
import time
from collections.abc import Callable
from contextlib import suppress

from muster_agent.runner.processor import pid_of

SHORT_SECONDS = 0.001  # of a call; a longer one gains nothing, and may find a core that is less busy
_AT_FIRST, _AGAIN = 4, 32  # calls in a row that were short, before the worker follows, and does so again
_NOWHERE = -1


class Following:
    """Moves one worker to the core of its caller. Not thread safe; used under the lock of its calls.

    Args:
        process: A handle of the worker's process (a pidfd), whose main thread answers.
        clock: Seconds, monotonic.
    """

    def __init__(self, process: int, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._core = _NOWHERE
        self._missing = _AT_FIRST  # short calls, until it follows
        self._began = 0.0
        try:
            self._pid = pid_of(process)
            self._cores = os.sched_getaffinity(self._pid)
            self._here = ctypes.PyDLL(None).sched_getcpu
        except (OSError, AttributeError):  # it has ended, or this system cannot tell
            self._cores = set()

    def begin(self) -> None:
        """Take the worker along, in the caller's thread and before the call."""
        if self._missing <= 0 and len(self._cores) > 1:
            core = self._here()
            if core != self._core and core in self._cores:
                self._keep(core, {core})
        self._began = self._clock()

    def end(self) -> None:
        """Learn from the call how long they take."""
        if self._clock() - self._began < SHORT_SECONDS:
            self._missing -= 1
        elif self._core != _NOWHERE:
            self._keep(_NOWHERE, self._cores)
            self._missing = _AGAIN  # where the caller is, something else may be busy
        else:
            self._missing = max(self._missing, _AT_FIRST)

    def _keep(self, core: int, cores: set[int]) -> None:
        self._core = core
        with suppress(OSError):  # it has ended, or may not run there: the call goes on as it would have
            os.sched_setaffinity(self._pid, cores)

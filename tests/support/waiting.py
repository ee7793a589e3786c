"""Waiting for what no event announces: another process's or thread's work, seen only by asking."""

import threading
import time
from collections.abc import Callable

SECONDS = 60.0  # only what fails takes so long: a machine may do much else


def until(reached: Callable[[], bool], *, seconds: float = SECONDS) -> bool:
    """Ask again and again; tell whether it came within ``seconds``."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not reached():
        if time.monotonic() > end:
            return False
        pause.wait(0.02)
    return True

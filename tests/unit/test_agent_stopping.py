"""The loop is told to stop in a signal handler, which a second signal may interrupt anywhere."""

import random
import sys
import threading
from types import FrameType
from typing import Any

from muster_agent.loop import Loop, Outlets


def ignore(*_: object) -> None:
    """Take what the loop says."""


def stop_in_every_line_of(loop: Loop) -> None:
    """Stop, and again wherever that can be interrupted."""

    def interrupt(_frame: FrameType, _event: str, _value: object) -> Any:
        sys.settrace(None)
        loop.stop()
        sys.settrace(interrupt)
        return interrupt

    sys.settrace(interrupt)
    try:
        loop.stop()
    finally:
        sys.settrace(None)


def test_a_signal_that_interrupts_the_handler_of_another_does_not_lock_the_agent() -> None:
    loop = Loop(Outlets(ignore, ignore, ignore, ignore), tick_seconds=1.0, chance=random.Random(1))
    stopping = threading.Thread(target=stop_in_every_line_of, args=(loop,), daemon=True)
    stopping.start()
    stopping.join(20.0)

    assert not stopping.is_alive()

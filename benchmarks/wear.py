"""What a device writes to its disk in a day, as the kernel counts it: all pages, of all its processes.

A day is not waited for: every interval of the agent is shortened by ``LAPSE``, so that a run of ``SECONDS``
holds what an hour holds, and the rest is arithmetic. The peer is what the smallest memory cards can take.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from figure import Figure, publish
from msgspec.structs import replace
from rig.device import VERSION
from rig.http import caller
from rig.processes import written_bytes

from muster_agent.config import Settings, load_settings
from muster_models import toml_file
from muster_models.wire import Reporting
from story.ports import free_port
from support import agent_site

LAPSE = 30.0
SECONDS = 120.0
CALLS_PER_SECOND = 50.0  # of the busy device, in its own time
ROWS_PER_SECOND = CALLS_PER_SECOND * LAPSE
DAY = 86_400.0
REFRESH_SECONDS, HELLO_SECONDS = 3600.0, 21_600.0  # as a device has them unless told otherwise
CARD = "4 GB eMMC of 3,000 cycles, 10 years", 4e9 * 3000 / 3650 / 1e6  # MB a day
SHARE = 0.05  # of that, at most


def megabytes_a_day(folder: Path, *, is_busy: bool) -> float:
    """Run an agent for a while and return what it would write in a day, its log included."""
    folder.mkdir()
    port, usual, done = free_port(), Reporting(), threading.Event()
    with agent_site.running(folder) as site, ExitStack() as stack:
        site.device.settings.write_text(toml_file.render(_lapsed(load_settings(site.device), port)))
        digits = site.release_digits(VERSION)
        process = site.start_agent()
        stack.callback(process.wait)
        stack.callback(process.terminate)
        site.want(
            digits,
            window_seconds=usual.window_seconds / LAPSE,
            heartbeat_seconds=usual.heartbeat_seconds / LAPSE,
        )
        site.until_committed(digits)
        if is_busy:
            stack.enter_context(_calling(port, done))
        done.wait(usual.window_seconds / LAPSE)  # so that what the update wrote is not counted
        before = written_bytes(process.pid)
        done.wait(SECONDS)
        written = written_bytes(process.pid) - before
    if not written:
        raise SystemExit(f"{folder} is on a file system that does not account for what is written")
    return written / 1e6 * DAY / (SECONDS * LAPSE)


def _lapsed(settings: Settings, port: int) -> Settings:
    return replace(
        settings,
        serve_port=port,
        tick_seconds=1.0,
        refresh_seconds=REFRESH_SECONDS / LAPSE,
        hello_seconds=HELLO_SECONDS / LAPSE,
    )


@contextmanager
def _calling(port: int, done: threading.Event) -> Iterator[None]:
    """Predict all the while, at the pace of the busy device."""

    def call_all() -> None:
        call = caller(port)
        began, calls = time.monotonic(), 0
        while not done.is_set():
            call()
            calls += 1
            done.wait(max(0.0, began + calls / ROWS_PER_SECOND - time.monotonic()))

    calling = threading.Thread(target=call_all)
    calling.start()
    try:
        yield
    finally:
        done.set()
        calling.join()


def main() -> None:
    """Measure an idle and a busy device."""
    card, most = CARD
    with TemporaryDirectory() as scratch:
        days = {
            "idle": megabytes_a_day(Path(scratch) / "idle", is_busy=False),
            f"{CALLS_PER_SECOND:g} predictions/s": megabytes_a_day(Path(scratch) / "busy", is_busy=True),
        }
    run = f"{SECONDS:g} s at {LAPSE:g} x"
    publish(
        *(
            Figure(
                f"written to disk, {name} ({run})", written, most, card, "MB/day", written / most,
                f"<= {SHARE:g} x", written <= SHARE * most,
            )
            for name, written in days.items()
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()

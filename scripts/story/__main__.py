"""``scripts/demo``: tells the story in a terminal, and stops all that it started."""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from story.chapters import Story
from story.errors import StoryError
from story.fleet import Fleet
from story.view import View


def main() -> int:
    """Tell the story; 0 only when every step really happened."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="A small real fleet on this machine: publish, sign, enrol, install, canary, promote; a "
        "bad version that rolls itself back; attacks that are refused; drift at one site that is named.",
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    arguments = parser.parse_args()
    # Also where a shell that runs this in the background has set interrupts to be ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="muster-demo-") as folder:
        fleet = Fleet(Path(folder))
        try:
            with View(fleet.url) as view:
                return _tell(fleet, view, started, keep=arguments.keep)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        finally:
            fleet.stop()


def _tell(fleet: Fleet, view: View, started: float, *, keep: bool) -> int:
    try:
        facts = Story(fleet, view).tell()
    except StoryError as error:
        view.fail(str(error))
        return 1
    view.summary(time.monotonic() - started)
    view.note(f"{facts.fed['answered']:,} predictions on real rows, {facts.fed['failed']} without an answer.")
    if keep:
        view.note(f"Dashboard: {fleet.url}  token: {fleet.token}  Ctrl-C stops everything.")
        signal.pause()
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

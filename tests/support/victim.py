"""A process that updates and reports until it is killed: ``python -m support.victim FOLDER FIRST_NUMBER``.

It says on its output what it was told is done, so that whoever kills it knows what must be there.
"""

import sys
from contextlib import closing
from pathlib import Path

from muster_agent.disk import RealDisk
from muster_agent.update.steps import Restarted, Wanted
from support.device_course import DeviceCourse, Ledger
from support.outboxes import open_outbox, part
from support.store_crashes import WORLD


def main(folder: Path, number: int) -> None:
    course = DeviceCourse(RealDisk(folder / "store"), WORLD, Ledger())
    course.handle(Restarted(now=0.0))
    course.settle()
    with closing(open_outbox(folder / "outbox.sqlite")) as outbox:
        while True:
            sequence = course.state.sequence + 1
            version = WORLD.orders[sequence % len(WORLD.orders)]
            course.handle(Wanted(now=course.now, model=version.desired(), sequence=sequence))
            say("saved", sequence)
            outbox.add_event("installed", detail=str(number))
            say("added", number)
            outbox.add_window(part(number))
            course.settle()
            outbox.batch(0, 3)
            number += 1


def say(what: str, number: int) -> None:
    sys.stdout.write(f"{what} {number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

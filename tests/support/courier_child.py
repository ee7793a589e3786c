"""A courier that dies at a step of its choice: at the begin or commit of a transaction, or around a try."""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy import Engine, event

from muster_controller.config import Folder
from muster_controller.delivery.courier import Courier, Send
from muster_controller.delivery.http_post import Answer, Place, post
from muster_controller.store.engine import open_database
from support.alarms import deliveries, raise_alarm, settings_of
from support.databases import parse_place
from support.receiver import webhook


def work(engine: Engine, folder: Path, url: str, send: Send = post) -> None:
    """Raise an alarm, unless an earlier life did, and deliver what waits."""
    settings = webhook(folder, url)
    if not deliveries(engine):
        raise_alarm(engine, settings_of(settings), time.time())
    courier = Courier(
        engine, Folder(folder), settings, source="/muster", clock=time.time, luck=lambda: 0.0, send=send
    )
    while courier.deliver():
        pass


def main(folder: Path, url: str, dies_at: int, place: Path | str) -> None:
    """Work, and be killed at step ``dies_at``, counted from 1."""
    engine = open_database(place)
    step = dying(dies_at)
    event.listen(engine, "begin", lambda _connection: step())
    event.listen(engine, "commit", lambda _connection: step())

    def send(place: Place, body: bytes, headers: Mapping[str, str], *, now: float) -> Answer:
        step()
        answer = post(place, body, headers, now=now)
        step()
        return answer

    work(engine, folder, url, send)
    engine.dispose()


def dying(left: int) -> Callable[[], None]:
    """Return a function whose call number ``left`` kills the process."""

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return step


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), parse_place(sys.argv[4]))

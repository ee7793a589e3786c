"""The dispatcher is killed at every step between the alarm and its receiver: nothing is lost."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlmodel import select

from muster_controller.store.alarm_tables import AlarmCare
from muster_controller.store.engine import Reading, migrate, open_database
from support import databases
from support.alarms import deliveries
from support.courier_child import work
from support.database_marks import BOTH
from support.receiver import receiving

pytestmark = BOTH

STEPS = 20  # begins, commits and both sides of the try: two reads, the alarm, two reads, …
# Inside the alarm's transaction, before the try is written down, before, after and once it is settled.
SAMPLE = (4, 10, 13, 14, 16, 17)


def run(folder: Path, url: str, dies_at: int) -> int:
    place = str(databases.place(folder))
    return subprocess.run(
        [sys.executable, "-m", "support.courier_child", str(folder), url, str(dies_at), place],
        env=databases.child_environment(),
        check=False,
        timeout=60,
    ).returncode


@pytest.mark.parametrize(
    "dies_at",
    [step if step in SAMPLE else pytest.param(step, marks=pytest.mark.slow) for step in range(1, STEPS + 1)],
)
def test_a_kill_loses_nothing_and_a_repeat_has_the_same_id(tmp_path: Path, dies_at: int) -> None:
    engine = open_database(databases.place(tmp_path))
    migrate(engine)
    with receiving() as receiver:
        code = run(tmp_path, receiver.url, dies_at)
        with Reading(engine) as session:
            told = [care.told for care in session.exec(select(AlarmCare))]
        # The alarm, what was told of it, and the message are one transaction.
        assert len(told) == len(deliveries(engine))
        sent_before = len(receiver.got)
        assert sent_before <= len(told)

        work(engine, tmp_path, receiver.url)

    assert code == -signal.SIGKILL
    assert 1 <= len(receiver.got) <= 2
    assert len({(got.id, got.body) for got in receiver.got}) == 1
    assert all(got.is_genuine for got in receiver.got)
    assert [one.state for one in deliveries(engine)] == ["delivered"]
    engine.dispose()


def test_a_life_without_a_kill_has_no_more_steps(tmp_path: Path) -> None:
    engine = open_database(databases.place(tmp_path))
    migrate(engine)
    engine.dispose()
    with receiving() as receiver:
        code = run(tmp_path, receiver.url, STEPS + 1)

    assert (code, len(receiver.got)) == (0, 1)

"""Commands of jobs, really run: what they are given, what is kept, how they are ended, and kills."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from muster_controller.config import JobSettings, Settings
from muster_controller.reconcile.training import Training
from muster_controller.retraining.command import OUTPUT_BYTES, run
from muster_controller.retraining.runner import Runner
from muster_controller.service import history, jobs
from muster_controller.store.views.alarms import AlarmFilter, AlarmView
from muster_controller.store.views.jobs import JobView
from support.alarms import raise_alarm
from support.office import Office, open_office
from support.waiting import until

ROOT = Path(__file__).parents[2]


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@dataclass
class Shop:
    """A controller whose drift alarms start one command."""

    office: Office
    settings: Settings

    def start(self) -> None:
        """Raise an alarm, and let it start its job."""
        fields = {"baseline": self.office.baseline.digest}
        raise_alarm(self.office.context.engine, self.settings, self.office.clock.now, **fields)
        Training(self.office.context.engine, self.settings).train(self.office.clock.now)

    def runner(self) -> Runner:
        context = self.office.context
        return Runner(context.engine, context.folder, self.settings, clock=context.clock)

    @property
    def job(self) -> JobView:
        (found,) = jobs.list_jobs(self.office.context).items
        return found

    @property
    def alarms(self) -> tuple[AlarmView, ...]:
        return history.list_alarms(self.office.context, AlarmFilter(kind="job")).items


@pytest.fixture
def shops(tmp_path: Path) -> Iterator[Any]:
    opened: list[Office] = []

    def make(*command: str, **changes: Any) -> Shop:
        job = JobSettings("retrain", kinds=("data-drift",), command=command, **changes)
        office = open_office(tmp_path / "controller", jobs=(job,))
        opened.append(office)
        office.install()
        office.release("1.0.0")
        return Shop(office, office.context.settings)

    yield make
    for office in opened:
        office.opened.close()


def test_a_command_is_given_the_evidence_and_nothing_of_our_environment(
    shops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_ROOT", "/data")
    monkeypatch.setenv("OUR_PASSWORD", "do not tell")
    code = (
        "import os, json; print(json.dumps(dict(os.environ)));"
        "print(open(os.environ['MUSTER_EVIDENCE']).read())"
    )
    shop: Shop = shops(*python(code), environment=("TRAINING_ROOT",))
    shop.start()

    assert shop.runner().work() is True

    first, _, rest = shop.job.output.partition("\n")
    environment, report = json.loads(first), json.loads(rest)
    assert (shop.job.state, shop.job.exit_status) == ("done", 0)
    assert environment["TRAINING_ROOT"] == "/data"
    assert "OUR_PASSWORD" not in environment
    assert environment["MUSTER_PARENT"] == report["parent"]["digest"]
    assert (report["job"], report["model"], report["devices"]) == (1, "digits", ["berlin-1", "berlin-2"])
    assert shop.alarms == ()


def test_nothing_of_a_command_is_read_by_a_shell(shops: Any) -> None:
    shop: Shop = shops(*python("import sys; print(sys.argv[1:])"), "$(id); `id` && exit")
    shop.start()

    shop.runner().work()

    assert shop.job.output == "['$(id); `id` && exit']\n"


@pytest.mark.parametrize(
    ("command", "changes", "detail", "status"),
    [
        (python("raise SystemExit(3)"), {}, "its command ended with status 3", 3),
        (python("import os; os.kill(os.getpid(), 9)"), {}, "its command ended with status -9", -9),
        (("/nowhere/trainer",), {}, "No such file", None),
        (python("import time; time.sleep(60)"), {"timeout_seconds": 0.5}, "did not end within 0.5 s", -15),
    ],
    ids=["status", "killed", "missing", "hangs"],
)
def test_a_command_that_fails_is_an_alarm_with_its_status(
    shops: Any, command: tuple[str, ...], changes: dict[str, Any], detail: str, status: int | None
) -> None:
    shop: Shop = shops(*command, **changes)
    shop.start()

    shop.runner().work()

    assert (shop.job.state, shop.job.exit_status) == ("failed", status)
    assert detail in shop.job.detail
    assert [(alarm.state, alarm.subject) for alarm in shop.alarms] == [("firing", "retrain")]


def test_only_the_end_of_much_output_is_kept(shops: Any) -> None:
    shop: Shop = shops(*python("print('x' * 5_000_000); print('the end')"))
    shop.start()

    shop.runner().work()

    assert len(shop.job.output) == OUTPUT_BYTES
    assert shop.job.output.endswith("the end\n")


def test_what_a_command_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(c.pid, flush=True)"
    )

    ended = run(python(code), os.environ, tmp_path, timeout=30, cancelled=threading.Event())

    left = int(ended.output)
    assert ended.is_good
    assert until(lambda: not _is_alive(left))


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_stop_of_the_controller_ends_the_command_and_says_so(shops: Any) -> None:
    shop: Shop = shops(*python("import time; time.sleep(60)"))
    shop.start()
    runner = shop.runner()
    runner.start()
    running = until(lambda: shop.job.state == "running")

    runner.stop()

    assert running
    assert (shop.job.state, shop.job.detail) == ("failed", "the controller was stopped")


def test_a_kill_while_a_command_runs_leaves_it_unknown_and_never_running(shops: Any, tmp_path: Path) -> None:
    shop: Shop = shops(*python(f"open({str(tmp_path / 'begun')!r}, 'w'); import time; time.sleep(20)"))
    shop.start()
    child = subprocess.Popen(
        [sys.executable, "-m", "support.runner_child", str(shop.office.context.folder.root)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(ROOT / n) for n in ("models", "controller", "tests")),
        },
    )
    begun = until((tmp_path / "begun").exists)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (begun, shop.job.state) == (True, "running")

    runner = shop.runner()
    runner.lose_orphans()

    assert shop.job.state == "unknown"
    assert [alarm.state for alarm in shop.alarms] == ["firing"]
    assert runner.work() is False  # it is not run a second time by itself
    jobs.finish(shop.office.context, "anna", shop.job.id, "done", "I looked")
    assert shop.job.state == "done"
    assert [alarm.state for alarm in shop.alarms] == ["resolved"]

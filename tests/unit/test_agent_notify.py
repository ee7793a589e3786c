"""What the service manager is told, over a real datagram socket, and the unit that ships with the agent."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muster_agent.notify import Notifier, take_notifier

UNIT = Path(__file__).parents[2] / "agent/systemd/muster-agent@.service"
MAX_EXPOSURE = 3.0


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """A service manager's socket: its address, and what has come."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = f"@muster-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "n")
    sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)
    sock.setblocking(False)

    def come() -> list[str]:
        texts: list[str] = []
        while True:
            try:
                texts.append(sock.recv(100).decode())
            except BlockingIOError:
                return texts

    yield address, come
    sock.close()


Manager = tuple[str, Callable[[], list[str]]]


def test_the_manager_is_told_of_the_course_of_a_service(manager: Manager) -> None:
    address, come = manager
    now = [0.0]
    notifier = Notifier(address, watchdog_seconds=8.0, clock=lambda: now[0])
    notifier.ready()
    for second in range(7):
        now[0] = second
        notifier.alive()
    notifier.stopping()

    # Once in two seconds: a quarter of what the watchdog allows.
    assert come() == ["READY=1", *["WATCHDOG=1"] * 4, "STOPPING=1"]


def test_without_a_watchdog_no_sign_of_life_is_sent(manager: Manager) -> None:
    address, come = manager
    notifier = Notifier(address)
    notifier.alive()

    assert come() == []


def test_the_environment_says_whom_to_tell_and_children_do_not_inherit_it(manager: Manager) -> None:
    address, come = manager
    environment = {
        "NOTIFY_SOCKET": address,
        "WATCHDOG_USEC": "180000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    take_notifier(environment).alive()

    assert come() == ["WATCHDOG=1"]
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    "changes",
    [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}, {"NOTIFY_SOCKET": "vsock:2"}],
)
def test_a_watchdog_of_somebody_else_is_left_alone(manager: Manager, changes: dict[str, str]) -> None:
    address, come = manager
    take_notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"} | changes).alive()

    assert come() == []


def test_nobody_to_tell_is_no_failure(tmp_path: Path) -> None:
    take_notifier({}).ready()
    Notifier(str(tmp_path / "gone"), watchdog_seconds=1.0).alive()


def test_the_unit_is_confined() -> None:
    if sys.platform != "linux":
        return
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None, "this test needs systemd-analyze; on Debian: apt-get install systemd"
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", UNIT],
        capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)

    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= MAX_EXPOSURE


def test_the_watchdog_waits_longer_than_the_slowest_tick() -> None:
    seconds = re.search(r"^WatchdogSec=(\d+)$", UNIT.read_text(), re.MULTILINE)

    assert seconds is not None
    assert int(seconds[1]) > 2 * 60  # the bound of tick_seconds in agent.toml

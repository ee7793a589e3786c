"""A whole agent under a service manager: it says that it is up, that it lives, and that it goes down."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_agent import Agent
from muster_agent.notify import Notifier
from support import agent_site
from support.agent_site import AgentSite

LIMIT = 0.4  # seconds
SIGNS = 10  # as many as a loop that goes on gives within some seconds


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path) as site:
        yield site


def test_an_agent_tells_its_manager_of_its_course(
    site: AgentSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        began = time.monotonic()
        process = site.start_agent()
        told = [manager.recv(100).decode() for _ in range(6)]
        process.terminate()
        while told[-1] != "STOPPING=1":
            told.append(manager.recv(100).decode())

    assert process.wait(60) == 0
    assert told[0] == "READY=1"
    assert set(told[1:-1]) == {"WATCHDOG=1"}
    assert time.monotonic() - began > 4 * 0.1  # not at each tick, but as often as the watchdog needs


def test_the_signs_of_life_end_when_the_loop_stands_still_and_begin_again_with_it(
    site: AgentSite, tmp_path: Path
) -> None:
    stalled, goes_on = threading.Event(), threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        notifier = Notifier(str(tmp_path / "notify"), watchdog_seconds=LIMIT)
        with Agent(site.device.root, notifier=notifier) as agent:
            before = [manager.recv(100).decode() for _ in range(4)]
            tick = agent._course.tick

            def stand_still() -> None:
                stalled.set()
                goes_on.wait(60)
                tick()

            agent._course.tick = stand_still  # type: ignore[method-assign]  # as a disk that hangs does
            assert stalled.wait(30)
            manager.settimeout(3 * LIMIT)
            # What was sent until then, or was about to be, is still heard.
            late = list(itertools.takewhile(bool, (heard(manager) for _ in range(SIGNS))))
            goes_on.set()
            manager.settimeout(30)
            after = heard(manager)

    assert set(before[1:]) == {"WATCHDOG=1"}
    assert len(late) < SIGNS
    assert after == "WATCHDOG=1"


def heard(manager: socket.socket) -> str | None:
    try:
        return manager.recv(100).decode()
    except TimeoutError:
        return None

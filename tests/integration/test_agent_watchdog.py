"""A whole agent under a service manager: it says that it is up, that it lives, and that it goes down."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import agent_site
from support.agent_site import AgentSite


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

    assert process.wait(20) == 0
    assert told[0] == "READY=1"
    assert set(told[1:-1]) == {"WATCHDOG=1"}
    assert time.monotonic() - began > 4 * 0.1  # not at each tick, but as often as the watchdog needs

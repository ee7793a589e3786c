"""A real agent is killed in the middle of a long window: what it had copied comes up, the rest is said."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_agent import Client
from muster_models import wire
from support import agent_site
from support.agent_site import AgentSite
from support.small_models import scaling
from support.verified import rows

CALLS = 50


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path) as site:
        yield site


def copied(site: AgentSite) -> int:
    """Return how many calls the copy of the open window on the device's disk knows."""
    with contextlib.closing(sqlite3.connect(site.device.outbox)) as database:
        found = database.execute("SELECT payload FROM open_window WHERE payload NOT NULL").fetchone()
    if found is None:
        return 0
    window = wire.decode_uplink(found[0])
    assert isinstance(window, wire.Window)
    return window.calls


def test_a_killed_agent_hands_out_its_open_window_at_the_next_start(site: AgentSite) -> None:
    version = site.release_small("1.0.0", scaling(2.0), answer=2.0)
    first = site.start_agent()
    site.want(version, window_seconds=3600.0, save_seconds=0.1)
    site.until_committed(version)
    with Client(site.device.root) as client:
        for _ in range(CALLS):
            client.predict("small", rows(1.0))
        site.until(lambda: copied(site) == CALLS)
    first.kill()
    first.wait()
    second = site.start_agent()

    try:
        event = site.until_event("dropped")
        site.until(lambda: bool(site.windows))
    finally:
        second.terminate()
        second.wait(60)

    assert [window.calls for window in site.windows][:1] == [CALLS]
    assert event.model == "small"
    assert "the open window was handed out up to then" in event.detail

"""A real agent: what an application counts comes up in the windows of the version that answered."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_agent import Model
from support import agent_site
from support.agent_site import AgentSite
from support.small_models import scaling
from support.verified import rows


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path) as site:
        yield site


def test_what_is_counted_comes_up_with_the_version_that_answered(site: AgentSite) -> None:
    first = site.release_small("1.0.0", scaling(2.0), answer=2.0)
    process = site.start_agent()
    site.want(first, window_seconds=3600.0)
    site.until_committed(first)
    with Model("small", site.device.root) as model:
        model.predict(rows(1.0))
        model.count("scrap", 3)
        model.count("scrap")
        second = site.release_small("2.0.0", scaling(2.0), answer=2.0)
        site.want(second, window_seconds=3600.0)
        site.until_committed(second)
        model.predict(rows(1.0))
        model.count("good", 7)
    process.terminate()
    process.wait(60)
    again = site.start_agent()
    try:
        site.until(lambda: len({window.manifest for window in site.windows if window.calls}) > 1)
    finally:
        again.terminate()
        again.wait(60)
    counted = {window.manifest: window.counters for window in site.windows if window.calls}

    assert counted == {first.digest: {"scrap": 4}, second.digest: {"scrap": 0, "good": 7}}

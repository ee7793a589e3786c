"""A real agent and a real broker: rows come on order where agent.toml allows it, and a refusal where not."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from muster_agent import Client
from muster_agent.config import Privacy, load_settings
from muster_models import toml_file, wire
from muster_models.errors import Reason
from muster_models.tensors import decode_tensors
from support import agent_site
from support.agent_site import AgentSite
from support.small_models import WIDTH, scaling

FAR = 4e9


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path) as site:
        yield site


def allow(site: AgentSite) -> None:
    settings = replace(load_settings(site.device), privacy=Privacy(samples=True))
    site.device.settings.write_text(toml_file.render(settings))


def order(rows: int, number: int = 1) -> wire.SampleOrder:
    return wire.SampleOrder(number, "small", rows, FAR)


def test_rows_come_up_to_the_cap_also_across_a_restart(site: AgentSite) -> None:
    allow(site)
    version = site.release_small("1.0.0", scaling(2.0), answer=2.0)
    rows = np.arange(6 * WIDTH, dtype=np.float32).reshape(6, WIDTH)
    agent = site.start_agent()
    try:
        site.want(version, samples=(order(8),))
        site.until_committed(version)
        with Client(site.device.root) as client:
            site.until(lambda: client.predict("small", {"x": rows}) and site.samples)
        agent.terminate()
        agent.wait(60)
        agent = site.start_agent()
        with Client(site.device.root) as client:
            site.until(lambda: "small" in site.status()["answering"])
            for _ in range(20):
                client.predict("small", {"x": rows})
        site.want(version, samples=(order(8), order(1, number=2)))
        with Client(site.device.root) as client:
            site.until(
                lambda: client.predict("small", {"x": rows}) and [s for s in site.samples if s.order == 2]
            )
    finally:
        agent.terminate()
        agent.wait(60)

    of_first = [sample for sample in site.samples if sample.order == 1]
    assert sum(sample.rows for sample in of_first) == 8
    assert {sample.manifest for sample in of_first} == {version.digest}
    first = of_first[0]
    assert decode_tensors(first.inputs)["x"][0].tolist() == rows[0].tolist()
    assert decode_tensors(first.outputs)["y"][0].tolist() == (rows[0] * 2).tolist()


def test_a_device_whose_settings_say_nothing_refuses_and_hands_out_no_row(site: AgentSite) -> None:
    version = site.release_small("1.0.0", scaling(2.0), answer=2.0)
    agent = site.start_agent()
    try:
        site.want(version, samples=(order(8),))
        site.until_committed(version)
        with Client(site.device.root) as client:
            for _ in range(20):
                client.predict("small", {"x": np.ones((6, WIDTH), np.float32)})
        site.until(lambda: site.samples)
        site.until(lambda: sum(window.calls for window in site.windows) >= 20)
    finally:
        agent.terminate()
        agent.wait(60)

    (sample,) = site.samples
    assert (sample.order, sample.rows, sample.inputs, sample.outputs) == (1, 0, b"", b"")
    assert sample.reason is Reason.NOT_ALLOWED

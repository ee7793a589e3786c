"""No row leaves a device: a real agent is asked marked rows, and every byte at the broker is searched."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from muster_agent import Client
from muster_agent.config import Privacy, load_settings
from muster_models import toml_file, wire
from muster_models.errors import MusterError
from muster_models.publish.build import build
from muster_models.publish.source import read_source
from muster_models.trust.verified import VerifiedManifest
from support import agent_site
from support.agent_site import CREATED, AgentSite
from support.eavesdrop import Heard, eavesdropping, traces_of
from support.marked import CITY, CODE, FAR, NUMBERS, TRACES, marked_rows, write_discreet_tariff

FOR_EVER = 4e9


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path) as site:
        yield site


def release_tariff(site: AgentSite) -> VerifiedManifest:
    """Release a version that sketches a text, a code and two numbers, and reveals no names."""
    folder = write_discreet_tariff(site.folder / "tariff")
    built = build(read_source(folder), release=1, created=CREATED, output=site.folder / "built")
    contents = {path.name: path.read_bytes() for path in built.files.values()}
    return site.repository.release(contents, manifest=built.manifest)


def ask_marked_rows(client: Client, times: int) -> None:
    for _ in range(times):
        client.predict("tariff", marked_rows())


def ask_what_is_refused(client: Client) -> None:
    """Errors are told too: what they say must not be the row."""
    broken = [
        {
            "city": np.array([[CITY]], dtype=object),
            "gear": np.full((1, 1), CODE),
            "trip": np.full((1, 3), FAR),
        },
        {"city": np.array([[CITY]], dtype=object), "trip": np.full((1, 2), NUMBERS[0], dtype=np.float32)},
        {
            "city": np.array([[CITY]], dtype=object),
            "gear": np.full((1, 1), FAR),
            "trip": np.array([[CITY, CITY]]),
        },
    ]
    for inputs in broken:
        with pytest.raises(MusterError):
            client.predict("tariff", inputs)


def test_no_value_of_a_row_passes_the_broker_in_any_form(site: AgentSite) -> None:
    version = release_tariff(site)
    with eavesdropping(site.broker.port, site.broker.authority) as heard:
        agent = site.start_agent()
        try:
            # Ordered, but the device's own settings say nothing of it.
            order = wire.SampleOrder(1, "tariff", 1000, FOR_EVER)
            site.want(version, heartbeat_seconds=1.0, samples=(order,))
            site.until_committed(version)
            with Client(site.device.root) as client:
                ask_marked_rows(client, 40)
                ask_what_is_refused(client)
                ask_marked_rows(client, 40)
            site.until(lambda: sum(window.calls for window in site.windows) >= 80)
            site.until(lambda: site.samples)
            site.until(lambda: any(topic.endswith("/window") for topic, _ in heard.messages))
        finally:
            agent.terminate()
            agent.wait(60)

    assert sum(window.calls for window in site.windows) >= 80
    assert {topic.rpartition("/")[2] for topic, _ in heard.messages} >= {
        "hello",
        "report",
        "window",
        "sample",
    }
    assert heard.find(TRACES) == []


def test_the_search_finds_the_rows_of_a_device_that_allows_an_order(site: AgentSite) -> None:
    settings = replace(load_settings(site.device), privacy=Privacy(samples=True))
    site.device.settings.write_text(toml_file.render(settings))
    version = release_tariff(site)
    with eavesdropping(site.broker.port, site.broker.authority) as heard:
        agent = site.start_agent()
        try:
            site.want(version, samples=(wire.SampleOrder(1, "tariff", 1000, FOR_EVER),))
            site.until_committed(version)
            with Client(site.device.root) as client:

                def is_sampled() -> bool:
                    ask_marked_rows(client, 1)
                    return bool(site.samples)

                site.until(is_sampled)
            site.until(lambda: any(topic.endswith("/sample") for topic, _ in heard.messages))
        finally:
            agent.terminate()
            agent.wait(60)

    assert {topic.rpartition("/")[2] for topic, _ in heard.find(TRACES)} == {"sample"}


@pytest.mark.parametrize("value", [NUMBERS[0], FAR, CITY], ids=str)
def test_the_search_finds_a_value_that_an_error_would_tell(value: float | str) -> None:
    leak = wire.Event("press-1", 1, 1, 0.0, "failed", detail=f"expected less than 5, got {value}")
    packed = wire.Window(
        "press-1", 1, 1, "tariff", "a" * 64, "b" * 64, 0.0, 1.0, 1, 0, (1,),
        sketch=value.encode() if isinstance(value, str) else struct.pack("<f", value),
    )  # fmt: skip
    heard = Heard([("up/event", wire.encode(leak)), ("up/window", wire.encode(packed))])

    assert {topic for topic, _ in heard.find(traces_of(value))} == {"up/event", "up/window"}

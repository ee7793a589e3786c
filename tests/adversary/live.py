"""Attacks on a whole agent process that answers meanwhile; more are in ``integration/test_agent_app.py``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tuf.api.metadata import Metadata

from adversary.scenario import BROKER, Kind, Play, Scenario
from adversary.world import DAY, World
from muster_agent import Client
from muster_models.errors import Reason
from support import agent_site
from support.agent_site import AgentSite
from support.repository import make_signer
from support.small_models import scaling
from support.verified import rows


@contextmanager
def running(world: World) -> Iterator[AgentSite]:
    """Run an agent that answers with ``small`` 1.0.0, which doubles."""
    folder = world.folder / "site"
    folder.mkdir()
    with agent_site.running(folder) as site:
        process = site.start_agent()
        try:
            first = site.release_small("1.0.0", scaling(2.0), answer=2.0)
            site.want(first)
            site.until_committed(first)
            yield site
        finally:
            process.terminate()
            process.wait(20.0)


def assert_answers(site: AgentSite) -> None:
    with Client(site.device.root) as client:
        assert client.predict("small", rows(1.0))["y"][0, 0] == 2.0


def expired(world: World) -> Reason | None:
    """Let the timestamp expire, and order a version: the device reports why it does not install it."""
    with running(world) as site:
        second = site.release_small("2.0.0", scaling(3.0), answer=3.0)
        repository = site.repository
        document: Metadata[Any] = Metadata.from_bytes(repository.document("timestamp"))
        document.signed.version += 1
        document.signed.expires = repository.now - DAY
        document.sign(repository.timestamp_key)
        (repository.metadata / "timestamp.json").write_bytes(document.to_bytes())
        site.want(second)
        report = site.until(lambda: site.model_report(lambda model: model.reason is not None))
        assert_answers(site)
        return report.reason


def repeated(site: AgentSite, digest: str) -> bool:
    """Send the newest order once more, as after each greeting; tell whether it was followed."""
    assert site.newest is not None
    site.send(site.newest)
    return bool(
        site.model_report(lambda model: model.current is not None and model.current.manifest == digest)
    )


def flooded(*, envelopes: int) -> Play:
    """Send forged orders as fast as they go; a true one that is repeated gets through."""

    def play(world: World) -> Reason | None:
        with running(world) as site:
            second = site.release_small("2.0.0", scaling(3.0), answer=3.0)
            stranger = make_signer()
            forged = site.repository.envelope(
                site.repository.desired(second, device=agent_site.DEVICE, sequence=99), signer=stranger
            )
            for _ in range(envelopes):
                site.send(forged)
            event = site.until_event("refused", Reason.WRONG_KEY)
            assert_answers(site)
            site.want(second)
            site.until(lambda: repeated(site, second.digest))
            return event.reason

    return play


SCENARIOS = (
    Scenario(
        "live-expired",
        Kind.FREEZE,
        "the mirror, for 8 days",
        "freezes the repository of an agent that answers meanwhile, until the timestamp expires",
        Reason.EXPIRED,
        expired,
        slow=True,
    ),
    Scenario(
        "live-forged-orders",
        Kind.ORDERS,
        BROKER,
        "sends 1,000 forged orders to an agent that answers meanwhile",
        Reason.WRONG_KEY,
        flooded(envelopes=1000),
        slow=True,
    ),
)

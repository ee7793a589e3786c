"""A whole real agent whose candidate answers in shadow first: process, workers, broker, downloads."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from muster_agent import Client
from muster_models.errors import MusterError, PredictionError, Reason
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Phase, Shadow, ShadowCounts
from support import agent_site
from support.agent_site import AgentSite, Process
from support.small_models import crashing_above, hanging_above, not_finite_above, scaling
from support.verified import rows

Start = Callable[[], Process]
STOP_SECONDS = 60.0
ORDER = Shadow(seconds=2.0, cpu_percent=100)
LONG = Shadow(seconds=3600.0, cpu_percent=100)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path) as site:
        yield site


@pytest.fixture
def start(site: AgentSite) -> Iterator[Start]:
    running: list[Process] = []

    def starting() -> Process:
        running.append(site.start_agent())
        return running[-1]

    yield starting
    for process in running:
        process.terminate()
        process.wait(STOP_SECONDS)


class Caller(threading.Thread):
    """Asks the model without pause, and keeps what it was answered."""

    def __init__(self, site: AgentSite) -> None:
        super().__init__()
        self.site = site
        self.done = threading.Event()
        self.answers: set[bytes] = set()
        self.failures: list[MusterError] = []

    def run(self) -> None:
        with Client(self.site.device.root) as client:
            while not self.done.is_set():
                try:
                    self.answers.add(client.predict("small", rows(9.0))["y"].tobytes())
                except MusterError as error:
                    self.failures.append(error)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.join()


def install_first(site: AgentSite) -> VerifiedManifest:
    first = site.release_small("1.0.0", scaling(2), answer=2.0)
    site.want(first)
    site.until_committed(first)
    return first


def answered(factor: float) -> bytes:
    return rows(9.0 * factor)["x"].tobytes()


def counts_of(site: AgentSite) -> list[ShadowCounts]:
    return [window.shadow for window in site.windows if window.shadow is not None]


def test_a_candidate_is_asked_in_shadow_counted_in_the_windows_and_activated_afterwards(
    site: AgentSite, start: Start
) -> None:
    start()
    first = install_first(site)
    second = site.release_small("1.1.0", scaling(3), answer=3.0)
    with Caller(site) as caller:
        site.want(second, shadow=LONG)
        shadowed = site.until_phase(Phase.SHADOW, second)
        site.until(lambda: counts_of(site))
        seen = site.until(lambda: site.status()["answering"]["small"]["shadow"])
        status = site.command("status", site.device.root).stdout
        during = set(caller.answers)
        site.want(second, shadow=ORDER)
        site.until_committed(second)

    assert (shadowed.current and shadowed.current.manifest, shadowed.tries) == (first.digest, 1)
    assert caller.failures == []
    assert during == {answered(2)}
    assert caller.answers <= {answered(2), answered(3)}
    counts = counts_of(site)[0]
    assert (counts.candidate, counts.errors, counts.agreed) == (second.digest, 0, 0)
    assert counts.rows == counts.calls > 0
    assert counts.difference == pytest.approx(9.0 * counts.rows)
    assert {window.manifest for window in site.windows if window.shadow is not None} == {first.digest}
    assert seen["candidate"] == second.digest
    assert "in shadow  1.1.0  agrees on 0.0% of" in status


BAD = {
    "crashes": (crashing_above(5), Reason.CRASHED),
    "answers NaN": (not_finite_above(5), Reason.NOT_FINITE),
    "hangs": (hanging_above(5), Reason.HUNG),
}


@pytest.mark.parametrize(("model", "reason"), BAD.values(), ids=BAD.keys())
def test_a_candidate_that_fails_in_shadow_is_never_activated_and_no_call_fails(
    site: AgentSite, start: Start, model: bytes, reason: Reason
) -> None:
    start()
    first = install_first(site)
    second = site.release_small("1.1.0", model, answer=1.0)
    with Caller(site) as caller:
        site.want(second, shadow=LONG)
        report = site.until_phase(Phase.FAILED, second)
        event = site.until_event("failed", reason)

    assert (report.reason, report.detail.startswith("in shadow: ")) == (reason, True)
    assert report.current is not None
    assert report.current.manifest == first.digest
    assert event.manifest == second.digest
    assert (caller.failures, caller.answers) == ([], {answered(2)})
    assert [event.kind for event in site.events if event.manifest == second.digest] == ["installed", "failed"]


def test_an_agent_that_is_killed_in_shadow_goes_on_with_it(site: AgentSite, start: Start) -> None:
    process = start()
    install_first(site)
    second = site.release_small("1.1.0", scaling(2), answer=2.0)
    site.want(second, shadow=LONG)
    site.until_phase(Phase.SHADOW, second)
    process.kill()
    process.wait(STOP_SECONDS)
    start()
    again = site.until(
        lambda: site.model_report(lambda model: model.phase is Phase.SHADOW and model.tries == 2)
    )
    with Caller(site):
        site.until(lambda: counts_of(site))

    assert again.target == second.digest


def test_an_order_that_stops_the_model_ends_the_shadow(site: AgentSite, start: Start) -> None:
    start()
    install_first(site)
    second = site.release_small("1.1.0", scaling(2), answer=2.0)
    site.want(second, shadow=LONG)
    site.until_phase(Phase.SHADOW, second)
    site.want(second, shadow=LONG, stop=True)
    report = site.until_committed(second)

    assert report.detail == "no shadow: no other version answers here"
    with Client(site.device.root) as client:
        assert client.predict("small", rows(9.0))["y"][0, 0] == -1.0


def test_the_version_before_can_be_had_back_by_order_while_another_is_in_shadow(
    site: AgentSite, start: Start
) -> None:
    start()
    first = install_first(site)
    second = site.release_small("1.1.0", scaling(2), answer=2.0)
    site.want(second, shadow=LONG)
    site.until_phase(Phase.SHADOW, second)
    site.want(first)
    report = site.until(lambda: site.model_report(lambda model: model.phase is Phase.SUPERSEDED))
    gone = site.until(lambda: site.status()["answering"]["small"]["shadow"] is None)

    assert report.current is not None
    assert (report.current.manifest, gone) == (first.digest, True)


def test_where_two_versions_do_not_fit_there_is_no_shadow_and_the_report_says_so(
    site: AgentSite, start: Start
) -> None:
    start()
    install_first(site)
    second = site.release_small("1.1.0", scaling(2), answer=2.0, swap="stop-then-load")
    site.want(second, shadow=LONG)
    report = site.until_committed(second)

    assert report.detail == "no shadow: two versions do not fit into memory, as is declared"


def test_a_first_installation_needs_no_shadow(site: AgentSite, start: Start) -> None:
    start()
    first = site.release_small("1.0.0", scaling(2), answer=2.0)
    site.want(first, shadow=LONG)

    assert site.until_committed(first).detail == "no shadow: no other version answers here"
    with Client(site.device.root) as client, pytest.raises(PredictionError):
        client.predict("unknown", rows(1.0))

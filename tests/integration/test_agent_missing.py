"""A real agent whose model answers NaN where its input does: calls fail, and the gaps are counted."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from muster_agent import Client
from muster_controller.domain.drift.calls import measure_calls
from muster_controller.domain.drift.measures import MISSING, Scorer
from muster_controller.domain.facts import WindowFacts
from muster_models.errors import PredictionError, Reason
from muster_models.sketch import codec
from muster_models.sketch.baseline import COMPONENTS, Baseline, decode_baseline
from muster_models.sketch.features import VALUE
from muster_models.wire import Window
from support import agent_site
from support.agent_site import AgentSite
from support.small_models import WIDTH, scaling

CALLS, GAPS = 40, 12


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AgentSite]:
    with agent_site.running(tmp_path) as site:
        yield site


def ask(client: Client) -> list[Reason]:
    """Ask one row a call, some without the sensor's value; return why calls had no answer."""
    refused = []
    for call in range(CALLS):
        row = np.full((1, WIDTH), 0.1 * call, np.float32)
        row[0, 0] = np.nan if call < GAPS else row[0, 0]
        try:
            client.predict("small", {"x": row})
        except PredictionError as error:
            refused.append(error.reason)
    return refused


def missing(window: Window, baseline: Baseline) -> dict[str, int]:
    """Return how many rows of each column were missing."""
    if not window.sketch:
        return {}
    counts = codec.decode(window.sketch, baseline).counts
    return {column.name: int(held[-1]) for column, held in zip(baseline.columns, counts, strict=True)}


def facts(window: Window, baseline: Baseline) -> WindowFacts:
    return WindowFacts(
        window.device,
        window.manifest,
        start=window.start,
        end=window.end,
        calls=window.calls,
        errors=window.errors,
        latency=window.latency,
        sketch=codec.decode(window.sketch, baseline),
        baseline=baseline,
    )


@pytest.mark.parametrize("options", [(), ("--inline",)], ids=["worker", "inline"])
def test_gaps_are_counted_though_their_calls_fail(site: AgentSite, options: tuple[str, ...]) -> None:
    version = site.release_small("1.0.0", scaling(2.0), answer=2.0)
    blobs = site.repository.folder / "blobs"
    baseline = decode_baseline((blobs / version.manifest.file("baseline").sha256).read_bytes())
    agent = site.start_agent(*options)
    try:
        site.want(version)
        site.until_committed(version)
        with Client(site.device.root) as client:
            refused = ask(client)
        site.until(lambda: sum(window.calls for window in site.windows) >= CALLS)
    finally:
        agent.terminate()
        agent.wait(60)
    gaps = [missing(window, baseline) for window in site.windows]
    seen = [facts(window, baseline) for window in site.windows if window.sketch]
    data = Scorer(baseline).measure([one.sketch for one in seen if one.sketch is not None])
    calls = measure_calls(seen, data, baseline)

    assert refused == [Reason.NOT_FINITE] * GAPS
    assert sum(window.errors for window in site.windows) == GAPS
    assert sum(one.get("first", 0) for one in gaps) == GAPS
    assert sum(one.get(VALUE, 0) for one in gaps) == GAPS
    assert sum(one.sums[0, 2 * COMPONENTS + MISSING] for one in calls) == 0.0

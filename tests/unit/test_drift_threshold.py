"""A threshold that somebody names on a classic statistic, and the false alarms that it means."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from muster_controller.service.drift import DriftQuery
from muster_controller.service.drift_threshold import (
    STATISTICS,
    Statistic,
    rate_without_drift,
    show_threshold,
)
from muster_models.sketch.baseline import make_baseline
from support.office import Clock, Office, open_office

ROWS = np.random.default_rng(5).normal(size=(20_000, 1))
(COLUMN,) = make_baseline(ROWS, {"x": "numeric"}).columns


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Two devices of one site each; berlin sees larger values."""
    made = open_office(tmp_path / "controller", clock=Clock(1_800_000_000.0))
    made.install()
    digest = made.release().version.digest
    made.enrol("berlin-1", "oslo-1")
    for index in range(10):
        end = made.clock.now - (10 - index) * 300.0
        made.add_window("berlin-1", digest, end=end, shift=2.0)
        made.add_window("oslo-1", digest, end=end, shift=0.0)
    yield made
    made.opened.close()


@pytest.mark.parametrize(
    ("rows", "least", "most"),
    [(50, 0.2, 0.9), (100, 0.0, 0.2), (1000, 0.0, 0.0)],  # (1/n + 1/m) chi2 with some ten degrees
)
def test_the_false_alarms_of_psi_hang_on_the_rows_and_not_on_drift(
    rows: int, least: float, most: float
) -> None:
    assert least <= rate_without_drift(COLUMN, "psi", 0.2, rows) <= most


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_threshold_of_nothing_is_always_crossed_and_a_huge_one_never(statistic: Statistic) -> None:
    assert rate_without_drift(COLUMN, statistic, 0.0, 200) > 0.99
    assert rate_without_drift(COLUMN, statistic, 1e6, 200) == 0.0


def test_no_rows_cross_nothing() -> None:
    assert rate_without_drift(COLUMN, "psi", 0.2, 0) == 0.0


def test_windows_above_are_counted_beside_what_chance_gives(office: Office) -> None:
    shown = {
        site: show_threshold(office.context, "digits", DriftQuery(f"site={site}"), "psi", 0.2)
        for site in ("berlin", "oslo")
    }
    (moved,), (calm,) = shown["berlin"].features, shown["oslo"].features

    assert (shown["berlin"].windows, shown["berlin"].rows) == (10, 200)
    assert (moved.above, moved.share) == (10, 1.0)
    assert calm.share <= 0.2
    assert moved.without_drift == calm.without_drift <= 0.05


def test_no_windows_are_no_crossings(office: Office) -> None:
    office.clock.now += 30 * 86_400
    shown = show_threshold(office.context, "digits", DriftQuery(), "ks", 0.1)

    assert (shown.windows, shown.rows) == (0, 0)
    assert [(one.above, one.share, one.without_drift) for one in shown.features] == [(0, 0.0, 0.0)]

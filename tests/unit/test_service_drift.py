"""What the drift page shows."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.domain.drift.detector import Signal
from muster_controller.service import drift
from muster_controller.service.drift import DriftQuery
from muster_controller.service.sketches import Sketches
from muster_controller.store import drift as store
from muster_controller.store.baselines import Baselines
from muster_models.errors import NotFoundError
from support.office import Clock, Office, open_office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Four devices at two sites; berlin sees larger values in the second half of ten windows."""
    made = open_office(tmp_path / "controller", clock=Clock(1_800_000_000.0))
    made.install()
    digest = made.release().version.digest
    made.enrol("berlin-1", "berlin-2", "oslo-1", "oslo-2")
    for index in range(10):
        end = made.clock.now - (10 - index) * 300.0
        for device in ("berlin-1", "berlin-2", "oslo-1", "oslo-2"):
            shift = 2.0 if device.startswith("berlin") and index >= 5 else 0.0
            made.add_window(device, digest, end=end, shift=shift)
    yield made
    made.opened.close()


def test_the_fleet_is_the_sum_of_its_windows(office: Office) -> None:
    view = drift.show_drift(office.context, "digits", DriftQuery())

    assert (view.level, view.windows, view.rows, view.devices) == ("fleet", 40, 8000, 4)
    assert view.choices == ("site=berlin", "site=oslo")
    assert sum(view.features[0].counts) == 8000
    assert sum(view.latency) == view.calls == 8000
    assert [version.name for version in view.versions] == ["digits@1.0.0"]
    assert not view.truncated


def test_no_more_windows_are_read_than_are_kept(office: Office) -> None:
    kept = Sketches(Baselines(office.context.blobs), most=7 * len(office.baseline.columns))
    view = drift.show_drift(dataclasses.replace(office.context, sketches=kept), "digits", DriftQuery())

    assert (view.windows, view.rows, view.truncated) == (7, 1400, True)


def test_a_group_that_moved_stands_out_from_one_that_did_not(office: Office) -> None:
    (moved,) = drift.show_drift(office.context, "digits", DriftQuery("site=berlin")).features
    (calm,) = drift.show_drift(office.context, "digits", DriftQuery("site=oslo")).features

    assert calm.psi < 0.05
    assert moved.psi > 0.3
    assert moved.mean is not None
    assert moved.mean == pytest.approx(1.0, abs=0.1)
    assert calm.ks < 0.1 < moved.ks
    assert moved.wasserstein > 5 * calm.wasserstein


def test_the_series_shows_when_it_moved(office: Office) -> None:
    (feature,) = drift.show_drift(office.context, "digits", DriftQuery("berlin-1")).features
    held = [value for value in feature.series.mean if value is not None]

    assert len(held) == 10
    assert max(held[:5]) < 0.5
    assert min(held[5:]) > 1.5
    assert len(feature.series.psi) == drift.BUCKETS


def test_groups_come_before_devices_and_what_moved_most_comes_first(office: Office) -> None:
    view = drift.show_drift(office.context, "digits", DriftQuery())

    assert [subject.subject for subject in view.subjects[:2]] == ["site=berlin", "site=oslo"]
    assert {subject.subject for subject in view.subjects[2:4]} == {"berlin-1", "berlin-2"}
    assert view.subjects[0].worst == "brightness"


def test_only_recent_windows_are_read(office: Office) -> None:
    view = drift.show_drift(office.context, "digits", DriftQuery(seconds=900.0))

    assert view.windows == 8  # two whole buckets, and the one that is filling


def test_an_open_alarm_stands_at_its_feature(office: Office) -> None:
    now = office.clock.now
    signal = Signal(
        "data-drift",
        "group",
        "site=berlin",
        "brightness",
        "firing",
        now,
        now,
        None,
        effect=2.0,
        unit="sd",
        evidence={},
    )
    with office.context.unit() as session:
        store.save_alarm(session, "digits", office.baseline.digest, signal=signal)

    group = drift.show_drift(office.context, "digits", DriftQuery("site=berlin"))
    fleet = drift.show_drift(office.context, "digits", DriftQuery())

    assert group.features[0].alarm == group.alarms[0].id
    assert fleet.features[0].alarm is None
    assert [subject.subject for subject in fleet.subjects if subject.firing] == ["site=berlin"]


def test_without_windows_the_page_is_empty_and_not_an_error(office: Office) -> None:
    office.clock.now += 30 * 86_400.0
    view = drift.show_drift(office.context, "digits", DriftQuery())

    assert (view.windows, view.rows, view.features[0].mean) == (0, 0, None)
    assert view.features[0].psi == 0.0


@pytest.mark.parametrize("subject", ["site=paris", "nobody", "role=press"])
def test_who_is_not_there_is_not_found(office: Office, subject: str) -> None:
    with pytest.raises(NotFoundError):
        drift.show_drift(office.context, "digits", DriftQuery(subject))


def test_an_unknown_model_or_baseline_is_not_found(office: Office) -> None:
    with pytest.raises(NotFoundError):
        drift.show_drift(office.context, "nothing", DriftQuery())
    with pytest.raises(NotFoundError):
        drift.show_drift(office.context, "digits", DriftQuery(baseline="0" * 64))

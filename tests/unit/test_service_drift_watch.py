"""What the detectors add to the drift page: control bands, evidence, the heat map."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.service.drift import DriftQuery, show_drift
from muster_controller.service.drift_views import ControlView, DriftView, FeatureView
from support.drifting import BROKEN, CALIBRATION, DEVICES, DRIFTED, SLOW, Fleet, drifted_fleet, open_fleet

SICK = 14  # rounds since something is wrong


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = drifted_fleet(tmp_path_factory.mktemp("fleet"))
    yield made
    made.office.opened.close()


@pytest.fixture
def young(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet that has not calibrated yet."""
    made = open_fleet(tmp_path / "young")
    made.report(CALIBRATION - 2)
    yield made
    made.office.opened.close()


def look(fleet: Fleet, subject: str = "all") -> DriftView:
    return show_drift(fleet.office.context, "press", DriftQuery(subject=subject))


def feature(view: DriftView, name: str) -> FeatureView:
    return next(found for found in view.features if found.name == name)


def values(view: DriftView, name: str) -> ControlView:
    control = feature(view, name).control
    assert control is not None
    return control


def quality(view: DriftView, name: str) -> ControlView:
    control = feature(view, name).quality
    assert control is not None
    return control


def known(values: tuple[float | None, ...]) -> list[float]:
    return [value for value in values if value is not None]


def test_a_site_that_drifts_leaves_its_band_when_it_begins_and_not_before(fleet: Fleet) -> None:
    distance = known(values(look(fleet, f"site={DRIFTED}"), "brightness").distance)

    assert max(distance[:-SICK]) < 1
    assert min(distance[-SICK:]) > 2


def test_what_is_calm_stays_within_its_band(fleet: Fleet) -> None:
    """Of a thousand calm windows three may stick out; here are 2,100."""
    view = look(fleet, "porto-1"), look(fleet, "site=porto"), look(fleet)
    calm = [
        distance
        for one in view
        for held in one.features
        for control in (held.control, held.quality)
        if control is not None and control.subject == one.subject
        for distance in known(control.distance)
    ]

    assert len(calm) > 2100
    assert sum(distance > 1 for distance in calm) <= 0.01 * len(calm)


def test_a_change_is_told_in_the_own_unit_of_a_column(fleet: Fleet) -> None:
    control = values(look(fleet, f"site={DRIFTED}"), "brightness")

    assert control.before == pytest.approx(420, abs=10)
    assert control.after == pytest.approx(420 - 0.8 * 35, abs=12)
    assert control.leg == "location"


def test_the_fleet_shows_a_column_as_whom_its_alarm_is_about_sees_it(fleet: Fleet) -> None:
    view = look(fleet)
    control = values(view, "brightness")

    assert (control.level, control.subject) == ("group", f"site={DRIFTED}")
    assert min(known(control.distance)[-SICK:]) > 2
    assert (values(view, "temperature").level, values(view, "temperature").subject) == ("fleet", "all")


def test_missing_values_are_a_matter_of_quality_and_not_of_drift(fleet: Fleet) -> None:
    view = look(fleet)
    missing = quality(view, "humidity")

    assert (missing.subject, missing.leg) == (BROKEN, "missing")
    assert missing.before == pytest.approx(0, abs=0.01)
    assert missing.after == pytest.approx(0.3, abs=0.12)
    assert max(known(values(look(fleet, BROKEN), "humidity").distance)) < 1.3


def test_features_are_ranked_by_evidence(fleet: Fleet) -> None:
    view = look(fleet)

    assert view.ranked[0].name == "brightness"
    assert view.by_quality[0].name == "humidity"
    assert {found.name for found in view.by_quality} == {
        found.name for found in view.features if not found.is_prediction
    }


def test_evidence_is_beyond_the_bound_where_there_is_an_alarm_and_below_it_elsewhere(fleet: Fleet) -> None:
    alarmed, calm = values(look(fleet), "brightness").evidence, values(look(fleet), "vibration").evidence
    assert alarmed is not None
    assert calm is not None

    assert alarmed.value > alarmed.bound
    assert calm.value < calm.bound / 2


@pytest.mark.parametrize(
    ("subject", "about"),
    [
        ("site=porto", set()),
        (BROKEN, {BROKEN}),
        (f"{DRIFTED}-1", {f"site={DRIFTED}"}),
        ("site=oslo", {BROKEN}),
    ],
)
def test_only_alarms_about_the_devices_that_are_looked_at_concern_a_view(
    fleet: Fleet, subject: str, about: set[str]
) -> None:
    view = look(fleet, subject)

    assert {alarm.subject for alarm in view.alarms if alarm.id in view.concerned} == about


def test_slow_calls_are_a_kind_of_their_own(fleet: Fleet) -> None:
    view = look(fleet, SLOW)
    assert view.performance is not None
    latency, errors = view.performance.latency, view.performance.errors
    assert latency is not None
    assert errors is not None
    assert latency.before is not None
    assert latency.after is not None

    assert min(known(latency.distance)[-SICK:]) > 1
    assert latency.after > 2 * latency.before
    assert max(known(errors.distance)) == 0
    assert {alarm.kind for alarm in view.alarms if alarm.id in view.concerned} == {"performance"}


def test_the_heat_map_names_groups_before_devices_and_the_furthest_first(fleet: Fleet) -> None:
    view = look(fleet)
    brightness = [found.name for found in view.features].index("brightness")
    levels = [row.level for row in view.heat]
    cells = {row.subject: row.cells[brightness] for row in view.heat}

    assert levels == sorted(levels, reverse=True)
    assert len([level for level in levels if level == "device"]) == len(DEVICES)
    assert view.heat[0].subject == f"site={DRIFTED}"
    assert cells[f"site={DRIFTED}"].effect < -0.5
    assert {name for name, cell in cells.items() if cell.distance > 1 and "-" in name} == {
        f"{DRIFTED}-{number}" for number in (1, 2, 3)
    }


def test_a_group_has_the_heat_of_its_own_devices_alone(fleet: Fleet) -> None:
    assert {row.subject for row in look(fleet, "site=oslo").heat} == {"oslo-1", "oslo-2", "oslo-3"}


def test_before_it_is_calibrated_a_device_has_no_band(young: Fleet) -> None:
    view = look(young)

    assert (view.calibrated, view.watched) == (0, len(DEVICES))
    assert {found.control for found in view.features} == {None}
    assert view.heat == ()
    assert view.performance is not None
    assert view.performance.latency is None
    assert view.performance.median_ms is not None


def test_a_bucket_without_a_window_has_no_distance(fleet: Fleet) -> None:
    control = values(look(fleet), "temperature")

    assert [at for at, value in enumerate(control.distance) if value is None] == [59]  # it is filling
    assert control.moved[59] is control.allowed[59] is None

"""A baseline of what the fleet sketched first."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.domain.drift.signals import tell
from muster_controller.domain.drift.state import Incident, Moved
from muster_controller.service import drift
from muster_controller.service.bootstrap import bootstrap
from muster_controller.service.drift import DriftQuery
from muster_models.errors import ConflictError, NotFoundError
from muster_models.sketch.baseline import Baseline, decode_baseline
from support.office import Office, open_office

DEVICES = ("berlin-1", "berlin-2", "oslo-1")


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path / "controller")
    made.install()
    made.enrol(*DEVICES)
    yield made
    made.opened.close()


def see(office: Office, digest: str, *, windows: int, shift: float = 0.0) -> None:
    for index in range(windows):
        for device in DEVICES:
            office.add_window(device, digest, end=office.clock.now + 10.0 * index, shift=shift)
    office.clock.now += 10.0 * windows


def of(told: str) -> Baseline:
    return decode_baseline(base64.b64decode(told))


def test_the_first_windows_of_each_device_are_merged_and_later_ones_are_not(office: Office) -> None:
    digest = office.release().version.digest
    see(office, digest, windows=4)
    see(office, digest, windows=4, shift=3.0)

    view = bootstrap(office.context, "digits@1.0.0", per_device=4)

    assert (view.devices, view.windows, view.rows) == (3, 12, 2400)
    made = of(view.baseline)
    assert [column.rows for column in made.columns] == [2400]
    assert made.columns[0].mean == pytest.approx(0.0, abs=0.1)
    assert made.origin == "fleet"
    assert view.limits[0].startswith("drift is relative to these windows")


def test_windows_of_another_version_do_not_count(office: Office) -> None:
    first = office.release().version.digest
    second = office.release("1.1.0").version.digest
    see(office, first, windows=3)
    see(office, second, windows=3, shift=2.0)

    view = bootstrap(office.context, "digits@1.1.0", per_device=24)

    assert view.rows == 1800
    assert of(view.baseline).columns[0].mean == pytest.approx(2.0, abs=0.1)


def test_no_windows_and_too_few_rows_are_said(office: Office) -> None:
    digest = office.release().version.digest
    with pytest.raises(ConflictError, match=r"no device has sent a window of digits@1\.0\.0"):
        bootstrap(office.context, "digits@1.0.0", per_device=24)
    office.add_window("berlin-1", digest, end=office.clock.now)

    with pytest.raises(ConflictError, match="at least 500 rows, got 200; ask again later"):
        bootstrap(office.context, "digits@1.0.0", per_device=24)
    with pytest.raises(NotFoundError):
        bootstrap(office.context, "digits@9.9.9", per_device=24)


def test_what_is_judged_by_it_says_so_on_the_page_and_in_alarms(office: Office) -> None:
    digest = office.release().version.digest
    see(office, digest, windows=4)
    office.baseline = of(bootstrap(office.context, "digits@1.0.0", per_device=24).baseline)
    second = office.release("1.1.0").version.digest
    see(office, second, windows=1)

    view = drift.show_drift(office.context, "digits", DriftQuery(baseline=office.baseline.digest))
    incident = Incident("fleet", "all", DEVICES, 0.0, moved=(Moved(0, "location", 1.0, 9.0),))
    (signal,) = tell("data", [incident], [], office.baseline, now=1.0)

    assert (view.windows, view.origin) == (3, "fleet")
    assert signal.evidence["relative_to"] == "fleet"

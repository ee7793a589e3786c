"""What operators see of devices, and what they do to them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.config import Settings
from muster_controller.service import devices, history
from muster_controller.service.devices import DeviceQuery
from muster_controller.store import enrolment
from muster_controller.store.tables import Device
from muster_controller.store.views.engines import EngineView
from muster_controller.store.views.history import AuditFilter
from muster_models.errors import ForbiddenError, MessageError, NotFoundError, RequestError
from muster_models.wire import Phase
from support.office import OPERATOR, Office, open_office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path / "controller")
    yield made
    made.opened.close()


def ids(office: Office, **query: object) -> list[str]:
    page = devices.list_devices(office.context, DeviceQuery(**query))  # type: ignore[arg-type]  # by name
    return [device.id for device in page.items]


def states(office: Office) -> dict[str, str]:
    page = devices.list_devices(office.context, DeviceQuery())
    return {device.id: device.state for device in page.items}


def test_a_device_that_says_nothing_for_long_is_silent(office: Office) -> None:
    office.enrol("berlin-1")
    office.clock.now += office.context.settings.reachable_seconds + 1
    office.enrol("oslo-1")

    assert states(office) == {"berlin-1": "silent", "oslo-1": "healthy"}


def test_a_failed_device_is_failed_even_when_it_is_silent(office: Office) -> None:
    office.enrol("berlin-1")
    office.report("berlin-1", phase=Phase.FAILED, target="a" * 64)
    office.clock.now += office.context.settings.reachable_seconds + 1

    assert states(office) == {"berlin-1": "failed"}
    assert devices.count_states(office.context)["failed"] == 1


def test_a_device_on_its_way_is_updating(office: Office) -> None:
    office.enrol("berlin-1")
    office.report("berlin-1", phase=Phase.DOWNLOADING, target="a" * 64)

    assert states(office) == {"berlin-1": "updating"}


def test_a_revoked_device_is_revoked_whatever_else_it_is(office: Office) -> None:
    office.enrol("berlin-1")
    office.report("berlin-1", phase=Phase.FAILED)

    detail = devices.revoke(office.context, OPERATOR, "berlin-1", "sold")

    assert detail.device.state == "revoked"
    (entry,) = history.list_audit(office.context, AuditFilter()).items
    assert (entry.actor, entry.action, entry.subject, entry.reason) == (
        OPERATOR,
        "device.revoke",
        "berlin-1",
        "sold",
    )


def test_filters_choose_by_text_state_labels_and_version(office: Office) -> None:
    office.install()
    digest = office.release().version.digest
    office.enrol("berlin-1", "berlin-2", "oslo-1")
    office.report("berlin-2", current=digest, target=digest)
    office.report("oslo-1", current=digest, phase=Phase.FAILED)

    assert ids(office, text="berlin") == ["berlin-1", "berlin-2"]
    assert ids(office, where="site = oslo or not site = berlin") == ["oslo-1"]
    assert ids(office, state="failed") == ["oslo-1"]
    assert ids(office, version="digits@1.0.0") == ["berlin-2", "oslo-1"]
    assert ids(office, model="digits", where="site = berlin") == ["berlin-2"]


def test_a_text_with_wildcards_of_the_database_means_itself(office: Office) -> None:
    office.enrol("berlin-1")

    assert ids(office, text="%") == []
    assert ids(office, text="berlin_1") == []


def test_pages_hold_every_device_once_also_when_a_selector_thins_them_out(office: Office) -> None:
    names = [f"dev-{number:03}" for number in range(25)]
    office.enrol(*names, kind="even")
    for name in names[1::2]:
        devices.set_labels(office.context, OPERATOR, name, labels={"kind": "odd"})
    found: list[str] = []
    cursor = None
    while True:
        page = devices.list_devices(office.context, DeviceQuery(where="kind = odd"), limit=5, cursor=cursor)
        found += [device.id for device in page.items]
        cursor = page.next
        if cursor is None:
            break

    assert found == names[1::2]


def test_a_bad_selector_says_where_it_is_wrong(office: Office) -> None:
    with pytest.raises(RequestError, match="column 8"):
        ids(office, where="site = =")


def test_the_detail_tells_what_is_wanted_and_what_runs(office: Office) -> None:
    office.install()
    digest = office.release().version.digest
    office.enrol("berlin-1")
    office.report("berlin-1", current=digest, target=digest)

    detail = devices.show_device(office.context, "berlin-1")

    (model,) = detail.device.models
    assert model.current is not None
    assert model.current.name == "digits@1.0.0"
    assert (model.phase, model.desired, model.stopped) == ("committed", None, False)
    assert [run.version.name for run in detail.runs] == ["digits@1.0.0"]


def test_an_unknown_device_is_not_found(office: Office) -> None:
    with pytest.raises(NotFoundError, match="no device 'nobody'"):
        devices.show_device(office.context, "nobody")


def test_a_token_names_the_device_and_pins_the_authority(office: Office) -> None:
    made = devices.issue_token(office.context, OPERATOR, device="berlin-1", labels={"site": "berlin"})

    prefix, device, _, pin = made.token.split(".")
    assert (prefix, device, pin) == ("mst1", "berlin-1", office.context.authority.fingerprint)
    assert made.expires_at.timestamp() == office.clock.now + enrolment.TOKEN_SECONDS


@pytest.mark.parametrize(
    "labels", [{"Site": "berlin"}, {"site": "a b"}, {"site": ""}, {"": "x"}, {"and so": "x"}]
)
def test_labels_that_no_selector_could_name_are_refused(office: Office, labels: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="a label is"):
        devices.issue_token(office.context, OPERATOR, device="berlin-1", labels=labels)


def test_no_label_may_pass_for_the_id_of_the_device(office: Office) -> None:
    with pytest.raises(RequestError, match="'device' is the device's id"):
        devices.issue_token(office.context, OPERATOR, device="berlin-1", labels={"device": "oslo-1"})


def test_a_device_is_found_by_its_id_in_a_selector(office: Office) -> None:
    office.enrol("berlin-1", "berlin-2", site="berlin")

    found = devices.show_cohort(office.context, "site = berlin and device = berlin-2")

    assert found.devices == ("berlin-2",)
    assert ids(office, where="device = berlin-1") == ["berlin-1"]


def test_a_token_for_an_illegal_id_or_an_endless_time_is_refused(office: Office) -> None:
    with pytest.raises(MessageError):
        devices.issue_token(office.context, OPERATOR, device="../evil", labels={})
    with pytest.raises(RequestError, match="lives up to"):
        devices.issue_token(office.context, OPERATOR, device="berlin-1", labels={}, lifetime=float("inf"))


def test_revoking_ends_tokens_that_nobody_used(office: Office) -> None:
    office.enrol("berlin-1")
    made = devices.issue_token(office.context, OPERATOR, device="berlin-1", labels={}, again=True)

    devices.revoke(office.context, OPERATOR, "berlin-1")

    with office.context.unit() as session, pytest.raises(ForbiddenError):
        enrolment.consume_token(session, made.token, office.clock.now)


def test_a_cohort_leaves_revoked_devices_out(office: Office) -> None:
    office.enrol("berlin-1", "berlin-2", "oslo-1")
    devices.revoke(office.context, OPERATOR, "berlin-2")

    cohort = devices.show_cohort(office.context, "site = berlin")

    assert (cohort.devices, cohort.enrolled) == (("berlin-1",), 2)


def test_engines_are_counted_by_version_and_hardware_without_revoked_devices(office: Office) -> None:
    office.enrol("berlin-1", "berlin-2", "oslo-1", "oslo-2")
    told = {
        "berlin-1": "onnxruntime 1.32.0",
        "berlin-2": "onnxruntime 1.32.0; CPU: no such provider",
        "oslo-1": "onnxruntime 1.17.3",
        "oslo-2": "onnxruntime 1.17.3",
    }
    with office.context.unit() as session:
        for device, engine in told.items():
            row = session.get_one(Device, device)
            row.hardware, row.runtimes = "x86_64", {"onnx": engine}
            session.add(row)
    devices.revoke(office.context, OPERATOR, "oslo-2")

    assert devices.show_engines(office.context) == (
        EngineView("onnx", "onnxruntime 1.17.3", "x86_64", 1, ("oslo-1",)),
        EngineView("onnx", "onnxruntime 1.32.0", "x86_64", 2, ("berlin-1", "berlin-2")),
    )


def test_a_token_comes_with_the_address_where_it_is_good(office: Office) -> None:
    made = devices.issue_token(office.context, OPERATOR, device="oslo-1", labels={})

    assert made.url == "https://localhost:8421"
    assert Settings(names=("fd00::1",), device_port=9).device_url() == "https://[fd00::1]:9"

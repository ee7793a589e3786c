"""The cost dial against the windows that the real recorder makes of real digits; ordering it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from muster_agent.measure.recorder import Recorder
from muster_controller.service import cost, reporting
from muster_controller.service.cost import PlanRequest, PlanView
from muster_models import wire
from muster_models.errors import NotFoundError, RequestError
from muster_models.publish import Source, read_source
from muster_models.publish.baselines import Declared, make_reference
from muster_models.runtime import Runtime, load
from muster_models.sketch.baseline import Baseline
from muster_models.wire import Reporting, Window
from support.manifests import make_manifest
from support.office import OPERATOR, Client, Office, open_office

ZOO = Path(__file__).parents[2] / "models/zoo"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path / "controller", reporting=Reporting(window_seconds=600.0))
    made.install()
    yield made
    made.opened.close()


@pytest.fixture(scope="module")
def source() -> Source:
    return read_source(ZOO / "digits/1.0.0")


@pytest.fixture(scope="module")
def runtime(source: Source) -> Runtime:
    return load(source.declared.runtime, source.model_path)


@pytest.fixture(scope="module")
def baseline(source: Source, runtime: Runtime) -> Baseline:
    declared = Declared(source.declared.features, source.declared.prediction)
    return make_reference(runtime, declared, source.inputs)


def recorded(source: Source, runtime: Runtime, baseline: Baseline, rows: int, count: int) -> list[Window]:
    """Return the windows that a device sends of digits drawn with replacement, one row a call."""
    sent: list[Window] = []
    now = [0.0]
    manifest = make_manifest(features=source.declared.features, prediction=source.declared.prediction)
    recorder = Recorder(
        manifest,
        baseline,
        Reporting(window_seconds=10.0),
        digest="a" * 64,
        clock=lambda: now[0],
        emit=lambda part: sent.append(part.sent_by("berlin-1")),
    )
    images = source.inputs["image"]
    answers = runtime.run({"image": images})
    chance = np.random.default_rng(rows)
    for index in range(count):
        now[0] = index * 10.0
        recorder.work()
        for at in chance.integers(0, len(images), rows):
            row = slice(at, at + 1)
            recorder.record({"image": images[row]}, {k: v[row] for k, v in answers.items()}, seconds=0.0004)
            recorder.work()
    recorder.close()
    return sent


@pytest.mark.parametrize("rows", [40, 300, 1500])
def test_windows_of_real_images_take_what_was_planned_within_a_tenth(
    rows: int, source: Source, runtime: Runtime, baseline: Baseline
) -> None:
    sent = recorded(source, runtime, baseline, rows, 6)

    measured = float(np.mean([len(wire.encode(message)) for message in sent]))
    assert cost.message_bytes(baseline, "digits", rows) == pytest.approx(measured, rel=0.1)


def test_the_panel_shows_what_the_last_day_took_and_what_it_should_have_taken(office: Office) -> None:
    digest = office.release().version.digest
    office.enrol("berlin-1", "berlin-2", "oslo-1")
    for index in range(20):
        for device in ("berlin-1", "berlin-2", "oslo-1"):
            office.add_window(device, digest, end=office.clock.now - 600.0 * index - 1, rows=300)

    view = cost.show(office.context, "digits")

    assert (view.devices, view.windows, view.rows) == (3, 60, 18_000)
    assert view.measured_bytes == pytest.approx(view.planned_bytes, rel=0.1)
    assert view.bytes == pytest.approx(60 * view.measured_bytes, rel=0.01)
    assert view.plan.window_seconds == 600.0
    assert view.plan.devices == 3


def test_a_plan_takes_devices_and_rows_from_the_model_unless_they_are_said(office: Office) -> None:
    digest = office.release().version.digest
    office.enrol("berlin-1", "oslo-1")
    for device in ("berlin-1", "oslo-1"):
        office.add_window(device, digest, end=office.clock.now - 1, rows=100)

    found = cost.plan(office.context, PlanRequest(5_000, model="digits"))
    said = cost.plan(office.context, PlanRequest(5_000, model="digits", devices=80, rows_per_day=2_000))

    # The windows of add_window are ten seconds long.
    assert (found.devices, found.rows_per_day, found.columns) == (2, 864_000.0, 1)
    assert (said.devices, said.rows_per_day) == (80, 2_000)
    assert found.bytes_per_day <= 5_000
    with pytest.raises(NotFoundError, match="no model 'nobody'"):
        cost.plan(office.context, PlanRequest(5_000, model="nobody"))


def test_what_is_ordered_reaches_plans_rollouts_and_the_audit_trail_until_it_is_reset(office: Office) -> None:
    client = Client(office)

    ordered = client.ask("PUT", "/reporting", json={"window_seconds": 3600, "sample": 0.5, "reason": "plan"})
    shown = client.get("/reporting")
    reset = client.post("/reporting/reset", {"reason": "back"})

    assert ordered.json() == shown
    assert (shown["window_seconds"], shown["sample"], shown["heartbeat_seconds"]) == (3600.0, 0.5, 300.0)
    assert shown["changed_at"] is not None
    assert (reset["window_seconds"], reset["changed_at"]) == (600.0, None)
    trail = client.get("/audit")["items"]
    assert [one["action"] for one in trail[:2]] == ["reporting.reset", "reporting.change"]
    assert trail[1]["detail"] == {"window_seconds": [600.0, 3600.0], "sample": [1.0, 0.5]}


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        ({"window_seconds": 1e9}, "why", "reporting: Expected"),
        ({"sample": -0.1}, "why", "reporting: Expected"),
        ({}, "why", "expected what is to change"),
        ({"sample": 0.5}, " ", "and a reason"),
    ],
)
def test_what_no_device_could_follow_is_refused_and_changes_nothing(
    office: Office, fields: dict[str, float], reason: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        reporting.change(office.context, OPERATOR, fields, reason)

    assert reporting.show(office.context).changed_at is None


def test_windows_of_the_day_before_are_not_counted(office: Office) -> None:
    digest = office.release().version.digest
    office.enrol("berlin-1")
    office.add_window("berlin-1", digest, end=office.clock.now - 1)
    office.add_window("berlin-1", digest, end=office.clock.now - 2 * 86_400)

    assert cost.show(office.context, "digits").windows == 1


def test_differential_privacy_costs_bytes_and_delay_and_its_loss_is_shown(office: Office) -> None:
    plain = cost.plan(office.context, PlanRequest(20_000))
    private = cost.plan(office.context, PlanRequest(20_000, epsilon=0.5))

    assert (plain.epsilon, plain.loss.basic) == (0.0, 0.0)
    assert private.loss.windows == round(86_400 / private.window_seconds)
    assert private.loss.basic == pytest.approx(0.5 * private.columns * private.loss.windows)
    assert private.bytes_per_feature > plain.bytes_per_feature
    assert hours(private) >= hours(plain)


def hours(view: PlanView) -> float:
    return next(one.hours or np.inf for one in view.catches if (one.level, one.shift) == ("device", 0.25))

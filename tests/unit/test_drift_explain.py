"""An alarm is computed again from the stored windows; what is stored otherwise is said."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.config import DriftSettings
from muster_controller.reconcile.watching import Watching
from muster_controller.service import drift_explain, drift_export
from muster_controller.store import windows
from muster_controller.store.baselines import Baselines
from muster_controller.store.tables import Alarm
from muster_models.errors import NotFoundError, RequestError
from muster_models.sketch.codec import decode
from support.office import Client, Clock, Office, open_office

DEVICES = ("berlin-1", "berlin-2", "lyon-1", "oslo-1", "oslo-2")
SETTINGS = DriftSettings(calibration_windows=8)
BEFORE, AFTER = 12, 8  # rounds


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Five devices; berlin sees values that are one standard deviation larger after twelve rounds."""
    made = open_office(tmp_path / "controller", clock=Clock(1_800_000_000.0), drift=SETTINGS)
    made.install()
    digest = made.release().version.digest
    made.enrol(*DEVICES)
    context = made.context
    watching = Watching(context.engine, Baselines(context.blobs), context.settings)
    ((model, baseline),) = watching.streams()
    for index in range(BEFORE + AFTER):
        for device in DEVICES:
            shift = 1.0 if device.startswith("berlin") and index >= BEFORE else 0.0
            made.add_window(device, digest, end=made.clock.now, shift=shift)
        made.clock.now += 300.0
        watching.watch(model, baseline, made.clock.now)
    yield made
    made.opened.close()


def test_an_alarm_that_is_computed_again_is_the_stored_one(office: Office) -> None:
    found = drift_explain.explain(office.context, 1, rounds=100)

    assert found.differences == ()
    assert (found.level, found.subject, found.leg, found.complete) == (
        "group",
        "site=berlin",
        "location",
        True,
    )
    assert found.windows == (BEFORE + AFTER) * len(DEVICES)
    assert found.devices == ("berlin-1", "berlin-2")


def test_the_evidence_tells_when_it_began_and_how_far_it_went(office: Office) -> None:
    found = drift_explain.explain(office.context, 1, rounds=100)
    drifted = [step for step in found.steps if step.effect is not None and step.effect > 0.5]
    quiet = [step for step in found.steps if step.state == "quiet"]

    assert 1 <= len(drifted) <= AFTER
    assert drifted[0].end >= found.began
    assert all(step.value < step.bound for step in quiet)
    assert max(step.value for step in found.steps) > found.steps[-1].bound
    assert [step.state for step in found.steps][-1] == "firing"


def test_what_is_stored_otherwise_is_said(office: Office) -> None:
    with office.context.unit() as session:
        alarm = session.get_one(Alarm, 1)
        alarm.evidence = {**alarm.evidence, "value": 99.0}
        alarm.since -= 1_800_000
        session.add(alarm)
    found = drift_explain.explain(office.context, 1, rounds=5)

    assert [difference.partition(":")[0] for difference in found.differences] == ["began", "value"]
    assert len(found.steps) == 5


def test_windows_that_are_gone_are_said_too(office: Office) -> None:
    with office.context.unit() as session:
        alarm = session.get_one(Alarm, 1)
        alarm.subject = "site=lyon"
        session.add(alarm)
    (said,) = drift_explain.explain(office.context, 1, rounds=5).differences

    assert "no alarm about this subject" in said


def test_only_alarms_of_drift_are_explained(office: Office) -> None:
    with office.context.unit() as session:
        alarm = session.get_one(Alarm, 1)
        alarm.kind = "silence"
        session.add(alarm)

    with pytest.raises(RequestError, match="no windows explain it"):
        drift_explain.explain(office.context, 1, rounds=5)
    with pytest.raises(NotFoundError):
        drift_explain.explain(office.context, 2, rounds=5)


def test_the_sentence_is_the_same_in_the_api(office: Office) -> None:
    client = Client(office)
    alarm, explained = client.get("/alarms/1"), client.get("/alarms/1/explain")

    assert alarm["says"] == explained["says"]
    assert alarm["says"].startswith("brightness rose by ")
    assert "on 2 devices of site berlin since 2027-01-15" in alarm["says"]


def test_exported_counts_are_those_that_were_sent(office: Office) -> None:
    first = drift_export.export(office.context, "digits", after=0)
    ((digest, baseline),) = first.baselines.items()
    held = {window["window"]: window for window in first.windows}
    with office.context.reading() as session:
        stored = windows.newer(session, "digits", upto=0, limit=1000)

    assert len(held) == (BEFORE + AFTER) * len(DEVICES)
    assert [len(column["counts"]) for column in baseline["columns"]] == [len(first.windows[0]["counts"][0])]
    for one in stored:
        sketch = decode(one.sketch, office.context.sketches.baseline(digest))
        assert held[one.id]["counts"] == [counts.tolist() for counts in sketch.counts]
    assert drift_export.export(office.context, "digits", after=100).windows == ()
    with pytest.raises(NotFoundError):
        drift_export.export(office.context, "nothing", after=0)

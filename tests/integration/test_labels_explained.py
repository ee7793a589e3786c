"""An alarm of concept drift is computed again from the ledger of labels; what is stored otherwise is said."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import delete
from sqlmodel import select

from muster_controller.domain.alarms.alarm import Alarm as Told
from muster_controller.reconcile.truth import Truth
from muster_controller.service import explaining
from muster_controller.service.history import show_alarm
from muster_controller.service.label_explain import LabelExplainView
from muster_controller.service.label_pushing import push_labels
from muster_controller.store import alarms
from muster_controller.store.tables import Alarm, LabelRecord
from muster_controller.web.app import make_dashboard
from muster_models.errors import NotFoundError, RequestError
from muster_models.manifest import Dataset, ValueOutput
from support.office import START, Client, Office, open_office
from support.testclient import TestClient
from support.truths import as_lines, labelled, value_id

EVALUATION = (Dataset("evaluation", "evaluation", "somewhere", "CC0", "0" * 64, 1000),)
DEVICES = ("berlin-1", "berlin-2", "oslo-1", "oslo-2", "oslo-3")
WINDOW = 300.0
GOOD, BAD = 6, 8  # pushes
OSLO = dict.fromkeys(("oslo-1", "oslo-2", "oslo-3"), 0.5)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path)
    made.install()
    made.enrol(*DEVICES)
    yield made
    made.opened.close()


@pytest.fixture
def office(empty: Office) -> Office:
    """Five devices whose labels come each five minutes; the three of oslo get worse after six pushes."""
    digest = empty.release(metrics={"accuracy": 0.95}, datasets=EVALUATION).version.digest
    for index in range(GOOD + BAD):
        push(empty, digest, OSLO if index >= GOOD else {})
        settle(empty)
    return empty


def push(office: Office, digest: str, wrong: Mapping[str, float], *, labels: int = 20) -> None:
    office.clock.now += WINDOW
    lines = labelled(DEVICES, digest, at=office.clock.now - WINDOW, labels=labels, wrong=wrong)
    assert push_labels(office.context, "line-3", as_lines(lines)).refused == 0


def settle(office: Office) -> None:
    truth = Truth(office.context.engine, office.context.settings)
    for digest in truth.versions():
        while truth.watch(digest, office.clock.now):
            pass


def explained(office: Office, *, rounds: int = 100) -> LabelExplainView:
    found = explaining.explain(office.context, 1, rounds=rounds)
    assert isinstance(found, LabelExplainView)
    return found


def changed(office: Office, **evidence: object) -> None:
    with office.context.unit() as session:
        alarm = session.get_one(Alarm, 1)
        alarm.evidence = {**alarm.evidence, **evidence}
        session.add(alarm)


def test_an_alarm_that_is_computed_again_is_the_stored_one(office: Office) -> None:
    found = explained(office)

    assert found.differences == ()
    assert (found.level, found.subject, found.metric) == ("group", "site=oslo", "accuracy")
    assert (found.signed, found.version.name) == (0.95, "digits@1.0.0")
    assert found.devices == ("oslo-1", "oslo-2", "oslo-3")
    assert (found.entries, found.corrections, found.complete) == ((GOOD + BAD) * len(DEVICES), 0, True)


def test_the_rounds_say_how_many_were_wrong_who_pushed_them_and_when_it_fired(office: Office) -> None:
    steps = explained(office).steps
    states = [step.state for step in steps]
    first = steps[states.index("firing")]

    assert [(step.devices, step.labels, step.actor) for step in steps] == [(3, 60, "line-3")] * (GOOD + BAD)
    assert {step.state for step in steps[:GOOD]} == {"quiet"}
    assert set(states[states.index("firing") :]) == {"firing"}
    assert all(step.highest < step.bound for step in steps[: states.index("firing")])
    assert first.highest >= first.bound
    assert first.at.timestamp() == show_alarm(office.context, 1).since.timestamp()
    assert sum(step.bad for step in steps[:GOOD]) / (60 * GOOD) < 0.15 < steps[-1].bad / 60
    assert explained(office).began <= first.end


def test_only_the_last_rounds_are_shown_and_all_are_judged(office: Office) -> None:
    assert explained(office, rounds=3).steps == explained(office).steps[-3:]


@pytest.mark.parametrize(
    ("evidence", "names"),
    [
        ({"value": 99.0}, ["value"]),
        ({"bound": 1.0}, ["bound"]),
        ({"signed": 0.8, "allowed": 0.7}, ["signed", "allowed"]),
        ({"devices": ["oslo-1"]}, ["devices"]),
        ({"labels": 1, "now": 0.99}, ["labels", "now"]),
        ({"began": START - 86_400}, ["began"]),
    ],
)
def test_what_is_stored_otherwise_is_said(
    office: Office, evidence: Mapping[str, object], names: list[str]
) -> None:
    changed(office, **evidence)

    assert [said.partition(":")[0] for said in explained(office).differences] == names


def test_a_ledger_that_was_tampered_with_is_said(office: Office) -> None:
    with office.context.unit() as session:
        for row in session.exec(select(LabelRecord).where(LabelRecord.device == "oslo-2")):
            row.counts = {"n": 20, "confusion": [[3, 3, 20]], "confidence": 18.0, "sure": 20}
            session.add(row)

    assert explained(office).differences != ()


def test_labels_that_are_gone_are_said(office: Office) -> None:
    with office.context.unit() as session:
        session.execute(delete(LabelRecord))
    found = explained(office)

    assert found.steps == ()
    assert ["no alarm about this subject" in said for said in found.differences] == [True]


def test_pushes_that_were_judged_together_raise_the_same_alarm_at_another_time(empty: Office) -> None:
    digest = empty.release(metrics={"accuracy": 0.95}, datasets=EVALUATION).version.digest
    for _ in range(BAD):
        push(empty, digest, OSLO)
    settle(empty)  # the loop was not there: all at once

    assert {said.partition(":")[0] for said in explained(empty).differences} >= {"fired"}


def test_an_alarm_that_ended_is_shown_to_its_end(office: Office) -> None:
    digest = explained(office).version.digest
    for _ in range(40):
        push(office, digest, {})
        settle(office)
    found = explained(office)

    assert found.differences == ()
    assert found.steps[-1].state == "resolved"
    assert len(found.steps) < GOOD + BAD + 40


def test_errors_of_values_are_explained_alike(empty: Office) -> None:
    digest = empty.release(
        metrics={"mae": 1.0, "rmse": 1.2}, datasets=EVALUATION, prediction=ValueOutput("probabilities")
    ).version.digest
    for index in range(GOOD + BAD):
        empty.clock.now += WINDOW
        at, far = empty.clock.now - WINDOW, 4.0 if index >= GOOD else 1.0
        lines = [
            {
                "id": value_id("oslo-2", digest, at=at, value=20.0, number=one),
                "label": 20.0 + far * (one % 3 - 1),
            }
            for one in range(40)
        ]
        assert push_labels(empty.context, "line-3", as_lines(lines)).refused == 0
        settle(empty)
    found = explained(empty)

    assert found.differences == ()
    assert (found.metric, found.steps[-1].state) == ("mae", "firing")
    assert found.steps[-1].bad == pytest.approx(4.0 * 26, abs=8)


def test_the_api_and_the_page_show_it(office: Office) -> None:
    answer = Client(office).get("/alarms/1/explain", rounds=5)
    with TestClient(make_dashboard(office.context, "token"), follow_redirects=False) as browser:
        browser.post("/login", data={"token": "token"})
        page, alarm = browser.get("/alarms/1/explain").text, browser.get("/alarms/1").text

    assert (answer["how"], answer["differences"], len(answer["steps"])) == ("labels", [], 5)
    assert answer["steps"][-1]["state"] == "firing"
    assert "What is stored is what the labels say." in page
    assert page.count("line-3") == GOOD + BAD
    assert 'href="/alarms/1/explain"' in alarm


def test_an_alarm_without_a_version_is_refused(office: Office) -> None:
    changed(office, version="")

    with pytest.raises(RequestError, match="of which version"):
        explaining.explain(office.context, 1, rounds=5)
    with pytest.raises(NotFoundError):
        explaining.explain(office.context, 2, rounds=5)


SILENT = Told(
    0,
    "",
    "silence",
    "group",
    "site=oslo",
    "firing",
    START,
    fired_at=START + 60,
    effect=2.0,
    unit="devices",
    evidence={"devices": ["oslo-1", "oslo-2"], "devices_total": 2, "last_heard": START - 900},
)
FAILED = Told(
    0,
    "digits",
    "job",
    "fleet",
    "nightly",
    "firing",
    START,
    fired_at=START,
    evidence={"job": 7, "detail": "no space left", "exit_status": 3},
)


@pytest.mark.parametrize(
    ("alarm", "expected"),
    [
        (SILENT, ("2 devices were heard of no more", "heartbeats in a row are missed")),
        (FAILED, ("retraining job 7 of trigger nightly failed (exit status 3): no space left",)),
    ],
)
def test_where_nothing_is_computed_that_is_said_with_what_raised_it(
    empty: Office, alarm: Told, expected: tuple[str, ...]
) -> None:
    with empty.context.unit() as session:
        alarms.save(session, alarm)
    answer = Client(empty).get("/alarms/1/explain")
    with TestClient(make_dashboard(empty.context, "token"), follow_redirects=False) as browser:
        browser.post("/login", data={"token": "token"})
        page, own = browser.get("/alarms/1/explain").text, browser.get("/alarms/1").text

    assert answer["how"] == "nothing"
    assert [said for said in expected if said not in answer["why"]] == []
    assert answer["why"].startswith("There is nothing to compute: ")
    assert "There is nothing to compute" in page
    assert "Why it was raised" in own

"""Pushing the truth to the API: once is enough, twice changes nothing, what cannot be is refused by line."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from muster_controller.domain.drift.signals import Signal
from muster_controller.reconcile.truth import Truth
from muster_controller.service.label_lines import MAX_LINES
from muster_controller.service.label_pushing import push_labels
from muster_controller.store import drift as drift_store
from muster_controller.store import labels as labels_store
from muster_controller.store.tables import Labelled, LabelRecord
from muster_controller.web.app import make_dashboard
from muster_models.manifest import Dataset, ValueOutput
from muster_models.prediction_id import ClassAnswer
from support.office import START, Client, Office, open_office
from support.testclient import TestClient
from support.truths import as_lines, class_id, labelled, value_id

EVALUATION = (Dataset("evaluation", "evaluation", "somewhere", "CC0", "0" * 64, 1000),)
DEVICES = ("berlin-1", "berlin-2", "oslo-1", "oslo-2", "oslo-3")
WINDOW = 300.0


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """A controller with one version of ``digits``, signed with an accuracy of 0.95, and five devices."""
    made = open_office(tmp_path)
    made.install()
    made.enrol(*DEVICES)
    yield made
    made.opened.close()


@pytest.fixture
def client(office: Office) -> Client:
    return Client(office)


@pytest.fixture
def digest(office: Office) -> str:
    return office.release(metrics={"accuracy": 0.95}, datasets=EVALUATION).version.digest


def push(client: Client, *lines: Mapping[str, object]) -> dict[str, Any]:
    answer = client.ask("POST", "/labels", content=as_lines(lines))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def outcome(answer: Mapping[str, Any]) -> tuple[int, int, int, int]:
    return answer["taken"], answer["repeated"], answer["corrected"], answer["refused"]


def shown(client: Client, **query: Any) -> dict[str, Any]:
    view: dict[str, Any] = client.get("/models/digits/labels", **query)
    return view["versions"][0] if view["versions"] else {}


def test_a_label_is_counted_once_however_often_it_is_pushed(client: Client, digest: str) -> None:
    line = {"id": class_id("oslo-1", digest, at=START - 60), "label": "3"}

    answers = [push(client, line, line), push(client, line)]

    assert [outcome(answer) for answer in answers] == [(1, 1, 0, 0), (0, 1, 0, 0)]
    assert shown(client)["measure"]["n"] == 1


def test_another_label_of_the_same_prediction_replaces_the_first(client: Client, digest: str) -> None:
    named = class_id("oslo-1", digest, at=START - 60)
    push(client, {"id": named, "label": "8"})
    wrong = shown(client)
    answer = push(client, {"id": named, "label": 3})
    right = shown(client)

    assert outcome(answer) == (0, 0, 1, 0)
    assert (wrong["measure"]["value"], right["measure"]["value"]) == (0.0, 1.0)
    assert (wrong["measure"]["n"], right["measure"]["n"]) == (1, 1)
    assert right["confusion"] == [{"predicted": "3", "true": "3", "n": 1}]


def test_a_list_is_taken_like_lines(client: Client, digest: str) -> None:
    lines = labelled(DEVICES, digest, at=START - 60, labels=3, wrong=0.0)

    answer = client.ask("POST", "/labels", json=lines)

    assert outcome(answer.json()) == (15, 0, 0, 0)


REFUSED: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"device": "nobody-1"}, "wrong-device", "expected a device of this fleet, got 'nobody-1'"),
    ({"digest": "ab" * 32}, "not-listed", "expected a version of digits that was released, got 'abab"),
    ({"model": "weather"}, "not-listed", "expected a version of weather that was released"),
    ({"at": START + 90_000}, "bad-message", "lies in the future; it is 1800000000"),
    ({"at": START - 200 * 86_400}, "expired", "expected a prediction of the last 180 days"),
    ({"answer": ClassAnswer(10, 0.9)}, "bad-message", "has 10 classes, the id names number 10"),
)


def test_an_id_that_cannot_be_is_refused_by_its_line_and_counted(client: Client, digest: str) -> None:
    usual: dict[str, Any] = {"device": "oslo-1", "digest": digest, "at": START - 60}
    bad = [class_id(**(usual | change), number=2) for change, _, _ in REFUSED]

    answer = push(client, *({"id": named, "label": "3"} for named in (class_id(**usual), *bad)))

    assert outcome(answer) == (1, 0, 0, len(REFUSED))
    for line, (told, (_, reason, said)) in enumerate(zip(answer["refusals"], REFUSED, strict=True), start=2):
        assert (told["line"], told["reason"]) == (line, reason)
        assert said in told["message"]
    counted = {(one["device"], one["reason"]): one["count"] for one in client.get("/refusals")["items"]}
    assert counted == {
        ("", "wrong-device"): 1,
        ("oslo-1", "not-listed"): 2,
        ("oslo-1", "bad-message"): 2,
        ("oslo-1", "expired"): 1,
    }


def test_a_label_that_is_no_class_is_refused(client: Client, digest: str) -> None:
    answer = push(client, {"id": class_id("oslo-1", digest, at=START - 60), "label": "ten"})

    assert answer["refusals"][0]["message"].startswith("expected a class out of 0, 1, 2")
    assert answer["refusals"][0]["message"].endswith("got 'ten'")


def test_a_push_is_bounded(client: Client) -> None:
    error = client.refusal("POST", "/labels", status=400, content=b"{}\n" * (MAX_LINES + 1))

    assert error["message"] == "a push has at most 10000 lines, got 10001"


def counts(digest_or_version: str, **changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "device": "oslo-1",
        "model": "digits",
        "version": digest_or_version,
        "start": START - 600,
        "end": START - 300,
        "confusion": {"3": {"3": 90, "8": 10}},
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


@pytest.mark.usefixtures("digest")
def test_counts_of_a_window_are_taken_once_and_replaced_when_they_differ(client: Client) -> None:
    first = push(client, counts("1.0.0"), counts("1.0.0"))
    moment = dt.datetime.fromtimestamp(START - 600, dt.UTC).isoformat()
    again = push(client, counts("digits@1.0.0", start=moment))
    other = push(client, counts("1.0.0", confusion={"3": {"3": 95, "8": 5}}))

    assert [outcome(answer) for answer in (first, again, other)] == [
        (1, 1, 0, 0),
        (0, 1, 0, 0),
        (0, 0, 1, 0),
    ]
    measure = shown(client)["measure"]
    assert (measure["n"], measure["value"]) == (100, 0.95)


def test_values_have_a_mean_error_with_an_interval(office: Office, client: Client) -> None:
    version = office.release(
        metrics={"mae": 0.5, "rmse": 0.7}, prediction=ValueOutput("probabilities", "K"), datasets=EVALUATION
    ).version
    lines: list[dict[str, object]] = [
        {
            "id": value_id("oslo-1", version.digest, at=START - 900 + number, value=20.0, number=number),
            "label": 20.0 + (1.0 if number % 2 else -0.5),
        }
        for number in range(100)
    ]
    push(client, *lines)
    confused = push(client, {"id": class_id("oslo-1", version.digest, at=START - 9), "label": 1})
    push(
        client,
        counts(
            "1.0.0", confusion=None, n=100, sum_error=-50.0, sum_abs_error=75.0, sum_sq_error=62.5,
        ),
    )  # fmt: skip
    view = shown(client)

    assert view["metric"] == "mae"
    assert view["method"] == "asymptotic"
    assert view["unit"] == "K"
    assert (view["measure"]["n"], view["measure"]["value"]) == (200, pytest.approx(0.75))
    assert view["measure"]["low"] < 0.75 < view["measure"]["high"]
    assert view["bias"] == pytest.approx((-25.0 - 50.0) / 200)
    assert confused["refusals"][0]["message"] == "digits@1.0.0 predicts a value, the id names a class"


def test_the_page_shows_groups_and_devices_and_how_the_labelled_differ(
    office: Office, client: Client, digest: str
) -> None:
    push(client, *labelled(DEVICES, digest, at=START - 60, labels=40, wrong={"oslo-2": 0.5}))
    view = shown(client)
    subjects = [(one["level"], one["subject"]) for one in view["subjects"]]
    oslo = shown(client, subject="site=oslo")
    device = shown(client, subject="oslo-2")

    assert subjects[:3] == [("group", "site=oslo"), ("group", "site=berlin"), ("device", "oslo-2")]
    assert (view["measure"]["n"], oslo["measure"]["n"], device["measure"]["n"]) == (200, 120, 40)
    assert (view["signed"], view["allowed"]) == (0.95, pytest.approx(0.893, abs=1e-3))
    assert view["selection"]["confidence"] == pytest.approx(0.9, abs=0.01)
    assert view["selection"]["caveat"] == "of the predictions that were labelled; nobody labels at random"
    assert sum(point["n"] for point in view["series"]) == 200
    assert client.refusal("GET", "/models/digits/labels", status=404, params={"subject": "lyon-1"})
    assert client.refusal("GET", "/models/nothing/labels", status=404)


# What the loop makes of it


def settle(office: Office) -> None:
    """Do what the loop does in a pass."""
    truth = Truth(office.context.engine, office.context.settings)
    for digest in truth.versions():
        while truth.watch(digest, office.clock.now):
            pass


def push_rounds(
    office: Office, client: Client, digest: str, wrong: Mapping[str, float] | float, *, rounds: int = 8
) -> None:
    for _ in range(rounds):
        office.clock.now += WINDOW
        lines = labelled(DEVICES, digest, at=office.clock.now - WINDOW, labels=20, wrong=wrong)
        assert push(client, *lines)["refused"] == 0


def alarms(client: Client) -> list[tuple[str, str, str, str]]:
    items = client.get("/alarms")["items"]
    return [(one["kind"], one["level"], one["subject"], one["state"]) for one in items]


def test_good_labels_raise_no_alarm(office: Office, client: Client, digest: str) -> None:
    push_rounds(office, client, digest, 0.05, rounds=12)
    settle(office)

    assert alarms(client) == []


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (("oslo-2",), ("device", "oslo-2")),
        (("oslo-1", "oslo-2", "oslo-3"), ("group", "site=oslo")),
        (DEVICES, ("fleet", "all")),
    ],
)
def test_a_fall_of_accuracy_is_one_alarm_of_its_kind(
    office: Office, client: Client, digest: str, bad: Sequence[str], expected: tuple[str, str]
) -> None:
    push_rounds(office, client, digest, 0.05)
    settle(office)
    push_rounds(office, client, digest, dict.fromkeys(bad, 0.5))
    settle(office)
    settle(office)
    alarm = client.get("/alarms")["items"][0]

    assert alarms(client) == [("concept-drift", *expected, "firing")]
    assert alarm["feature"] == "accuracy"
    assert -0.65 < alarm["effect"] < -0.2
    assert alarm["evidence"]["version"] == "digits@1.0.0"
    assert "signed was 0.95" in alarm["says"]


def test_the_pages_show_the_alarm(office: Office, client: Client, digest: str) -> None:
    push_rounds(office, client, digest, {"oslo-2": 0.5})
    settle(office)
    (alarm,) = client.get("/alarms")["items"]
    with TestClient(make_dashboard(office.context, "token"), follow_redirects=False) as browser:
        browser.post("/login", data={"token": "token"})
        pages = [browser.get(path) for path in (f"/alarms/{alarm['id']}", "/alarms", "/", "/models/digits")]

    assert [page.status_code for page in pages] == [200] * 4
    assert all("concept-drift" in page.text for page in pages)


def drifting(office: Office, devices: Sequence[str], *, state: str = "firing") -> None:
    """Let the detector of inputs have an alarm about some devices."""
    signal = Signal(
        kind="data-drift",
        level="device",
        subject=devices[0],
        feature="brightness",
        state="firing" if state == "firing" else "resolved",
        since=START,
        fired_at=START,
        resolved_at=None if state == "firing" else office.clock.now,
        effect=-0.8,
        unit="sd",
        evidence={"devices": list(devices)},
    )
    with office.context.unit() as session:
        drift_store.save_alarm(session, "digits", office.baseline.digest, signal=signal)


def test_with_drift_of_the_inputs_that_is_the_alarm_and_says_what_accuracy_does(
    office: Office, client: Client, digest: str
) -> None:
    drifting(office, ["oslo-2"])
    push_rounds(office, client, digest, {"oslo-2": 0.5})
    settle(office)
    drifting(office, ["oslo-2"])  # the detector tells of it at every pass
    (alarm,) = client.get("/alarms")["items"]
    events = client.get("/events", kind="drift")["items"]

    assert alarms(client) == [("data-drift", "device", "oslo-2", "firing")]
    assert alarm["evidence"]["truth"]["now"] < 0.8
    assert alarm["evidence"]["truth"]["metric"] == "accuracy"
    assert f"with data-drift of brightness (alarm {alarm['id']})" in events[0]["detail"]
    assert "fell by 0.8 sd" in alarm["says"]
    assert "signed was 0.95" in alarm["says"]


def test_drift_of_inputs_that_is_found_later_takes_the_alarm_over(
    office: Office, client: Client, digest: str
) -> None:
    push_rounds(office, client, digest, {"oslo-2": 0.5})
    settle(office)
    drifting(office, ["oslo-2"])
    settle(office)
    together = alarms(client)
    drifting(office, ["oslo-2"], state="resolved")
    settle(office)

    assert sorted(together) == [
        ("concept-drift", "device", "oslo-2", "resolved"),
        ("data-drift", "device", "oslo-2", "firing"),
    ]
    assert sorted(alarms(client)) == [
        ("concept-drift", "device", "oslo-2", "firing"),
        ("data-drift", "device", "oslo-2", "resolved"),
    ]


def test_the_alarm_is_resolved_when_labels_are_good_again(
    office: Office, client: Client, digest: str
) -> None:
    push_rounds(office, client, digest, {"oslo-2": 0.5})
    settle(office)
    push_rounds(office, client, digest, 0.02, rounds=40)
    settle(office)

    assert alarms(client) == [("concept-drift", "device", "oslo-2", "resolved")]


def test_a_pass_without_news_writes_nothing(office: Office, client: Client, digest: str) -> None:
    push_rounds(office, client, digest, {"oslo-2": 0.5})
    settle(office)
    with office.context.reading() as session:
        before = labels_store.watched(session, digest)
    office.clock.now += WINDOW
    settle(office)

    with office.context.reading() as session:
        assert labels_store.watched(session, digest) == before
        assert labels_store.pending(session) == [digest]


def test_corrections_change_what_is_shown_and_are_no_new_evidence(
    office: Office, client: Client, digest: str
) -> None:
    lines = labelled(DEVICES, digest, at=START - 60, labels=40, wrong=0.0)
    push(client, *lines)
    settle(office)
    push(client, *[{**line, "label": str((int(line["label"]) + 1) % 10)} for line in lines])
    settle(office)

    assert shown(client)["measure"]["value"] == 0.0
    assert alarms(client) == []


def test_old_labels_are_removed_with_their_counts(office: Office, client: Client, digest: str) -> None:
    push(client, *labelled(DEVICES[:1], digest, at=START - 60, labels=4, wrong=0.0))
    push(client, *labelled(DEVICES[:1], digest, at=START - 86_400, labels=4, wrong=0.0))
    with office.context.unit() as session:
        has_some = labels_store.has_older(session, START - 3600)
        labels_store.prune(session, START - 3600, 100)
        left = len(session.exec(select(Labelled)).all()), len(session.exec(select(LabelRecord)).all())
        has_more = labels_store.has_older(session, START - 3600)

    assert (has_some, left, has_more) == (True, (4, 1), False)


def test_a_rollout_shows_the_labelled_accuracy_of_both_arms(
    office: Office, client: Client, digest: str
) -> None:
    newer = office.release("1.1.0", metrics={"accuracy": 0.95}, datasets=EVALUATION).version.digest
    for device in DEVICES:
        office.report(device, current=digest, target=digest)
    plan = {"version": newer, "previous": digest, "stages": [{"percent": 100}], "control": 0.4}
    number = client.post("/rollouts", plan, status=201)["rollout"]["id"]
    control = client.get(f"/rollouts/{number}")["control"]
    treated = sorted(set(DEVICES) - set(control))
    office.clock.now += 600
    at = office.clock.now - 300
    push(client, *labelled(DEVICES, digest, at=START - 60, labels=50, wrong=0.0))
    push(client, *labelled(control, digest, at=at, labels=50, wrong=0.1))
    push(client, *labelled(treated, newer, at=at, labels=50, wrong=0.5))
    found = {arm["arm"]: arm for arm in client.get(f"/rollouts/{number}/labels")["arms"]}

    assert (len(control), len(treated)) == (2, 3)
    assert (found["treated"]["measure"]["n"], found["control"]["measure"]["n"]) == (150, 100)
    assert found["treated"]["measure"]["high"] < found["control"]["measure"]["low"]
    assert client.refusal("GET", "/rollouts/99/labels", status=404)


def test_two_that_push_the_same_at_once_are_counted_once(office: Office, client: Client, digest: str) -> None:
    body = as_lines(labelled(DEVICES, digest, at=START - 60, labels=60, wrong=0.1))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: push_labels(office.context, "someone", body), range(4)))

    assert [sum(answer.taken for answer in answers), sum(answer.repeated for answer in answers)] == [300, 900]
    assert shown(client)["measure"]["n"] == 300


def test_a_push_that_breaks_off_leaves_nothing_and_is_repeated_whole(
    office: Office, client: Client, digest: str
) -> None:
    """The last statement of the transaction fails."""
    body = as_lines(labelled(DEVICES, digest, at=START - 60, labels=20, wrong=0.1))
    with office.context.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE label RENAME TO elsewhere")
    broken = client.ask("POST", "/labels", content=body)
    with office.context.reading() as session:
        left = session.exec(select(Labelled)).all()
    with office.context.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO label")
    again = client.ask("POST", "/labels", content=body)

    assert (broken.status_code, left) == (500, [])
    assert outcome(again.json()) == (100, 0, 0, 0)

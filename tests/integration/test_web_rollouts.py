"""The pages of a rollout without a browser: the form and its file, the preview, gates, devices, orders."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.service import rollouts
from muster_controller.store.views.rollouts import RolloutFilter
from muster_models.errors import Reason
from muster_models.wire import Phase
from support.office import Office
from support.rolling import advance, live, open_fleet, start
from support.testclient import TestClient, signed_in

TOKEN = "operator-token"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_fleet(tmp_path / "controller")
    yield made
    made.opened.close()


@pytest.fixture
def browser(office: Office) -> Iterator[TestClient]:
    with signed_in(office.context, TOKEN) as client:
        yield client


def form_token(browser: TestClient) -> dict[str, str]:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', browser.get("/rollouts/new").text)
    assert found is not None
    return {"form_token": found[1]}


def test_the_form_previews_what_it_would_do_and_says_the_same_as_a_file(browser: TestClient) -> None:
    typed = {"version": "digits@1.1.0", "stages": "1, 100%", "control": "25%", "soak": "1h", "mode": "form"}

    answer = browser.post("/rollouts/preview", data=typed).json()
    back = browser.post("/rollouts/preview", data={"mode": "file", "file": answer["file"]}).json()

    assert answer["problem"] == ""
    assert "  - {count: 1, soak: 1h}\n" in answer["file"]
    for words in ("12 devices", "control: 3", "+1 = 1", "Earliest end", "sha256sum"):
        assert words in answer["html"]
    assert "An example: without a seed the start draws anew." in answer["html"]
    assert back["values"] == {name: typed[name] for name in ("version", "stages", "control", "soak")}


def test_a_file_that_is_wrong_is_told_by_its_line_while_it_is_typed(browser: TestClient) -> None:
    typed = {"mode": "file", "file": "version: digits@1.1.0\ncontrol: 25%\nsoack: 1h\n"}

    answer = browser.post("/rollouts/preview", data=typed).json()

    assert answer["problem"].startswith("line 3: soack: no such field")
    assert answer["problem"].replace("'", "&#39;") in answer["html"]


def test_without_a_script_the_button_shows_the_whole_page_with_what_it_would_do(browser: TestClient) -> None:
    page = browser.get("/rollouts/new").text
    typed = {
        "version": "digits@1.1.0",
        "stages": "1, 100%",
        "control": "25%",
        "seed": "7",
        "reason": "spring",
    }
    asked = {"mode": "form", "page": "1"}
    shown = browser.post("/rollouts/preview", data=typed | asked)
    file = re.search(r'name="file"[^>]*>([^<]*)</textarea>', shown.text)
    wrong = browser.post("/rollouts/preview", data={"mode": "file", "file": "contrl: 1", "page": "1"})

    assert '<button name="page" value="1" formaction="/rollouts/preview">Preview</button>' in page
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    for words in (
        "control: 3",
        "+1 = 1",
        'name="stages" value="1, 100%"',
        'name="reason" maxlength="400" value="spring"',
    ):
        assert words in shown.text
    assert file is not None
    assert "seed: 7" in file[1]
    assert "line 1: contrl: no such field" in wrong.text


def test_a_preview_stores_nothing_and_is_for_who_is_logged_in(browser: TestClient, office: Office) -> None:
    browser.post("/rollouts/preview", data={"version": "digits@1.1.0"})
    browser.cookies.clear()

    stranger = browser.post("/rollouts/preview", data={"version": "digits@1.1.0"})

    assert (stranger.status_code, stranger.headers["location"]) == (303, "/login")
    assert rollouts.list_rollouts(office.context, RolloutFilter()).items == ()


def test_a_rollout_starts_from_the_file_that_was_typed(browser: TestClient, office: Office) -> None:
    file = "version: digits@1.1.0\nstages: [1, 100%]\nseed: abc\nramp: {per_minute: 2}\n"
    typed = {"mode": "file", "file": file, "version": "digits@1.0.0", "reason": "as agreed"}

    answer = browser.post("/rollouts/new", data=typed | form_token(browser))
    (found,) = rollouts.list_rollouts(office.context, RolloutFilter()).items

    assert answer.headers["location"] == f"/rollouts/{found.id}"
    assert found.version.name == "digits@1.1.0"
    page = browser.get(f"/rollouts/{found.id}").text
    assert "seed: abc" in page
    assert "2 devices a minute" in page


def test_the_page_shows_stage_beside_control_with_the_interval_of_each_gate(
    browser: TestClient, office: Office
) -> None:
    number = start(office)
    live(office, 14)

    page = browser.get(f"/rollouts/{number}").text

    evidence = rollouts.show_rollout(office.context, number).evidence
    assert evidence is not None
    compared = [gate for gate in evidence.gates if gate.low is not None]
    assert len(compared) > 0
    assert page.count('class="span"') == len(compared)
    assert "the error budget by gate: " in page
    assert "Checks on the experiment itself" in page
    for name in ("targeted", "reachable", "executed", "reporting"):
        assert f"<span>{name}</span>" in page
    assert "rollout.start" in page  # in the timeline
    assert "better" in page


def test_each_gate_leads_to_its_evidence_computed_again(browser: TestClient, office: Office) -> None:
    number = start(office)
    live(office, 14)
    page = browser.get(f"/rollouts/{number}").text

    explained = browser.get(f"/rollouts/{number}/explain?gate=errors")

    assert f'href="/rollouts/{number}/explain?gate=errors"' in page
    assert explained.status_code == 200
    for words in ("it is what the rollout judged by", "harm of errors, up", "rounds as numbers"):
        assert words in explained.text
    assert "harm of latency" not in explained.text


def test_devices_are_shown_by_outcome_and_a_page_at_a_time(browser: TestClient, office: Office) -> None:
    number = start(office)
    live(office, 5)
    stage = rollouts.show_rollout(office.context, number).stages[0]

    updated = browser.get(f"/rollouts/{number}?outcome=updated").text
    everyone = browser.get(f"/rollouts/{number}").text

    listed = set(re.findall(r'<td><a href="/devices/([a-z0-9-]+)"', updated))
    assert listed == set(stage.names)
    assert f"updated {stage.devices}</a>" in everyone
    assert "all 12</a>" in everyone


def test_failed_devices_can_be_tried_again_and_one_sent_back(browser: TestClient, office: Office) -> None:
    number = start(office, limits={"failures": 1.0})
    live(office, 4)
    view = rollouts.show_rollout(office.context, number)
    failed, other, *_ = view.stages[0].names
    office.report(
        failed, target=view.rollout.version.digest, phase=Phase.FAILED, reason=Reason.DOWNLOAD_FAILED
    )
    advance(office)
    page = browser.get(f"/rollouts/{number}").text
    token = form_token(browser)

    again = browser.post(f"/rollouts/{number}/retry", data=token | {"reason": "the line is back"})
    back = browser.post(
        f"/rollouts/{number}/rollback", data=token | {"devices": other, "stage": "0", "reason": "too warm"}
    )

    assert "Retry failed" in page
    assert "download-failed" in page
    assert (again.status_code, back.status_code) == (303, 303)
    shown = browser.get(f"/rollouts/{number}").text
    assert "the line is back" in shown
    assert "too warm" in shown
    outcomes = {one.device: one for one in rollouts.list_rollout_devices(office.context, number)}
    assert outcomes[other].withdrawn != ""


def test_a_button_says_what_it_will_do(browser: TestClient, office: Office) -> None:
    number = start(office)

    page = browser.get(f"/rollouts/{number}").text

    assert "no stage ends; harm still rolls back by itself" in page
    assert "Stage 2 of 2 is given the version." in page
    assert "By the plan, updated devices go back." in page
    assert "go back to digits@1.0.0; the rollback window is 30 days" in page

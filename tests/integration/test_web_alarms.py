"""The forms about alarms without a browser: none works without its token, and each says what it refuses."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.config import JobSettings, WebhookSettings
from muster_controller.web.app import make_dashboard
from support.alarms import deliveries, raise_alarm
from support.office import Office, open_office
from support.testclient import TestClient

TOKEN = "operator-token"
DESK = WebhookSettings("desk", "https://desk.example/", "desk.secret")
RETRAIN = JobSettings("retrain", kinds=("data-drift",), command=("true",))
FORMS = {
    "/alarms/1/acknowledge": {"reason": "mine"},
    "/silences": {"model": "digits", "hours": "2", "reason": "why"},
    "/silences/1/end": {"reason": "over"},
    "/webhooks/desk/test": {},
    "/jobs/1/retry": {"reason": "again"},
    "/jobs/1/finish": {"outcome": "done", "reason": "seen"},
}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path / "controller", webhooks=(DESK,), jobs=(RETRAIN,))
    raise_alarm(made.context.engine, made.context.settings, made.clock.now)
    yield made
    made.opened.close()


@pytest.fixture
def browser(office: Office) -> Iterator[TestClient]:
    with TestClient(make_dashboard(office.context, TOKEN), follow_redirects=False) as client:
        client.post("/login", data={"token": TOKEN})
        yield client


def form_token(browser: TestClient) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', browser.get("/silences").text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("path", FORMS)
def test_a_form_without_its_token_is_refused(browser: TestClient, office: Office, path: str) -> None:
    before = len(deliveries(office.context.engine))

    answer = browser.post(path, data=FORMS[path])

    assert answer.status_code == 403
    assert len(deliveries(office.context.engine)) == before


@pytest.mark.parametrize("path", ["/alarms", "/silences", "/deliveries", "/jobs", "/jobs/1"])
def test_who_is_not_logged_in_sees_nothing(office: Office, path: str) -> None:
    with TestClient(make_dashboard(office.context, TOKEN), follow_redirects=False) as stranger:
        assert stranger.get(path).status_code == 303


def test_each_form_does_what_it_says(browser: TestClient) -> None:
    token = {"form_token": form_token(browser)}

    for path in ("/alarms/1/acknowledge", "/silences", "/silences/1/end", "/webhooks/desk/test"):
        assert browser.post(path, data=FORMS[path] | token).status_code == 303, path
    assert "acknowledged" in browser.get("/alarms/1").text
    assert "over" in browser.get("/silences").text
    assert "alarm.acknowledged" in browser.get("/deliveries?webhook=desk").text


@pytest.mark.parametrize(
    ("path", "form", "status", "words"),
    [
        ("/alarms/1/acknowledge", {"reason": " "}, 409, "needs a reason"),
        ("/alarms/9/acknowledge", {"reason": "mine"}, 404, "no alarm 9"),
        ("/silences", {"hours": "2", "reason": "why"}, 400, "say which alarms"),
        ("/silences", {"model": "digits", "hours": "inf", "reason": "why"}, 400, "within 30 days"),
        ("/silences", {"model": "digits", "hours": "nan", "reason": "why"}, 400, "within 30 days"),
        ("/silences", {"model": "digits", "hours": "2"}, 400, "needs a reason"),
        ("/webhooks/nobody/test", {}, 404, "no webhook"),
        ("/jobs/1/retry", {"reason": "again"}, 404, "no job 1"),
    ],
)
def test_a_form_that_cannot_be_obeyed_says_why(
    browser: TestClient, path: str, form: dict[str, str], status: int, words: str
) -> None:
    answer = browser.post(path, data={**form, "form_token": form_token(browser)})

    assert answer.status_code == status
    assert words in answer.text


def test_nothing_of_a_receiver_reaches_a_page_as_markup(browser: TestClient, office: Office) -> None:
    raise_alarm(office.context.engine, office.context.settings, office.clock.now, feature="<b>x</b>",
                subject="site=<script>alert(1)</script>")  # fmt: skip

    assert "<script>alert" not in browser.get("/alarms").text + browser.get("/alarms/2").text

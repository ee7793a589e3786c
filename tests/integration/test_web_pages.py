"""The dashboard without a browser: every page, the session, the forms, and the live socket."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.websockets import WebSocketDisconnect

from muster_controller.service import admission, history, rollouts
from muster_controller.store import devices, requests
from muster_controller.store.views.history import AuditFilter, AuditView
from muster_controller.store.views.rollouts import RolloutFilter
from muster_controller.web.app import make_dashboard
from muster_controller.web.live import UNAUTHORISED
from muster_models.keycode import fingerprint
from muster_models.wire import Health
from support.office import OPERATOR, Office, open_office
from support.testclient import TestClient

TOKEN = "operator-token"
FLEET = tuple(f"{site}-{number}" for site in ("berlin", "lyon", "oslo", "porto") for number in (1, 2))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path / "controller")
    made.install()
    made.release("1.0.0")
    made.enrol(*FLEET)
    yield made
    made.opened.close()


@pytest.fixture
def stranger(office: Office) -> Iterator[TestClient]:
    with TestClient(make_dashboard(office.context, TOKEN), follow_redirects=False) as client:
        yield client


@pytest.fixture
def browser(stranger: TestClient) -> TestClient:
    """A browser in which the operator has logged in."""
    assert stranger.post("/login", data={"token": TOKEN}).status_code == 303
    return stranger


def form_token(browser: TestClient) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', browser.get("/").text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("path", ["/", "/devices", "/rollouts/1", "/models/digits/drift", "/cohort-count"])
def test_who_is_not_logged_in_is_sent_to_the_login_page(stranger: TestClient, path: str) -> None:
    answer = stranger.get(path)

    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_a_wrong_token_says_where_the_right_one_is(stranger: TestClient) -> None:
    answer = stranger.post("/login", data={"token": "guessed"})

    assert answer.status_code == 403
    assert "operator.token" in answer.text
    assert "set-cookie" not in answer.headers


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(stranger: TestClient) -> None:
    cookie = stranger.post("/login", data={"token": TOKEN}).headers["set-cookie"].lower()

    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert TOKEN not in cookie


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", ["All is well", "digits@1.0.0"]),
        ("/devices", [*FLEET, "site=berlin"]),
        ("/devices?where=site%20%3D%20oslo", ["oslo-1", "oslo-2"]),
        ("/devices/berlin-1", ["berlin-1", "Identity"]),
        ("/models", ["digits"]),
        ("/models/digits", ["digits@1.0.0", "Emergency stop"]),
        ("/models/digits/drift", ["Data drift", "Data quality", "Performance", "brightness"]),
        ("/rollouts", ["No rollout"]),
        ("/rollouts/new", ["digits@1.0.0", "8 of 8 devices"]),
        ("/alarms", ["No alarm"]),
        ("/events", ["Events"]),
        ("/audit", ["Audit"]),
    ],
)
def test_every_page_opens_and_says_what_it_is_about(browser: TestClient, path: str, words: list[str]) -> None:
    answer = browser.get(path)

    assert answer.status_code == 200
    assert [word for word in words if word not in answer.text] == []
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


def test_a_device_page_shows_how_the_device_is(browser: TestClient, office: Office) -> None:
    path = "/devices/berlin-1"
    before = browser.get(path).text
    health = Health(at=1.8e9, load=0.25, memory_bytes=70_000_000, waiting=3, celsius=48.4)
    with office.context.unit() as session:
        devices.feel(session, "berlin-1", health, skew=-2.0)
    after = browser.get(path).text

    assert 'id="health"' not in before
    for words in ("25 % of its processors", "48 °C", "-2.0 s beside the controller", "3 messages"):
        assert words in after


def test_a_filter_leaves_the_others_out(browser: TestClient) -> None:
    assert "berlin-1" not in browser.get("/devices?where=site%20%3D%20oslo").text


def test_a_version_page_shows_the_signed_manifest(browser: TestClient, office: Office) -> None:
    digest = rollouts_digest(office)

    page = browser.get(f"/versions/{digest}")

    assert page.status_code == 200
    assert digest in page.text


def rollouts_digest(office: Office) -> str:
    return office.context.repository.listed("digits")["1.0.0"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/devices/nobody", 404, "no device"),
        ("/devices?where=site%20%3D", 400, "column"),
        ("/rollouts/one", 400, "integer"),
        ("/nowhere", 404, "Not Found"),
    ],
)
def test_an_error_is_a_page_that_says_what_is_wrong(
    browser: TestClient, path: str, status: int, words: str
) -> None:
    answer = browser.get(path)

    assert answer.status_code == status
    assert words in answer.text
    assert "<nav" in answer.text


def test_a_cohort_is_counted_while_its_selector_is_typed(browser: TestClient) -> None:
    assert browser.get("/cohort-count", params={"where": "site = oslo"}).text == "2 of 8 devices"
    assert "column" in browser.get("/cohort-count", params={"where": "site ="}).text


def test_a_form_without_its_token_changes_nothing(browser: TestClient, office: Office) -> None:
    answer = browser.post("/devices/berlin-1/revoke", data={"reason": "stolen"})

    assert answer.status_code == 403
    assert all(entry.action != "device.revoke" for entry in audit(office))


def audit(office: Office) -> list[AuditView]:
    return list(history.list_audit(office.context, AuditFilter()).items)


def test_revoking_a_device_is_done_once_and_lands_in_the_audit_trail(
    browser: TestClient, office: Office
) -> None:
    form = {"form_token": form_token(browser), "reason": "stolen from the hall"}

    answer = browser.post("/devices/berlin-1/revoke", data=form)

    assert (answer.status_code, answer.headers["location"]) == (303, "/devices/berlin-1")
    assert (audit(office)[0].action, audit(office)[0].reason) == ("device.revoke", "stolen from the hall")
    assert "revoked" in browser.get("/devices/berlin-1").text


def test_a_model_is_stopped_and_started_again(browser: TestClient) -> None:
    form = {"form_token": form_token(browser), "reason": "it says nonsense"}

    browser.post("/models/digits/stop", data=form)
    stopped = browser.get("/models/digits").text
    browser.post("/models/digits/start", data=form)

    assert "Start again" in stopped
    assert "Start again" not in browser.get("/models/digits").text


PLAN = {
    "version": "digits@1.0.0",
    "selector": "all",
    "stages": "25%, 100%",
    "control": "0%",
    "soak": "0s",
    "minimum_rounds": "1",
    "error_budget": "1%",
    "probation": "1s",
    "reason": "first install",
}


def test_a_rollout_is_started_steered_and_shown(browser: TestClient, office: Office) -> None:
    token = {"form_token": form_token(browser)}

    started = browser.post("/rollouts/new", data=PLAN | token)
    (found,) = rollouts.list_rollouts(office.context, RolloutFilter()).items
    paused = browser.post(f"/rollouts/{found.id}/pause", data=token | {"reason": "lunch"})
    page = browser.get(f"/rollouts/{found.id}").text

    assert (started.status_code, started.headers["location"]) == (303, f"/rollouts/{found.id}")
    assert paused.status_code == 303
    assert [word for word in ("paused", "lunch", "Stage 2", "Control", "Resume") if word not in page] == []


def test_an_aborted_rollout_says_what_became_of_the_devices(browser: TestClient, office: Office) -> None:
    token = {"form_token": form_token(browser)}
    browser.post("/rollouts/new", data=PLAN | token)
    (found,) = rollouts.list_rollouts(office.context, RolloutFilter()).items

    answer = browser.post(f"/rollouts/{found.id}/abort", data=token | {"mode": "keep", "reason": "enough"})

    assert answer.status_code == 303
    assert rollouts.show_rollout(office.context, found.id).rollout.phase == "aborted"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("selector", "site = ", "column"),
        ("stages", "half", "a stage is a share such as 25%"),
        ("stages", "25%", "the last stage must be 100 percent"),
        ("control", "much", "control: expected a number, or a share such as 25%"),
        ("soak", "long", "soak: expected a duration such as 90s, 10m or 24h"),
        ("version", "digits@9.9.9", "digits@9.9.9"),
    ],
)
def test_a_plan_that_is_refused_comes_back_with_the_reason_and_what_was_typed(
    browser: TestClient, office: Office, field: str, value: str, words: str
) -> None:
    answer = browser.post("/rollouts/new", data=PLAN | {"form_token": form_token(browser), field: value})

    assert 400 <= answer.status_code < 500
    assert words in answer.text
    assert 'value="first install"' in answer.text
    assert rollouts.list_rollouts(office.context, RolloutFilter()).items == ()


def test_logging_out_forgets_the_session(browser: TestClient) -> None:
    browser.post("/logout", data={"form_token": form_token(browser)})

    assert browser.get("/").status_code == 303


def test_an_open_page_hears_of_a_change(browser: TestClient, office: Office) -> None:
    with browser.websocket_connect("/live", headers={"origin": "http://testserver"}) as socket:
        office.enrol("bergen-1")

        assert socket.receive_text() == "changed"


@pytest.mark.parametrize("origin", ["http://evil.example", ""])
def test_another_sites_page_hears_nothing(browser: TestClient, origin: str) -> None:
    with (
        browser.websocket_connect("/live", headers={"origin": origin}) as socket,
        pytest.raises(WebSocketDisconnect) as closed,
    ):
        socket.receive_text()

    assert closed.value.code == UNAUTHORISED


def test_a_page_stays_small(browser: TestClient) -> None:
    page = browser.get("/")
    assets = [browser.get(path) for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)]

    cold = [len(answer.content) for answer in (page, *assets)]

    assert {answer.status_code for answer in assets} == {200}
    assert all("immutable" in answer.headers["cache-control"] for answer in assets)
    assert sum(cold) < 90_000  # uncompressed; about a quarter of it crosses the wire


@pytest.fixture
def waiting(office: Office) -> str:
    """The code of a machine that asks to be let in."""
    with office.context.unit() as session:
        asking = requests.Asking(fingerprint(b"key"), "press-1", "10.0.0.1")
        return requests.add(session, asking, office.clock.now).code


def test_a_machine_that_asks_is_shown_and_let_in_with_its_labels(
    browser: TestClient, office: Office, waiting: str
) -> None:
    page = browser.get("/devices").text
    form = {"form_token": form_token(browser), "labels": "site=berlin, line=3", "reason": "new press"}

    answer = browser.post(f"/admission/requests/{waiting}/accept", data=form)

    assert [word for word in (waiting, "press-1", "10.0.0.1", "pending") if word not in page] == []
    assert (answer.status_code, answer.headers["location"]) == (303, "/devices")
    assert (audit(office)[0].action, audit(office)[0].reason) == ("device.accept", "new press")
    assert audit(office)[0].detail["labels"] == {"site": "berlin", "line": "3"}
    assert "accepted" in browser.get("/devices").text


def test_a_machine_that_asks_is_refused(browser: TestClient, office: Office, waiting: str) -> None:
    form = {"form_token": form_token(browser), "reason": "nobody knows it"}

    answer = browser.post(f"/admission/requests/{waiting}/refuse", data=form)

    assert (answer.status_code, audit(office)[0].action) == (303, "device.refuse")
    assert browser.post(f"/admission/requests/{waiting}/accept", data=form).status_code == 404


def test_labels_that_are_none_are_refused_and_nobody_is_let_in(
    browser: TestClient, office: Office, waiting: str
) -> None:
    form = {"form_token": form_token(browser), "labels": "site", "reason": "x"}

    answer = browser.post(f"/admission/requests/{waiting}/accept", data=form)

    assert answer.status_code == 400
    assert admission.list_waiting(office.context).requests[0].state == "pending"


def test_tokens_that_are_out_are_shown_and_revoked(browser: TestClient, office: Office) -> None:
    admission.issue_bulk_token(office.context, OPERATOR, prefix="press-", count=50, labels={"line": "3"})
    (token,) = admission.list_tokens(office.context)
    page = browser.get("/devices").text

    form = {"form_token": form_token(browser), "reason": "the batch is done"}
    answer = browser.post(f"/admission/tokens/{token.id}/revoke", data=form)

    assert [word for word in (token.id, "press-*", "0 of 50", "line=3") if word not in page] == []
    assert (answer.status_code, admission.list_tokens(office.context)) == (303, ())
    assert audit(office)[0].action == "token.revoke"

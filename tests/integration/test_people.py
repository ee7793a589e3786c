"""People over the API and the command line: tokens shown once, roles, the end of a token, the audit trail."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from muster_controller.web.app import make_dashboard
from support.office import Client, Office, open_office
from support.served import served
from support.testclient import TestClient


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path / "controller")
    made.install()
    made.release("1.0.0", fallback=-1.0)
    yield made
    made.opened.close()


@pytest.fixture
def client(office: Office) -> Client:
    return Client(office)


def let_in(client: Client, name: str, *roles: str) -> str:
    token: str = client.post("/people", {"name": name, "roles": list(roles)}, status=201)["token"]
    return token


def test_a_token_is_shown_once_and_only_its_hash_is_kept(office: Office, client: Client) -> None:
    token = let_in(client, "anna.berg", "operator")

    assert client.ask("GET", "/people/me", token=token).json()["name"] == "anna.berg"
    assert token not in client.ask("GET", "/people").text
    assert token not in client.ask("GET", "/audit").text
    secret = token.partition(".")[2].encode()
    stored = [path for path in office.context.folder.root.rglob("*") if path.is_file()]
    assert [path for path in stored if secret in path.read_bytes()] == []


def test_the_holder_of_the_folders_token_stays_the_first_admin(client: Client) -> None:
    assert client.get("/people/me")["roles"] == ["admin"]
    assert [(one["name"], one["token_since"]) for one in client.get("/people")] == [("operator", None)]


def test_the_audit_trail_names_the_person(client: Client) -> None:
    token = let_in(client, "anna", "operator")
    answer = client.ask("POST", "/models/digits/stop", token=token, json={"reason": "smoke"})
    newest = client.get("/audit")["items"][0]

    assert answer.status_code == 200
    assert (newest["actor"], newest["action"], newest["reason"]) == ("anna", "model.stop", "smoke")


def test_roles_add_up_and_change(client: Client) -> None:
    token = let_in(client, "anna", "auditor", "approver")
    before = client.ask("POST", "/reporting/reset", token=token, json={})
    changed = client.ask(
        "PUT", "/people/anna/roles", json={"roles": ["operator"], "reason": "new job"}
    ).json()
    after = client.ask("POST", "/reporting/reset", token=token, json={})

    assert (before.status_code, after.status_code) == (403, 200)
    assert before.json()["error"]["message"] == "anna is auditor and approver; this takes operator or admin"
    assert changed["roles"] == ["operator"]


def test_a_revoked_token_is_refused_and_the_name_is_spent(client: Client) -> None:
    token = let_in(client, "anna", "operator")
    gone = client.post("/people/anna/revoke", {"reason": "left"})

    assert gone["revoked_at"] is not None
    assert client.ask("GET", "/devices", token=token).status_code == 401
    refused = client.refusal("POST", "/people", status=409, json={"name": "anna", "roles": ["admin"]})
    assert "never used" in refused["message"]
    client.refusal("POST", "/people/anna/token", status=404, json={})
    client.refusal("POST", "/people/anna/revoke", status=404, json={})


def test_a_renewed_token_takes_the_place_of_the_one_before(client: Client) -> None:
    token = let_in(client, "anna", "operator")
    renewed = client.post("/people/anna/token", {"reason": "lost"})["token"]

    assert renewed != token
    assert client.ask("GET", "/devices", token=token).status_code == 401
    assert client.ask("GET", "/devices", token=renewed).status_code == 200


@pytest.mark.parametrize("name", ["", "Anna", "operator", "controller", "me", "a" * 41, "a b", "a/b", ".a"])
def test_a_name_of_another_form_is_refused(client: Client, name: str) -> None:
    refused = client.refusal("POST", "/people", status=400, json={"name": name, "roles": ["operator"]})

    assert "expected a small letter" in refused["message"]


@pytest.mark.parametrize("roles", [[], ["boss"], ["operator", "boss"]])
def test_roles_that_there_are_not_are_refused(client: Client, roles: list[str]) -> None:
    client.refusal("POST", "/people", status=422, json={"name": "anna", "roles": roles})


def test_roles_are_for_named_models_also_such_as_are_not_there_yet(client: Client) -> None:
    body = {"name": "anna", "roles": ["operator"], "models": ["weather", "digits", "digits"]}
    token = client.post("/people", body, status=201)["token"]
    listed = {one["name"]: one["models"] for one in client.get("/people")}
    me = client.ask("GET", "/people/me", token=token).json()
    mine = client.ask("POST", "/models/digits/stop", token=token, json={"reason": "smoke"})
    fleets = client.ask("POST", "/reporting/reset", token=token, json={})
    added = client.get("/audit", action="person.add")["items"][0]["detail"]

    assert listed == {"operator": None, "anna": ["digits", "weather"]}
    assert me["models"] == ["digits", "weather"]
    assert mine.status_code == 200
    assert fleets.json()["error"]["message"] == (
        "anna is operator of digits and weather; this takes operator or admin over all models"
    )
    assert added == {"roles": ["operator"], "models": ["digits", "weather"]}


def test_models_change_from_the_next_request_on_and_without_them_one_is_over_all(client: Client) -> None:
    token = let_in(client, "anna", "operator")
    path, stop = "/people/anna/roles", "/models/digits/stop"
    answers = []
    for models in (["weather"], ["digits"], None):
        changed = client.ask("PUT", path, json={"roles": ["operator"], "models": models}).json()
        answers.append(client.ask("POST", stop, token=token, json={"reason": "smoke"}).status_code)

        assert changed["models"] == models
    details = [one["detail"].get("models") for one in client.get("/audit", action="person.change")["items"]]

    assert answers[0] == 403
    assert 403 not in answers[1:]
    assert details == [None, ["digits"], ["weather"]]


@pytest.mark.parametrize("models", [[], ["Digits"], ["digits", "a b"], ["*"], ["digits\n"], [""], ["d" * 64]])
def test_names_that_no_model_can_have_are_refused(client: Client, models: list[str]) -> None:
    body = {"name": "anna", "roles": ["operator"], "models": models}
    refused = client.refusal("POST", "/people", status=400, json=body)

    assert "models: expected 1 to 1000 names of models" in refused["message"]
    assert [one["name"] for one in client.get("/people")] == ["operator"]


def test_an_admin_is_over_all_models(client: Client) -> None:
    let_in(client, "anna", "operator")
    for method, path in (("POST", "/people"), ("PUT", "/people/anna/roles")):
        body = {"name": "bo", "roles": ["operator", "admin"], "models": ["digits"]}
        sent = body if method == "POST" else {key: body[key] for key in ("roles", "models")}
        refused = client.refusal(method, path, status=400, json=sent)

        assert "an admin is over all models, because people and keys are; got 'digits'" in refused["message"]


def test_nobody_gives_themselves_rights(client: Client) -> None:
    token = let_in(client, "anna", "operator", "approver")

    for method, path, body in (
        ("PUT", "/people/anna/roles", {"roles": ["admin"]}),
        ("POST", "/people", {"name": "bo", "roles": ["admin"]}),
        ("POST", "/people/anna/token", {}),
    ):
        assert client.ask(method, path, token=token, json=body).status_code == 403


def test_the_page_shows_a_token_once_and_disabled_buttons_with_the_reason(office: Office) -> None:
    with TestClient(make_dashboard(office.context, "first"), follow_redirects=False) as browser:
        assert browser.post("/login", data={"token": "first"}).status_code == 303
        form = {"form_token": token_of(browser), "name": "anna", "roles": ["auditor"], "reason": "the audit"}
        made = browser.post("/people", data=form).text
        again = browser.get("/people").text
        shown = re.search(r'<code id="token">(\S+?)</code>', made)
        assert shown is not None
        browser.cookies.clear()
        assert browser.post("/login", data={"token": shown[1]}).status_code == 303
        hers = browser.get("/models/digits").text
        stopped = browser.post("/models/digits/stop", data={"form_token": token_of(browser), "reason": "x"})

    why = "anna is auditor; this takes operator or approver or admin"
    assert shown[1] not in again
    assert f'disabled title="{why}">Emergency stop</button>' in hers
    assert stopped.status_code == 403
    assert why in stopped.text


def test_the_page_takes_models_and_shows_them(office: Office) -> None:
    with TestClient(make_dashboard(office.context, "first"), follow_redirects=False) as browser:
        assert browser.post("/login", data={"token": "first"}).status_code == 303
        form = {"form_token": token_of(browser), "roles": ["operator"], "reason": "night shift"}
        made = browser.post("/people", data={**form, "name": "anna", "models": "weather, digits"}).text
        wrong = browser.post("/people", data={**form, "name": "bo", "models": "Digits"})
        browser.post("/people/anna/roles", data={**form, "models": ""})
        after = browser.get("/people").text

    assert "<td>digits, weather</td>" in made
    assert 'name="models" maxlength="4000" value="digits weather"' in made
    assert (wrong.status_code, "got &#39;Digits&#39;" in wrong.text) == (400, True)
    assert "<td>digits, weather</td>" not in after


def token_of(browser: TestClient) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', browser.get("/").text)
    assert found is not None
    return found[1]


def test_people_on_the_command_line(office: Office, tmp_path: Path) -> None:
    with served(office) as admin:
        added = admin.muster("people", "add", "anna", "--role", "auditor", "--role", "approver")
        file = tmp_path / "anna.token"
        file.write_text(added.out)
        anna = replace(admin, token_file=file)
        me = json.loads(anna.muster("people", "me", "-o", "json").out)
        refused = anna.muster("device", "token", "berlin-1")
        listed = admin.muster("people", "list")
        roleless = admin.muster("people", "add", "bo")
        few = admin.muster(
            *("people", "change", "anna", "--role", "operator", "--model", "digits", "--model", "weather")
        )
        own = anna.muster("people", "me")
        everyone = json.loads(admin.muster("people", "list", "-o", "json").out)
        wrong = admin.muster("people", "change", "anna", "--role", "operator", "--model", "Digits")
        changed = admin.muster("people", "change", "anna", "--role", "operator")
        renewed = admin.muster("people", "renew", "anna")
        stale = anna.muster("people", "me")
        revoked = admin.muster("people", "revoke", "anna", "--reason", "left")

    assert (added.code, me["roles"]) == (0, ["auditor", "approver"])
    assert (refused.code, "this takes operator or admin" in refused.err) == (4, True)
    assert "anna" in listed.out
    assert (roleless.code, "--role" in roleless.err) == (2, True)
    assert (few.code, few.out.strip()) == (0, "anna is operator of digits, weather")
    assert re.search(r"models +digits, weather\n", own.out) is not None
    assert [one["models"] for one in everyone] == [None, ["digits", "weather"]]
    assert re.search(r"MODELS .*\n.* all ", listed.out) is not None
    assert (wrong.code, "names of models" in wrong.err) == (1, True)
    assert (changed.code, changed.out.strip()) == (0, "anna is operator")
    assert renewed.out.startswith("msp1.")
    assert (stale.code, "send your token" in stale.err) == (4, True)
    assert revoked.out.strip() == "the token of anna is revoked"

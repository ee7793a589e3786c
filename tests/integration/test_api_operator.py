"""The operator's API over a real folder: the token, the form of errors, lists, what is published."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_controller.api.app import PREFIX
from muster_controller.store import events
from muster_models.wire import Event, Phase
from support.office import Client, Office, armour, digest_of, names_of, open_office
from support.repository import make_signer

# What the command line, the dashboard and the story rely on.
PATHS = {
    "/status": {"get"},
    "/overview": {"get"},
    "/devices": {"get"},
    "/devices/tokens": {"post"},
    "/admission/tokens": {"get", "post"},
    "/admission/tokens/{token}/revoke": {"post"},
    "/admission/requests": {"get"},
    "/admission/requests/{code}/accept": {"post"},
    "/admission/requests/{code}/refuse": {"post"},
    "/devices/{device}": {"get"},
    "/devices/{device}/revoke": {"post"},
    "/devices/{device}/labels": {"put"},
    "/cohort": {"get"},
    "/models": {"get"},
    "/models/{model}": {"get"},
    "/models/{model}/drift": {"get"},
    "/models/{model}/drift/export": {"get"},
    "/models/{model}/drift/threshold": {"get"},
    "/models/{model}/cost": {"get"},
    "/models/{model}/labels": {"get"},
    "/labels": {"post"},
    "/models/{model}/stop": {"post"},
    "/models/{model}/start": {"post"},
    "/versions": {"get", "post"},
    "/versions/{name}": {"get"},
    "/versions/{name}/bootstrap": {"get"},
    "/versions/{digest}/withdraw": {"post"},
    "/blobs/{sha256}": {"get", "put", "head"},
    "/online-keys": {"get", "post"},
    "/repository": {"get", "put"},
    "/repository/roles": {"put"},
    "/repository/roles/{role}": {"get", "put"},
    "/rollouts": {"get", "post"},
    "/rollouts/plan": {"post"},
    "/rollouts/{number}": {"get"},
    "/rollouts/{number}/devices": {"get"},
    "/rollouts/{number}/evidence": {"get"},
    "/rollouts/{number}/explain": {"get"},
    "/rollouts/{number}/labels": {"get"},
    "/rollouts/{number}/edit": {"post"},
    "/rollouts/{number}/pause": {"post"},
    "/rollouts/{number}/resume": {"post"},
    "/rollouts/{number}/promote": {"post"},
    "/rollouts/{number}/abort": {"post"},
    "/rollouts/{number}/retry": {"post"},
    "/rollouts/{number}/rollback": {"post"},
    "/rollouts/{number}/approvals": {"get"},
    "/rollouts/{number}/approve": {"post"},
    "/rollouts/{number}/withhold": {"post"},
    "/drills": {"get", "post"},
    "/drills/{number}": {"get"},
    "/people": {"get", "post"},
    "/people/me": {"get"},
    "/people/{name}/token": {"post"},
    "/people/{name}/roles": {"put"},
    "/people/{name}/revoke": {"post"},
    "/alarms": {"get"},
    "/alarms/{number}": {"get"},
    "/alarms/{number}/explain": {"get"},
    "/alarms/{number}/acknowledge": {"post"},
    "/silences": {"get", "post"},
    "/silences/{number}/end": {"post"},
    "/webhooks": {"get"},
    "/webhooks/{name}/test": {"post"},
    "/deliveries": {"get"},
    "/deliveries/{number}": {"get"},
    "/jobs": {"get"},
    "/jobs/triggers": {"get"},
    "/jobs/{number}": {"get"},
    "/jobs/{number}/finish": {"post"},
    "/jobs/{number}/retry": {"post"},
    "/engines": {"get"},
    "/reporting": {"get", "put"},
    "/reporting/reset": {"post"},
    "/drift/plan": {"get"},
    "/samples": {"get", "post"},
    "/samples/{number}": {"get"},
    "/samples/{number}/rows": {"get"},
    "/samples/{number}/delete": {"post"},
    "/events": {"get"},
    "/refusals": {"get"},
    "/runs": {"get"},
    "/audit": {"get"},
}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path / "controller")
    yield made
    made.opened.close()


@pytest.fixture
def client(office: Office) -> Client:
    return Client(office)


@pytest.fixture
def published(office: Office, client: Client) -> Client:
    """A controller with a signed repository and one device."""
    office.install()
    office.enrol("berlin-1")
    return client


def test_the_openapi_document_describes_every_resource(client: Client) -> None:
    document = client.get("/openapi.json")
    served = {path.removeprefix(PREFIX): set(methods) for path, methods in document["paths"].items()}

    assert served == PATHS


@pytest.mark.parametrize("path", [path for path, methods in PATHS.items() if "get" in methods])
def test_every_resource_asks_for_the_token(client: Client, path: str) -> None:
    for token in ("", "wrong", client.token + "x"):
        error = client.refusal("GET", path.replace("{number}", "1"), token=token, status=401)

        assert error["code"] == "unauthorised"


def test_a_request_without_any_token_is_refused(client: Client) -> None:
    answer = client.ask_without_token("GET", "/status")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("request_", "body", "status", "code"),
    [
        ("GET /devices/nobody", None, 404, "not-found"),
        ("GET /nothing/here", None, 404, "not-found"),
        ("DELETE /devices/nobody", None, 404, "not-found"),
        ("GET /devices?limit=0", None, 422, "invalid"),
        ("GET /devices?limit=501", None, 422, "invalid"),
        ("GET /devices?cursor=%21", None, 400, "bad-request"),
        ("GET /events?cursor=ImEi", None, 400, "bad-request"),
        ("GET /devices?where=site", None, 400, "bad-request"),
        ("GET /devices?state=lost", None, 422, "invalid"),
        ("GET /versions/digits", None, 400, "bad-request"),
        ("GET /rollouts/x", None, 422, "invalid"),
        ("POST /devices/tokens", {"device": "../evil"}, 422, "invalid"),
        ("POST /devices/tokens", {"device": "berlin-1", "colour": "red"}, 422, "invalid"),
        ("POST /versions", {"manifest": "no base64!", "role": ""}, 422, "invalid"),
        ("POST /versions", {"manifest": "", "role": ""}, 409, "conflict"),
        ("PUT /blobs/nonsense", {}, 400, "bad-request"),
    ],
)
def test_every_error_has_the_one_form(
    client: Client, request_: str, body: object, status: int, code: str
) -> None:
    method, path = request_.split(" ", 1)
    answer = client.ask(method, path, json=body)

    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert set(error) == {"code", "message", "reason"}
    assert all(isinstance(value, str) for value in error.values())


def test_a_body_that_is_not_json_is_an_error_in_the_one_form(client: Client) -> None:
    error = client.refusal("POST", "/devices/tokens", content=b"\xff{", status=422)

    assert error["code"] == "invalid"


def test_a_body_that_is_too_large_is_refused_by_its_length(client: Client) -> None:
    error = client.refusal("POST", "/versions", content=b" " * (9 * 1024 * 1024), status=413)

    assert error["reason"] == "too-large"


def test_a_failure_of_ours_says_nothing_of_its_inside(
    office: Office, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    office.context.engine.dispose()
    office.context.folder.database.write_bytes(b"not a database any more" * 500)
    error = client.refusal("GET", "/devices", status=500)

    assert error == {"code": "failed", "message": "the controller failed; its log says why", "reason": ""}
    assert "GET /api/v1/devices failed" in caplog.text


def test_pages_lead_through_all_devices_once(office: Office, client: Client) -> None:
    names = [f"dev-{number:02}" for number in range(7)]
    office.enrol(*names)
    found: list[str] = []
    query: dict[str, object] = {"limit": 3}
    while True:
        page = client.get("/devices", **query)
        found += names_of(page["items"])
        if page["next"] is None:
            break
        query["cursor"] = page["next"]

    assert found == names


def test_events_are_listed_newest_first_and_filtered(office: Office, client: Client) -> None:
    office.enrol("berlin-1", "oslo-1")
    with office.context.unit() as session:
        for number in range(1, 6):
            device = "berlin-1" if number % 2 else "oslo-1"
            events.add(session, Event(device, 1, number, office.clock.now + number, "refused", "digits"))

    page = client.get("/events", device="berlin-1", limit=2)
    rest = client.get("/events", device="berlin-1", limit=2, cursor=page["next"])

    assert names_of(page["items"] + rest["items"]) == [5, 3, 1]
    assert rest["next"] is None
    assert client.get("/events", kind="crashed")["items"] == []
    assert page["items"][0]["at"].startswith("2027-01-15T")


def test_a_device_is_let_in_labelled_and_turned_away(office: Office, client: Client) -> None:
    token = client.post("/devices/tokens", {"device": "oslo-1", "labels": {"site": "oslo"}}, status=201)
    office.enrol("oslo-1")
    answer = client.ask("PUT", "/devices/oslo-1/labels", json={"labels": {"site": "bergen"}})
    revoked = client.post("/devices/oslo-1/revoke", {"reason": "sold"})

    assert token["device"] == "oslo-1"
    assert answer.json()["device"]["labels"] == {"site": "bergen"}
    assert revoked["device"]["state"] == "revoked"
    actions = names_of(client.get("/audit")["items"], "action")
    assert actions == ["device.revoke", "device.label", "device.token"]
    assert client.get("/cohort", where="site = bergen")["devices"] == []


def test_the_repository_begins_with_documents_signed_offline(office: Office, client: Client) -> None:
    online = client.get("/online-keys")
    assert online["director"] == office.context.online.director
    root, targets = office.offline_documents()

    answer = client.ask("PUT", "/repository", json={"root": armour(root), "targets": armour(targets)})

    assert answer.json() == {"installed": True, "targets": armour(targets), "models": []}
    assert client.get("/repository/roles/targets")["document"] == armour(targets)
    assert client.refusal("GET", "/repository/roles/model-digits", status=404)["code"] == "not-found"


def test_a_version_is_published_by_files_role_and_manifest(office: Office, published: Client) -> None:
    draft = office.draft(description="the first")
    published.upload(draft.files)

    detail = published.post("/versions", draft.body, status=201)

    assert detail["version"]["name"] == "digits@1.0.0"
    assert detail["manifest"]["description"] == "the first"
    assert names_of(published.get("/versions", model="digits")["items"], "digest") == [draft.digest]
    assert published.get("/models")["items"][0]["newest"]["name"] == "digits@1.0.0"
    assert published.ask("HEAD", f"/blobs/{next(iter(draft.files))}").status_code == 200
    assert published.ask("HEAD", f"/blobs/{'0' * 64}").status_code == 404


def test_an_upload_that_nobody_signed_is_refused(office: Office, published: Client) -> None:
    draft = office.draft(signer=make_signer())
    published.upload(draft.files)

    error = published.refusal("POST", "/versions", json=draft.body, status=422)

    assert error["code"] == "untrusted"
    assert error["reason"] in {"unsigned", "wrong-key"}
    assert published.get("/versions")["items"] == []


def test_a_manifest_that_was_tampered_with_is_refused(office: Office, published: Client) -> None:
    draft = office.draft()
    published.upload(draft.files)
    changed = draft.document.replace(b'"version":"1.0.0"', b'"version":"1.0.1"')
    body = {**draft.body, "manifest": armour(changed)}

    error = published.refusal("POST", "/versions", json=body, status=422)

    assert (error["code"], error["reason"]) == ("untrusted", "not-listed")


def test_a_file_that_was_tampered_with_is_refused(published: Client) -> None:
    error = published.refusal("PUT", f"/blobs/{digest_of(b'one')}", content=b"two", status=422)

    assert error["reason"] == "tampered"
    assert published.ask("HEAD", f"/blobs/{digest_of(b'two')}").status_code == 404


def test_a_used_name_with_other_content_is_refused(office: Office, published: Client) -> None:
    first = office.draft("1.0.0", description="first")
    second = office.draft("1.0.0", description="second")  # signed before the first was handed over
    published.upload(first.files)
    published.post("/versions", first.body, status=201)

    error = published.refusal("POST", "/versions", json=second.body, status=409)

    assert error["code"] == "conflict"
    assert published.get("/versions/digits@1.0.0")["manifest"]["description"] == "first"


def test_a_role_that_does_not_know_the_newest_release_is_refused(office: Office, published: Client) -> None:
    """It would make the version between forgotten."""
    first, stale = office.draft("1.0.0"), office.draft("1.1.0", release=2)
    for draft in (first, stale):
        published.upload(draft.files)
    published.post("/versions", first.body, status=201)

    error = published.refusal("POST", "/versions", json=stale.body, status=422)

    assert error["code"] == "untrusted"
    assert names_of(published.get("/versions")["items"], "name") == ["digits@1.0.0"]


def test_a_rollout_is_planned_started_and_steered(office: Office, published: Client) -> None:
    draft = office.draft()
    published.upload(draft.files)
    published.post("/versions", draft.body, status=201)
    body = {"version": "digits@1.0.0", "selector": "site = berlin", "stages": [{"percent": 100}]}

    plan = published.post("/rollouts/plan", body)
    started = published.post("/rollouts", {**body, "reason": "first"}, status=201)
    number = started["rollout"]["id"]

    assert (plan["cohort"], plan["obstacles"]) == (1, [])
    assert started["rollout"]["phase"] == "running"
    assert published.refusal("POST", "/rollouts", json=body, status=409)["code"] == "conflict"
    assert names_of(published.get("/rollouts", live="true")["items"]) == [number]
    assert names_of(published.get(f"/rollouts/{number}/devices")["items"], "device") == ["berlin-1"]
    assert published.get(f"/rollouts/{number}/evidence")["next"] is None
    paused = published.post(f"/rollouts/{number}/pause", {"reason": "lunch"})
    assert paused["rollout"]["phase"] == "paused"
    assert published.post(f"/rollouts/{number}/abort", {"mode": "keep"})["rollout"]["phase"] == "aborted"
    late = {"reason": "lunch is over"}
    assert published.refusal("POST", f"/rollouts/{number}/promote", json=late, status=409)["message"]


def test_drift_is_shown_for_who_is_asked_for(office: Office, published: Client) -> None:
    digest = office.release().version.digest
    office.add_window("berlin-1", digest, end=office.clock.now - 60, shift=1.0)

    view = published.get("/models/digits/drift", subject="site=berlin")

    assert (view["level"], view["windows"], view["rows"]) == ("group", 1, 200)
    assert view["features"][0]["name"] == "brightness"
    assert published.refusal("GET", "/models/digits/drift?subject=paris", status=404)


def test_the_overview_and_the_status_say_what_needs_attention(office: Office, published: Client) -> None:
    office.report("berlin-1", phase=Phase.FAILED, detail="it crashed")

    overview, status = published.get("/overview"), published.get("/status")

    assert [(one["kind"], one["subject"]) for one in overview["attention"]] == [("device", "berlin-1")]
    assert (status["attention"], status["repository"], status["devices"]["failed"]) == (1, True, 1)
    assert set(status["expires"]) == {"root", "targets", "snapshot", "timestamp"}

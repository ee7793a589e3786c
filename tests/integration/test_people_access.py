"""Roles against routes: every route of the API and every form of the dashboard, for every role."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from muster_controller.api.access import ROUTES, takes_of
from muster_controller.api.app import PREFIX
from muster_controller.domain.people import RIGHTS, ROLES, Person, Right, Role
from muster_controller.service import people
from muster_controller.service.context import Context
from muster_controller.web.access import FORMS, refusal
from muster_controller.web.app import make_dashboard
from muster_models.errors import ForbiddenError
from support.office import OPERATOR, Client, open_office
from support.testclient import TestClient

FORBIDDEN = 403
UNKNOWN = "/{rest:path}"  # what is not there


@dataclass(frozen=True)
class Staffed:
    """A controller with one person of each role, and their tokens."""

    context: Context
    client: Client
    tokens: dict[Role, str]
    dashboard: TestClient


@pytest.fixture(scope="module")
def staffed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staffed]:
    office = open_office(Path(tmp_path_factory.mktemp("staffed")) / "controller")
    office.install()
    office.release("1.0.0")
    office.enrol("berlin-1")
    tokens = {}
    for role in ROLES:
        token = people.add(office.context, OPERATOR, f"an-{role}", roles=[role]).token
        assert token is not None
        tokens[role] = token
    dashboard = TestClient(make_dashboard(office.context, office.opened.token), follow_redirects=False)
    yield Staffed(office.context, Client(office), tokens, dashboard)
    office.opened.close()


def documented(client: Client) -> list[tuple[str, str]]:
    """Return every method and path of the OpenAPI document, below the prefix."""
    return [
        (method.upper(), path.removeprefix(PREFIX))
        for path, methods in client.app.openapi()["paths"].items()
        for method in methods
    ]


def test_every_route_of_the_openapi_document_has_a_right_and_no_right_lacks_its_route(
    staffed: Staffed,
) -> None:
    routes = set(documented(staffed.client))
    known = {route for route in ROUTES if route[1] != UNKNOWN}

    assert routes - known == set()
    assert known - routes == set()


def test_a_route_that_is_not_in_the_table_answers_nobody() -> None:
    with pytest.raises(ForbiddenError, match="no role was given"):
        takes_of("POST", "/devices/{device}/launch")


@pytest.mark.parametrize("role", ROLES)
def test_each_role_is_let_through_exactly_where_its_rights_allow(staffed: Staffed, role: Role) -> None:
    wrong = []
    for method, path in documented(staffed.client):
        answer = staffed.client.ask(method, filled(path), token=staffed.tokens[role])
        allowed = ROUTES[method, path].right in RIGHTS[role]
        if (answer.status_code != FORBIDDEN) is not allowed:
            wrong.append((method, path, answer.status_code, answer.text))

    assert wrong == []


def filled(path: str) -> str:
    """Return a path with something in its holes that is not there."""
    return re.sub(r"\{\w+\}", "999", path)


def test_what_only_looks_takes_the_right_to_read_and_what_changes_takes_more() -> None:
    looks = {route for route, takes in ROUTES.items() if takes.right is Right.READ and route[1] != UNKNOWN}
    gets = {route for route in ROUTES if route[0] in {"GET", "HEAD"} and route[1] != UNKNOWN}

    assert gets - looks == {("GET", "/samples/{number}/rows")}  # rows of calls are no figures
    assert looks - gets == {("POST", "/rollouts/plan")}  # which stores nothing


def test_people_and_keys_are_the_admins_alone() -> None:
    administered = {path for (_, path), takes in ROUTES.items() if takes.right is Right.ADMINISTER}

    assert {role for role in ROLES if Right.ADMINISTER in RIGHTS[role]} == {"admin"}
    assert administered == {
        "/people",
        "/people/{name}/token",
        "/people/{name}/roles",
        "/people/{name}/revoke",
        "/online-keys",
        "/repository",
    }


def test_the_refusal_says_who_one_is_and_which_roles_may(staffed: Staffed) -> None:
    refused = staffed.client.refusal(
        "POST", "/models/digits/stop", status=FORBIDDEN, token=staffed.tokens["auditor"], json={}
    )

    assert refused["code"] == "forbidden"
    assert refused["message"] == "an-auditor is auditor; this takes operator or approver or admin"


def test_every_form_of_the_dashboard_has_a_right(staffed: Staffed) -> None:
    posts = [path for path in posted(staffed) if path not in {"/login", "/logout"}]

    assert len(posts) > 0
    assert [path for path in posts if not any(form.match(filled(path)) for form, _ in FORMS)] == []


def posted(staffed: Staffed) -> list[str]:
    app = staffed.dashboard.app
    found: list[str] = []
    waiting = list(app.routes)  # type: ignore[attr-defined]  # an application, as far as types know
    while waiting:
        route = waiting.pop()
        if isinstance(route, APIRoute):
            found += [route.path] if "POST" in (route.methods or ()) else []
        else:
            waiting += getattr(getattr(route, "original_router", route), "routes", [])
    return found


@pytest.mark.parametrize("role", ROLES)
def test_each_form_is_refused_on_the_server_exactly_where_its_button_is_disabled(
    staffed: Staffed, role: Role
) -> None:
    browser = staffed.dashboard
    browser.cookies.clear()
    assert browser.post("/login", data={"token": staffed.tokens[role]}).status_code == 303
    shown = browser.get("/people").text
    token = re.search(r'name="form_token" value="([0-9a-f]{64})"', shown)
    assert token is not None
    person = Person(f"an-{role}", (role,))
    forms = [filled(path).replace("999/999", "999/pause") for path in posted(staffed) if path != "/login"]

    answers = {path: browser.post(path, data={"form_token": token[1]}) for path in forms if path != "/logout"}

    for path, answer in answers.items():
        said = refusal(staffed.context, person, path)
        assert (answer.status_code == FORBIDDEN) is bool(said), path
        assert said in answer.text.replace("&#39;", "'")
    assert ("disabled" in shown) is (role != "admin")

"""Roles over named models: every route and form, asked about a model by somebody who is over another."""

import contextlib
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from muster_controller.api.access import ROUTES
from muster_controller.domain.alarms.silences import Matcher
from muster_controller.domain.people import FOUNDING, Person, Right
from muster_controller.service import alarms, people, samples
from muster_controller.service.samples import SampleRequest
from muster_controller.service.subjects import Asking, Subject, Takes
from muster_controller.store import jobs
from muster_controller.web.access import FORMS, refusal
from muster_controller.web.app import make_dashboard
from muster_models.errors import ForbiddenError
from support.alarms import raise_alarm
from support.office import OPERATOR, Client, armour
from support.room import Room, open_room
from support.testclient import TestClient

FORBIDDEN, NOT_FOUND = 403, 404
UNKNOWN = "/{rest:path}"
Route = tuple[str, str]
MINE = Person("dora", ("operator", "approver"), ("digits",))
OTHER = Person("pia", ("operator", "approver"), ("weather",))


@dataclass(frozen=True)
class Place:
    """A controller with the models ``digits`` and ``weather``, and one of all that ``digits`` can have.

    Attributes:
        things: What stands in the hole of a path, by what the path is about.
        bodies: Content about ``digits``, for each route whose body says what it is about.
    """

    room: Room
    client: Client
    tokens: dict[str, str]
    things: dict[Subject, str]
    bodies: dict[Route, dict[str, Any]]

    def ask(self, who: Person, route: Route, **content: Any) -> Any:
        """Ask a route about ``digits``, as somebody."""
        path = self.filled(route[1], ROUTES[route])
        sent = content or self.bodies.get(route, {"json": {"reason": "to see"}})
        return self.client.ask(route[0], path, token=self.tokens[who.name], **sent)

    def filled(self, path: str, takes: Takes) -> str:
        """Return a path with what belongs to ``digits`` in its hole."""
        return re.sub(r"\{\w+\}", self.things.get(takes.subject, "999"), path)

    def deeds(self) -> list[Any]:
        """Return the newest entries of the audit trail."""
        found: list[Any] = self.client.get("/audit")["items"]
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return a place for all tests that change nothing."""
    with open_place(Path(tmp_path_factory.mktemp("models"))) as made:
        yield made


@contextlib.contextmanager
def open_place(folder: Path) -> Iterator[Place]:
    with open_room(folder / "controller") as room:
        room.office.release("1.0.0", model="weather")
        context, client = room.office.context, Client(room.office)
        tokens = {}
        for one in (MINE, OTHER):
            token = people.add(context, OPERATOR, one.name, roles=one.roles, models=one.models).token
            assert token is not None
            tokens[one.name] = token
        things = make_things(room)
        yield Place(room, client, tokens, things, make_bodies(room))


def make_things(room: Room) -> dict[Subject, str]:
    """Make one of everything that a model can have."""
    context, now = room.office.context, room.office.clock.now
    alarm = raise_alarm(context.engine, context.settings, now, model="digits")
    silence = alarms.add_silence(context, OPERATOR, Matcher(model="digits"), seconds=60.0, reason="noise")
    order = samples.order(context, OPERATOR, SampleRequest("digits", "all", 1, 60.0, "odd scores"))
    with context.unit() as session:
        job = jobs.add(
            session,
            "retrain",
            alarm=alarm,
            model="digits",
            cause="drift",
            runs="command",
            evidence={},
            parent="",
            now=now,
        )
    return {
        Subject.MODEL: "digits",
        Subject.ROLLOUT: str(room.start()),
        Subject.ALARM: str(alarm),
        Subject.SILENCE: str(silence.id),
        Subject.JOB: str(job),
        Subject.SAMPLE: str(order.id),
        Subject.VERSION: version_of(room),
        Subject.ROLE: "model-digits",
    }


def version_of(room: Room) -> str:
    digest: str = Client(room.office).get("/versions/digits@1.0.0")["version"]["digest"]
    return digest


def make_bodies(room: Room) -> dict[Route, dict[str, Any]]:
    """Return what each route takes whose body says which model it is about."""
    draft = room.office.draft("1.2.0")
    label = {"device": "berlin-1", "model": "digits", "version": "1.0.0", "start": 1.0, "end": 2.0, "n": 1}
    rows = {"model": "digits", "where": "all", "rows": 1, "seconds": 60, "reason": "odd"}
    return {
        ("POST", "/versions"): {"json": draft.body},
        ("PUT", "/repository/roles"): {"json": {"documents": {"model-digits": armour(draft.role)}}},
        ("POST", "/labels"): {"json": [label]},
        ("POST", "/rollouts"): {"json": {"version": "digits@1.1.0"}},
        ("POST", "/drills"): {"json": {"model": "digits"}},
        ("POST", "/silences"): {"json": {"model": "digits", "seconds": 60, "reason": "noise"}},
        ("POST", "/samples"): {"json": rows},
    }


CHANGING = sorted(
    route for route, takes in ROUTES.items() if takes.right is not Right.READ and route[1] != UNKNOWN
)
READING = sorted(
    route for route, takes in ROUTES.items() if takes.right is Right.READ and route[1] != UNKNOWN
)


def test_there_is_a_body_for_each_route_whose_body_says_what_it_is_about(place: Place) -> None:
    asked = {route for route, takes in ROUTES.items() if takes.subject is Subject.BODY}

    assert set(place.bodies) == asked


def test_what_changes_nothing_and_files_by_their_hash_are_all_that_is_about_nothing() -> None:
    assert [route for route in CHANGING if ROUTES[route].subject is Subject.NOTHING] == [
        ("PUT", "/blobs/{sha256}")
    ]


def test_every_subject_but_the_fleet_the_body_and_nothing_is_the_only_hole_of_its_path() -> None:
    without = {Subject.FLEET, Subject.BODY, Subject.NOTHING}
    holes = {route: route[1].count("{") for route in CHANGING if ROUTES[route].subject not in without}

    assert set(holes.values()) == {1}


def test_every_order_on_another_model_is_refused_and_changes_nothing(place: Place) -> None:
    before, wrong = place.deeds(), []
    for route in CHANGING:
        answer = place.ask(OTHER, route)
        said = answer.json()["error"]["message"] if answer.status_code == FORBIDDEN else ""
        free = ROUTES[route].subject is Subject.NOTHING
        lacking = ROUTES[route].right is Right.ADMINISTER
        end = "over all models" if ROUTES[route].subject is Subject.FLEET else "for digits"
        told = said.startswith(f"{OTHER}; this takes ") and said.endswith("admin" if lacking else end)
        if told is free or bool(said) is free:
            wrong.append((route, answer.status_code, said))

    assert wrong == []
    assert place.deeds() == before


def test_reading_is_over_everything(place: Place) -> None:
    answers = {route: place.ask(OTHER, route).status_code for route in READING}

    assert [route for route, status in answers.items() if status == FORBIDDEN] == []
    assert place.client.ask("GET", "/models/digits", token=place.tokens["pia"]).status_code == 200


def test_what_is_not_there_is_nobodys(place: Place) -> None:
    for path in ("/rollouts/999/pause", "/rollouts/x/pause", f"/jobs/{'9' * 30}/retry"):
        answer = place.client.ask("POST", path, token=place.tokens["pia"], json={})

        assert answer.status_code == NOT_FOUND, path


def test_an_alarm_about_devices_whatever_they_run_is_the_fleets(place: Place) -> None:
    context, now = place.room.office.context, place.room.office.clock.now
    number = raise_alarm(context.engine, context.settings, now, model="", kind="silence", feature="")
    answer = place.client.ask(
        "POST", f"/alarms/{number}/acknowledge", token=place.tokens["dora"], json={"reason": "on it"}
    )

    assert (answer.status_code, "over all models" in answer.text) == (FORBIDDEN, True)


def test_a_route_whose_body_tells_gives_nobody_a_name_before_it_was_asked() -> None:
    asking = Asking(FOUNDING, Takes(Right.OPERATE, Subject.BODY))

    with pytest.raises(ForbiddenError, match="it was not asked which model"):
        asking.actor()
    assert asking.about(["digits", None]) == "operator"


FLEETS: dict[Route, dict[str, Any]] = {
    ("PUT", "/repository/roles"): {"documents": {"model-digits": "", "targets": ""}},
    ("POST", "/silences"): {"kind": "data-drift", "seconds": 60, "reason": "noise"},
}


@pytest.mark.parametrize("route", FLEETS)
def test_a_body_that_is_about_more_than_ones_model_is_an_order_on_the_fleet(
    place: Place, route: Route
) -> None:
    answer = place.ask(MINE, route, json=FLEETS[route])

    assert answer.status_code == FORBIDDEN
    assert answer.json()["error"]["message"].endswith("operator or admin over all models")


def test_new_targets_are_an_order_on_the_fleet(place: Place) -> None:
    body = {**place.room.office.draft("1.3.0").body, "targets": armour(b"any")}
    answer = place.ask(MINE, ("POST", "/versions"), json=body)

    assert (answer.status_code, "over all models" in answer.text) == (FORBIDDEN, True)


def test_one_line_about_another_model_refuses_the_push(place: Place) -> None:
    route = ("POST", "/labels")
    (line,) = place.bodies[route]["json"]
    both = [line, {**line, "model": "weather"}]
    answer = place.ask(MINE, route, json=both)

    assert (answer.status_code, "for weather" in answer.text) == (FORBIDDEN, True)


def test_a_rollout_back_to_another_model_is_no_plan(place: Place) -> None:
    body = {"version": "digits@1.1.0", "previous": "weather@1.0.0"}
    answer = place.ask(MINE, ("POST", "/rollouts"), json=body)

    assert answer.status_code == 400
    assert "previous: expected a version of digits, got weather@1.0.0" in answer.text


@dataclass(frozen=True)
class Browser:
    """The dashboard, as somebody who is logged in."""

    http: TestClient
    token: str

    def post(self, path: str, **fields: str) -> Any:
        return self.http.post(path, data={"form_token": self.token, "reason": "to see", **fields})


@pytest.fixture
def dashboard(place: Place) -> Iterator[TestClient]:
    context = place.room.office.context
    with TestClient(make_dashboard(context, "first"), follow_redirects=False) as http:
        yield http


def logged_in(place: Place, http: TestClient, who: Person) -> Browser:
    http.cookies.clear()
    assert http.post("/login", data={"token": place.tokens[who.name]}).status_code == 303
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', http.get("/").text)
    assert found is not None
    return Browser(http, found[1])


def test_every_form_about_another_model_is_refused_as_its_button_says(
    place: Place, dashboard: TestClient
) -> None:
    browser, before = logged_in(place, dashboard, OTHER), place.deeds()
    about = {"/silences": {"model": "digits", "hours": "1"}, "/rollouts/new": {"version": "digits@1.1.0"}}
    free = {Subject.BODY, Subject.NOTHING}
    for path, takes in forms(place):
        answer = browser.post(path, **about.get(path, {}))
        said = refusal(place.room.office.context, OTHER, path)

        assert bool(said) is (takes.subject not in free), path
        assert (answer.status_code == FORBIDDEN) is (takes.subject is not Subject.NOTHING), path
        assert said in html.unescape(answer.text)
        assert takes.subject is not Subject.BODY or "for digits" in answer.text
    assert place.deeds() == before


def forms(place: Place) -> list[tuple[str, Takes]]:
    """Return the path of every form, about ``digits`` where it is about a model."""
    found = []
    for pattern, takes in FORMS:
        path = re.sub(r"\(\?P<command>.*?\)", "resume", pattern.pattern.strip("^$"))
        found.append((re.sub(r"\(\?P<\w+>.*?\)", place.things.get(takes.subject, "999"), path), takes))
    return found


def test_buttons_are_disabled_with_the_sentence_where_one_is_over_another_model(
    place: Place, dashboard: TestClient
) -> None:
    rollout = place.things[Subject.ROLLOUT]
    pages = ("/models/digits", f"/rollouts/{rollout}", f"/alarms/{place.things[Subject.ALARM]}", "/silences")
    logged_in(place, dashboard, OTHER)
    theirs = {page: html.unescape(dashboard.get(page).text) for page in pages}
    logged_in(place, dashboard, MINE)
    mine = {page: html.unescape(dashboard.get(page).text) for page in pages}

    for page in pages:
        assert f'disabled title="{OTHER}; this takes ' in theirs[page]
        assert " disabled " not in mine[page]


def test_over_its_own_model_everything_but_the_fleets_is_let_through(tmp_path: Path) -> None:
    with open_place(tmp_path) as place:
        allowed = {route: place.ask(MINE, route).status_code != FORBIDDEN for route in CHANGING}
    fleets = [route for route in CHANGING if ROUTES[route].subject is Subject.FLEET]

    assert [route for route, may in allowed.items() if not may] == fleets

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from muster_controller.domain.people import FOUNDING
from muster_controller.service import people
from muster_controller.service.people import Door, open_door
from muster_controller.web.session import LIFETIME_SECONDS, Sessions
from muster_models.errors import ForbiddenError
from support.office import OPERATOR, Office, open_office

NOW = 1_000_000.0
TOKEN = "operator-token"


@dataclass(frozen=True)
class Desk:
    """A controller that people log in to; Anna is an auditor."""

    office: Office
    door: Door
    anna: str

    @property
    def sessions(self) -> Sessions:
        return Sessions(self.door)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    office = open_office(tmp_path / "controller")
    token = people.add(office.context, OPERATOR, "anna", roles=["auditor"]).token
    assert token is not None
    yield Desk(office, open_door(office.context, TOKEN), token)
    office.opened.close()


def test_the_folders_token_opens_a_session_that_ends(desk: Desk) -> None:
    cookie = desk.sessions.open(f"{TOKEN}\n", NOW)

    assert desk.sessions.person(cookie, NOW + LIFETIME_SECONDS - 1) == FOUNDING
    assert desk.sessions.person(cookie, NOW + LIFETIME_SECONDS) is None


def test_a_persons_token_opens_a_session_of_that_person(desk: Desk) -> None:
    seen = desk.sessions.person(desk.sessions.open(desk.anna, NOW), NOW)

    assert seen is not None
    assert (seen.name, seen.roles) == ("anna", ("auditor",))


def test_another_token_opens_nothing(desk: Desk) -> None:
    with pytest.raises(ForbiddenError, match=r"operator\.token"):
        desk.sessions.open("guessed", NOW)


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        ".",
        "..",
        "9999999999",
        "operator.9999999999.",
        "operator.9999999999.00",
        "nobody.9999999999.",
        "anna.1e12.é",
    ],
)
def test_a_cookie_that_was_not_made_here_is_nobodys(desk: Desk, cookie: str) -> None:
    assert desk.sessions.person(cookie, NOW) is None


def test_a_cookie_cannot_be_prolonged_nor_become_another_persons(desk: Desk) -> None:
    name, expires, signature = desk.sessions.open(desk.anna, NOW).split(".")

    assert desk.sessions.person(f"{name}.{int(expires) + 1}.{signature}", NOW) is None
    assert desk.sessions.person(f"operator.{expires}.{signature}", NOW) is None


def test_a_new_token_of_the_folder_ends_every_session(desk: Desk) -> None:
    cookies = [desk.sessions.open(token, NOW) for token in (TOKEN, desk.anna)]
    renewed = Sessions(open_door(desk.office.context, "another-token"))

    assert [renewed.person(cookie, NOW) for cookie in cookies] == [None, None]


def test_a_new_token_of_a_person_ends_that_persons_sessions_alone(desk: Desk) -> None:
    mine, hers = (desk.sessions.open(token, NOW) for token in (TOKEN, desk.anna))
    people.renew(desk.office.context, OPERATOR, "anna")

    assert desk.sessions.person(hers, NOW) is None
    assert desk.sessions.person(mine, NOW) == FOUNDING


def test_whoever_is_revoked_is_logged_out_at_once(desk: Desk) -> None:
    cookie = desk.sessions.open(desk.anna, NOW)
    people.revoke(desk.office.context, OPERATOR, "anna")

    assert desk.sessions.person(cookie, NOW) is None
    with pytest.raises(ForbiddenError):
        desk.sessions.open(desk.anna, NOW)


def test_other_roles_hold_from_the_next_request_on(desk: Desk) -> None:
    cookie = desk.sessions.open(desk.anna, NOW)
    people.change(desk.office.context, OPERATOR, "anna", roles=["operator"])
    seen = desk.sessions.person(cookie, NOW)

    assert seen is not None
    assert seen.roles == ("operator",)


def test_a_form_serves_only_the_session_it_was_rendered_for(desk: Desk) -> None:
    sessions = desk.sessions
    mine, other = sessions.open(TOKEN, NOW), sessions.open(TOKEN, NOW + 1)
    sessions.check_form(mine, sessions.form_token(mine))

    for token in (sessions.form_token(other), sessions.form_token(sessions.open(desk.anna, NOW)), ""):
        with pytest.raises(ForbiddenError, match="another session"):
            sessions.check_form(mine, token)

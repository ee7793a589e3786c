import pytest

from muster_controller.web.session import LIFETIME_SECONDS, Sessions
from muster_models.errors import ForbiddenError

NOW = 1_000_000.0


@pytest.fixture
def sessions() -> Sessions:
    return Sessions("operator-token")


def test_the_operators_token_opens_a_session_that_ends(sessions: Sessions) -> None:
    cookie = sessions.open("operator-token\n", NOW)

    assert sessions.is_valid(cookie, NOW + LIFETIME_SECONDS - 1)
    assert not sessions.is_valid(cookie, NOW + LIFETIME_SECONDS)


def test_another_token_opens_nothing(sessions: Sessions) -> None:
    with pytest.raises(ForbiddenError, match=r"operator\.token"):
        sessions.open("guessed", NOW)


@pytest.mark.parametrize("cookie", ["", ".", "9999999999", "9999999999.", "9999999999.00", "x.y", "1e12.é"])
def test_a_cookie_that_was_not_made_here_is_not_valid(sessions: Sessions, cookie: str) -> None:
    assert not sessions.is_valid(cookie, NOW)


def test_a_cookie_cannot_be_prolonged(sessions: Sessions) -> None:
    expires, _, signature = sessions.open("operator-token", NOW).partition(".")

    assert not sessions.is_valid(f"{int(expires) + 1}.{signature}", NOW)


def test_a_new_token_ends_every_session(sessions: Sessions) -> None:
    cookie = sessions.open("operator-token", NOW)

    assert not Sessions("another-token").is_valid(cookie, NOW)


def test_a_form_serves_only_the_session_it_was_rendered_for(sessions: Sessions) -> None:
    mine, other = sessions.open("operator-token", NOW), sessions.open("operator-token", NOW + 1)
    sessions.check_form(mine, sessions.form_token(mine))

    with pytest.raises(ForbiddenError, match="another session"):
        sessions.check_form(mine, sessions.form_token(other))
    with pytest.raises(ForbiddenError, match="another session"):
        sessions.check_form(mine, "")

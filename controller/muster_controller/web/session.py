"""Who is looking: a signed cookie made from a person's token, and the token of its forms.

The cookie holds no secret and needs no table: it says whose it is and until when it is valid, authenticated
by a key derived from the person's token: a new token, or the end of one, ends every session it opened.
"""

import hashlib
import hmac

from muster_controller.domain.people import Person
from muster_controller.service.people import Door
from muster_models.errors import ForbiddenError

COOKIE = "muster_session"
LIFETIME_SECONDS = 12 * 3600


class Sessions:
    """Makes and checks cookies and form tokens for whoever comes through the door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def open(self, token: str, now: float) -> str:
        """Return a new cookie for who holds a token.

        Raises:
            ForbiddenError: Nobody holds it.
        """
        person = self._door.by_token(token.strip())
        if person is None:
            raise ForbiddenError(
                "this is nobody's token; yours was shown to who let you in, and the first one stands in"
                " operator.token of the controller"
            )
        expires = str(int(now) + LIFETIME_SECONDS)
        found = self._door.by_name(person.name)
        assert found is not None
        return f"{person.name}.{expires}.{_sign(found[1], 'session', person.name, expires)}"

    def person(self, cookie: str, now: float) -> Person | None:
        """Return whose session this is; None when it was not made here or is over."""
        name, expires, signature = _parts(cookie)
        found = self._door.by_name(name)
        if found is None or not _equal(signature, _sign(found[1], "session", name, expires)):
            return None
        return found[0] if expires.isdecimal() and int(expires) > now else None

    def form_token(self, cookie: str) -> str:
        """Return what a form of this session must carry, so that no other site can post for it."""
        name, _, _ = _parts(cookie)
        found = self._door.by_name(name)
        return "" if found is None else _sign(found[1], "form", name, cookie)

    def check_form(self, cookie: str, token: str) -> None:
        """Refuse a form that was not rendered for this session.

        Raises:
            ForbiddenError: The form's token is missing or another session's.
        """
        if not _equal(token, self.form_token(cookie)):
            raise ForbiddenError("the form belongs to another session; reload the page and send it again")


def _sign(secret: bytes, purpose: str, name: str, value: str) -> str:
    key = hashlib.sha256(b"muster dashboard session\0" + secret).digest()
    return hmac.new(key, f"{purpose}\0{name}\0{value}".encode(), hashlib.sha256).hexdigest()


def _parts(cookie: str) -> tuple[str, str, str]:
    rest, _, signature = cookie.rpartition(".")
    name, _, expires = rest.rpartition(".")
    return name, expires, signature


def _equal(given: str, wanted: str) -> bool:
    """Compare in a time that does not depend on where they differ; what is given may hold any character."""
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())

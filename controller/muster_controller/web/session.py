"""Who is looking: a signed cookie made from the operator's token, and the token of its forms.

The cookie holds no secret and needs no table: it says until when it is valid, authenticated by a key
derived from the operator's token: a new token ends every session.
"""

import hashlib
import hmac

from muster_models.errors import ForbiddenError

COOKIE = "muster_session"
LIFETIME_SECONDS = 12 * 3600


class Sessions:
    """Makes and checks cookies and form tokens for one operator's token."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._key = hashlib.sha256(b"muster dashboard session\0" + token.encode()).digest()

    def open(self, token: str, now: float) -> str:
        """Return a new cookie for who knows the operator's token.

        Raises:
            ForbiddenError: The token is not the operator's.
        """
        if not _equal(token.strip(), self._token):
            raise ForbiddenError(
                "this is not the operator's token; it stands in operator.token of the controller"
            )
        expires = str(int(now) + LIFETIME_SECONDS)
        return f"{expires}.{self._sign('session', expires)}"

    def is_valid(self, cookie: str, now: float) -> bool:
        """Tell whether a cookie was made here and is not over."""
        expires, _, signature = cookie.partition(".")
        genuine = _equal(signature, self._sign("session", expires))
        return genuine and expires.isdecimal() and int(expires) > now

    def form_token(self, cookie: str) -> str:
        """Return what a form of this session must carry, so that no other site can post for it."""
        return self._sign("form", cookie)

    def check_form(self, cookie: str, token: str) -> None:
        """Refuse a form that was not rendered for this session.

        Raises:
            ForbiddenError: The form's token is missing or another session's.
        """
        if not _equal(token, self.form_token(cookie)):
            raise ForbiddenError("the form belongs to another session; reload the page and send it again")

    def _sign(self, purpose: str, value: str) -> str:
        return hmac.new(self._key, f"{purpose}\0{value}".encode(), hashlib.sha256).hexdigest()


def _equal(given: str, wanted: str) -> bool:
    """Compare in a time that does not depend on where they differ; what is given may hold any character."""
    return hmac.compare_digest(given.encode(), wanted.encode())

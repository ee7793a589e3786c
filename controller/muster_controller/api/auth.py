"""Who may ask: the operator's bearer token, compared in constant time."""

import hmac
from typing import Annotated, Final

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

# The actor in the audit trail; there is one operator's token.
OPERATOR: Final = "operator"
_bearer = HTTPBearer(auto_error=False, description="The text in operator.token of the controller's folder.")


def matches(token: str, given: str) -> bool:
    """Tell whether ``given`` is the token, in a time that does not depend on where they differ."""
    return hmac.compare_digest(token.encode(), given.encode())


def require_operator(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    """Return the actor of a request that carries the operator's token."""
    token: str = request.app.state.token
    if credentials is None or not matches(token, credentials.credentials):
        raise HTTPException(
            401, "send the operator's token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"}
        )
    return OPERATOR

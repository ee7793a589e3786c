"""Who may ask: a bearer token says who is asking, and the table of routes what that takes."""

from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from muster_controller.api.access import right_of
from muster_controller.domain.people import Person, check

if TYPE_CHECKING:
    from muster_controller.service.people import Door

PREFIX: Final = "/api/v1"
_bearer = HTTPBearer(
    auto_error=False, description="Your token, or the text in operator.token of the controller's folder."
)


def require_person(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Person:
    """Return who is asking, when they may ask this.

    Raises:
        ForbiddenError: The person has no role that may; the message says which roles may.
    """
    door: Door = request.app.state.door
    person = None if credentials is None else door.by_token(credentials.credentials)
    if person is None:
        raise HTTPException(401, "send your token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
    path: str = request.scope["route"].path
    check(person, right_of(request.method, path.removeprefix(PREFIX)))
    return person

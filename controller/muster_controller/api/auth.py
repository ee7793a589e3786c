"""Who may ask: a bearer token says who is asking, and the table of routes what that takes."""

from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from muster_controller.api.access import takes_of
from muster_controller.service.subjects import Asking, why_refused
from muster_models.errors import ForbiddenError

if TYPE_CHECKING:
    from muster_controller.service.people import Door

PREFIX: Final = "/api/v1"
_bearer = HTTPBearer(
    auto_error=False, description="Your token, or the text in operator.token of the controller's folder."
)


def require_right(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Asking:
    """Return who is asking, when they may ask this, as far as the path tells.

    Raises:
        ForbiddenError: The person has no role that may, or not for this model; the message says which may.
        NotFoundError: The person is over some models, and what the path names is not there.
    """
    door: Door = request.app.state.door
    person = None if credentials is None else door.by_token(credentials.credentials)
    if person is None:
        raise HTTPException(401, "send your token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
    path: str = request.scope["route"].path
    takes = takes_of(request.method, path.removeprefix(PREFIX))
    refused = why_refused(request.app.state.context, person, takes, request.path_params)
    if refused:
        raise ForbiddenError(refused)
    return Asking(person, takes)

"""``/people``: who there is, and in which roles; tokens are shown once."""

from fastapi import APIRouter
from pydantic import Field

from muster_controller.api.documents import ReasonBody
from muster_controller.api.parts import Actor, Here, Who
from muster_controller.domain.people import Role
from muster_controller.service import people
from muster_controller.service.people import PersonView

router = APIRouter(prefix="/people", tags=["people"])


class RolesBody(ReasonBody):
    """The roles somebody has from now on, and over which models."""

    roles: list[Role] = Field(min_length=1)
    models: list[str] | None = Field(
        default=None, description="That the roles are for, also such as are not there yet; all when left out."
    )


class PersonBody(RolesBody):
    """Somebody who is let in."""

    name: str = Field(description="As the audit trail will name them; never used again for somebody else.")


@router.get("")
def list_people(context: Here) -> tuple[PersonView, ...]:
    """Return everybody by name, those revoked too."""
    return people.list_people(context)


@router.get("/me")
def show_me(who: Who) -> PersonView:
    """Return who is asking, and what they may do."""
    return people.view(who)


@router.post("", status_code=201)
def add(context: Here, actor: Actor, body: PersonBody) -> PersonView:
    """Let somebody in; the token is shown this once."""
    return people.add(context, actor, body.name, roles=body.roles, models=body.models, reason=body.reason)


@router.post("/{name}/token")
def renew(context: Here, actor: Actor, name: str, body: ReasonBody) -> PersonView:
    """Make a new token for somebody, shown this once; the one before ends."""
    return people.renew(context, actor, name, body.reason)


@router.put("/{name}/roles")
def change(context: Here, actor: Actor, name: str, body: RolesBody) -> PersonView:
    """Give somebody other roles, over other models."""
    return people.change(context, actor, name, roles=body.roles, models=body.models, reason=body.reason)


@router.post("/{name}/revoke")
def revoke(context: Here, actor: Actor, name: str, body: ReasonBody) -> PersonView:
    """Refuse somebody's token from now on."""
    return people.revoke(context, actor, name, body.reason)

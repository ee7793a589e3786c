"""``/repository`` and ``/online-keys``: where documents signed offline meet this controller."""

from fastapi import APIRouter
from pydantic import Field

from muster_controller.api.documents import Body, Document, unarmour
from muster_controller.api.parts import Actor, Asks, Here
from muster_controller.service import publishing
from muster_controller.service.context import OnlineKeys
from muster_controller.service.publishing import RepositoryView, RoleView
from muster_controller.service.subjects import model_of_role

router = APIRouter(tags=["repository"])


class InstallBody(Body):
    """The offline-signed beginning of the repository."""

    root: Document
    targets: Document


class RoleBody(Body):
    """A newly signed document of a role."""

    document: Document


class RolesBody(Body):
    """Newly signed documents, by role, that belong together."""

    documents: dict[str, Document] = Field(min_length=1)


@router.get("/online-keys")
def show_online_keys(context: Here) -> OnlineKeys:
    """Return the public keys that root and targets must name."""
    return context.online


@router.post("/online-keys")
def renew_online_keys(context: Here, actor: Actor) -> OnlineKeys:
    """Make new keys of this controller, and return what the next root and targets must name."""
    return publishing.renew_online_keys(context, actor)


@router.get("/repository")
def show_repository(context: Here) -> RepositoryView:
    """Return what the signed repository lists now."""
    return publishing.show_repository(context)


@router.put("/repository")
def install(context: Here, actor: Actor, body: InstallBody) -> RepositoryView:
    """Begin the signed repository."""
    return publishing.install(context, actor, root=unarmour(body.root), targets=unarmour(body.targets))


@router.put("/repository/roles")
def accept_documents(context: Here, asks: Asks, body: RolesBody) -> RepositoryView:
    """Take newly signed documents of several roles at once."""
    actor = asks.about(map(model_of_role, body.documents))
    documents = {role: unarmour(document) for role, document in body.documents.items()}
    return publishing.accept_documents(context, actor, documents)


@router.get("/repository/roles/{role}")
def show_role(context: Here, role: str) -> RoleView:
    """Return the newest document of ``root``, ``targets`` or a model's role."""
    return publishing.show_role(context, role)


@router.put("/repository/roles/{role}")
def accept_role(context: Here, actor: Actor, role: str, body: RoleBody) -> RoleView:
    """Take a newly signed document of a role."""
    return publishing.accept_role(context, actor, role, document=unarmour(body.document))

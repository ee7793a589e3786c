"""The page of people, and the forms on it; a token that was made is shown once, in the answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from muster_controller.domain.people import RIGHTS, ROLES
from muster_controller.service import people
from muster_controller.service.context import Context
from muster_controller.service.people import PersonView
from muster_controller.web.view import Actor, Renderer

Text = Annotated[str, Form(max_length=400)]
Roles = Annotated[list[str] | None, Form(max_length=8)]
Models = Annotated[str, Form(max_length=4000)]
SECTION = "/people"


class PeoplePages:
    """What there is to look at."""

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer
        self.router = APIRouter(dependencies=[Depends(renderer.require_session)])
        self.router.add_api_route(SECTION, self.people, response_class=HTMLResponse, response_model=None)

    def people(self, request: Request) -> HTMLResponse:
        """Everybody, with what they may do."""
        return show(self._context, self._renderer, request)


class PeopleActions:
    """What there is to order."""

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer
        self.router = APIRouter(dependencies=[Depends(renderer.require_session), Depends(self._require_form)])
        for path, action in (
            ("/people", self.add),
            ("/people/{name}/token", self.renew),
            ("/people/{name}/roles", self.change),
            ("/people/{name}/revoke", self.revoke),
        ):
            self.router.add_api_route(path, action, methods=["POST"], response_model=None)

    def _require_form(self, request: Request, form_token: Text = "") -> None:
        self._renderer.check_form(request, form_token)
        self._renderer.check_right(request)

    def add(
        self,
        request: Request,
        actor: Actor,
        *,
        name: Text = "",
        roles: Roles = None,
        models: Models = "",
        reason: Text = "",
    ) -> Response:
        """Let somebody in, and show the token."""
        made = people.add(self._context, actor, name, roles=roles or [], models=_named(models), reason=reason)
        return show(self._context, self._renderer, request, made)

    def renew(self, request: Request, actor: Actor, name: str, reason: Text = "") -> Response:
        """Make a new token for somebody, and show it."""
        made = people.renew(self._context, actor, name, reason)
        return show(self._context, self._renderer, request, made)

    def change(
        self, actor: Actor, name: str, *, roles: Roles = None, models: Models = "", reason: Text = ""
    ) -> Response:
        """Give somebody other roles, over other models."""
        people.change(self._context, actor, name, roles=roles or [], models=_named(models), reason=reason)
        return RedirectResponse(SECTION, status_code=303)

    def revoke(self, actor: Actor, name: str, reason: Text = "") -> Response:
        """Refuse somebody's token."""
        people.revoke(self._context, actor, name, reason)
        return RedirectResponse(SECTION, status_code=303)


def _named(models: str) -> list[str] | None:
    """Return names that were written apart by spaces or commas; None, all models, where there is none."""
    return models.replace(",", " ").split() or None


def show(
    context: Context, renderer: Renderer, request: Request, made: PersonView | None = None
) -> HTMLResponse:
    """Return the page; with the token of ``made``, which no page shows again."""
    return renderer.page(
        request,
        "people.html",
        section=SECTION,
        people=people.list_people(context),
        made=made,
        rights=[(role, sorted(RIGHTS[role])) for role in ROLES],
    )

"""One way to answer with a page, and one way to know that somebody is logged in."""

from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment

from muster_controller.domain.people import Person
from muster_controller.service.context import Context
from muster_controller.service.subjects import Asking
from muster_controller.web.access import FormToken, ask
from muster_controller.web.session import COOKIE, Sessions

TITLES = {400: "Not understood", 403: "Not allowed", 404: "Not found", 409: "Not now", 422: "Refused"}


def person_of(request: Request) -> Person:
    """Return who is logged in, where ``require_session`` came first."""
    person: Person = request.state.person
    return person


def asking_of(request: Request) -> Asking:
    """Return who sent a form, where ``check_right`` came first."""
    asking: Asking = request.state.asking
    return asking


def _name_of(request: Request) -> str:
    return asking_of(request).actor()


Who = Annotated[Person, Depends(person_of)]
Asks = Annotated[Asking, Depends(asking_of)]  # where only the form's fields say which model it is about
Actor = Annotated[str, Depends(_name_of)]  # as the audit trail names who sent a form


class Renderer:
    """Renders templates for whoever is logged in."""

    def __init__(self, environment: Environment, sessions: Sessions, context: Context) -> None:
        self._environment = environment
        self._context = context
        self._clock = context.clock
        self.sessions = sessions

    def require_session(self, request: Request) -> None:
        """Send whoever is not logged in to the login page."""
        request.state.person = self._reader(request)
        if request.state.person is None:
            raise HTTPException(303, "log in first", {"Location": "/login"})

    def check_form(self, request: Request, token: str) -> None:
        """Refuse a form that was not rendered for this session."""
        self.sessions.check_form(request.cookies.get(COOKIE, ""), token)

    def check_right(self, request: Request) -> None:
        """Refuse a form that takes a role the person does not have, or not for this model."""
        request.state.asking = ask(self._context, person_of(request), request.scope["path"])

    def _reader(self, request: Request) -> Person | None:
        return self.sessions.person(request.cookies.get(COOKIE, ""), self._clock())

    def page(
        self, request: Request, template: str, *, status: int = 200, section: str = "", **values: Any
    ) -> HTMLResponse:
        """Answer with a rendered template."""
        cookie = request.cookies.get(COOKIE, "")
        shared = {
            "section": section,
            "form_token": FormToken(self.sessions.form_token(cookie), self._reader(request), self._context),
            "address": list(request.query_params.multi_items()),
        }
        text = self._environment.get_template(template).render(shared | values)
        return HTMLResponse(text, status_code=status)

    def problem(self, request: Request, status: int, message: str) -> HTMLResponse:
        """Answer with what went wrong, in the frame of every page."""
        title = TITLES.get(status, "Something went wrong")
        return self.page(request, "problem.html", status=status, title=title, message=message)

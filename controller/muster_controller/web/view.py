"""One way to answer with a page, and one way to know that somebody is logged in."""

from collections.abc import Callable
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment

from muster_controller.web.session import COOKIE, Sessions

TITLES = {400: "Not understood", 403: "Not allowed", 404: "Not found", 409: "Not now", 422: "Refused"}


class Renderer:
    """Renders templates for whoever is logged in."""

    def __init__(self, environment: Environment, sessions: Sessions, clock: Callable[[], float]) -> None:
        self._environment = environment
        self._clock = clock
        self.sessions = sessions

    def require_session(self, request: Request) -> None:
        """Send whoever is not logged in to the login page."""
        if not self.sessions.is_valid(request.cookies.get(COOKIE, ""), self._clock()):
            raise HTTPException(303, "log in first", {"Location": "/login"})

    def check_form(self, request: Request, token: str) -> None:
        """Refuse a form that was not rendered for this session."""
        self.sessions.check_form(request.cookies.get(COOKIE, ""), token)

    def page(
        self, request: Request, template: str, *, status: int = 200, section: str = "", **values: Any
    ) -> HTMLResponse:
        """Answer with a rendered template."""
        cookie = request.cookies.get(COOKIE, "")
        shared = {
            "section": section,
            "form_token": self.sessions.form_token(cookie),
            "address": list(request.query_params.multi_items()),
        }
        text = self._environment.get_template(template).render(shared | values)
        return HTMLResponse(text, status_code=status)

    def problem(self, request: Request, status: int, message: str) -> HTMLResponse:
        """Answer with what went wrong, in the frame of every page."""
        title = TITLES.get(status, "Something went wrong")
        return self.page(request, "problem.html", status=status, title=title, message=message)

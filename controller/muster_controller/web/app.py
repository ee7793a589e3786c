"""The dashboard as an application of its own, mounted beside the API: its own errors, headers and session."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from muster_controller.api.errors import status_of
from muster_controller.service.context import Context
from muster_controller.service.people import open_door
from muster_controller.store.engine import Changes
from muster_controller.web.actions import Actions, Sign
from muster_controller.web.alarm_pages import AlarmActions, AlarmPages
from muster_controller.web.live import Live
from muster_controller.web.pages import Pages
from muster_controller.web.people_pages import PeopleActions, PeoplePages
from muster_controller.web.plan_pages import PlanPages
from muster_controller.web.render import STATIC, build_id, make_environment
from muster_controller.web.rollout_pages import RolloutActions, RolloutPages
from muster_controller.web.sample_forms import SampleForms
from muster_controller.web.session import Sessions
from muster_controller.web.view import Renderer
from muster_models.errors import MusterError

# Nothing but our own files: no inline script, no inline style, no frame, no foreign form target.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
SMALLEST_BYTES = 800  # below this, compressing costs more than it saves
FOR_EVER = "public, max-age=31536000, immutable"  # the path of a static file holds a hash of its content


def make_dashboard(context: Context, token: str) -> FastAPI:
    """Return the dashboard of one controller; ``token`` is that of its folder."""
    sessions = Sessions(open_door(context, token))
    renderer = Renderer(make_environment(context.clock), sessions, context)
    live = Live(Changes(context.engine), sessions)
    site = FastAPI(openapi_url=None)
    site.include_router(Pages(context, renderer).router)
    # Before the page of one rollout, whose path is open to any word.
    site.include_router(PlanPages(context, renderer).router)
    site.include_router(RolloutPages(context, renderer).router)
    site.include_router(AlarmPages(context, renderer).router)
    site.include_router(PeoplePages(context, renderer).router)
    site.include_router(Sign(context, renderer).router)
    site.include_router(PeopleActions(context, renderer).router)
    site.include_router(Actions(context, renderer).router)
    site.include_router(SampleForms(context, renderer).router)
    # After the actions: its last path is open to several orders.
    site.include_router(RolloutActions(context, renderer).router)
    site.include_router(AlarmActions(context, renderer).router)
    site.mount(f"/static/{build_id()}", StaticFiles(directory=STATIC))
    site.add_middleware(GZipMiddleware, minimum_size=SMALLEST_BYTES)
    site.middleware("http")(_add_headers)
    _add_errors(site, renderer)

    @site.websocket("/live")
    async def serve_live(socket: WebSocket) -> None:
        await live.serve(socket, context.clock())

    return site


async def _add_headers(request: Request, follow: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await follow(request)
    response.headers.update(HEADERS)
    is_static = request.url.path.startswith("/static/") and response.status_code == 200  # noqa: PLR2004 - found
    response.headers["Cache-Control"] = FOR_EVER if is_static else "no-store"
    return response


def _add_errors(site: FastAPI, renderer: Renderer) -> None:
    def on_muster_error(request: Request, error: Any) -> Response:
        assert isinstance(error, MusterError)
        status, _ = status_of(error)
        return renderer.problem(request, status, str(error))

    def on_http_error(request: Request, error: Any) -> Response:
        assert isinstance(error, HTTPException)
        location = (error.headers or {}).get("Location")
        if location is not None:
            return RedirectResponse(location, status_code=303)
        return renderer.problem(request, error.status_code, str(error.detail))

    def on_bad_form(request: Request, error: Any) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return renderer.problem(request, 400, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    site.add_exception_handler(MusterError, on_muster_error)
    site.add_exception_handler(HTTPException, on_http_error)
    site.add_exception_handler(RequestValidationError, on_bad_form)

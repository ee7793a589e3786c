"""Forms: logging in and out, and what an operator orders, each by the service function that the API calls."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from muster_controller.service import admission, approvals, devices, drills, versions
from muster_controller.service.context import Context
from muster_controller.service.drills import DrillRequest
from muster_controller.web.session import COOKIE, LIFETIME_SECONDS
from muster_controller.web.view import Actor, Renderer, Who
from muster_models.errors import ForbiddenError

Text = Annotated[str, Form(max_length=400)]


def _back(path: str) -> RedirectResponse:
    # 303: the browser follows with a GET, so that a reload does not send the form again.
    return RedirectResponse(path, status_code=303)


class Sign:
    """Logging in and out."""

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._clock = context.clock
        self._renderer = renderer
        self.router = APIRouter()
        self.router.add_api_route("/login", self.show, methods=["GET"], response_model=None)
        self.router.add_api_route("/login", self.log_in, methods=["POST"], response_model=None)
        self.router.add_api_route("/logout", self.log_out, methods=["POST"], response_model=None)

    def show(self, request: Request) -> HTMLResponse:
        """The form for a token."""
        return self._renderer.page(request, "login.html", problem="")

    def log_in(self, request: Request, token: Text = "") -> Response:
        """Open a session for who holds a token."""
        try:
            cookie = self._renderer.sessions.open(token, self._clock())
        except ForbiddenError as error:
            return self._renderer.page(request, "login.html", status=403, problem=str(error))
        answer = _back("/")
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=LIFETIME_SECONDS,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    def log_out(self, request: Request, form_token: Text = "") -> Response:
        """Forget the session in this browser."""
        self._renderer.check_form(request, form_token)
        answer = _back("/login")
        answer.delete_cookie(COOKIE)
        return answer


class Actions:
    """Everything an operator orders."""

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer
        self.router = APIRouter(dependencies=[Depends(renderer.require_session), Depends(self._require_form)])
        for path, action in (
            ("/devices/{device}/revoke", self.revoke),
            ("/admission/requests/{code}/accept", self.accept),
            ("/admission/requests/{code}/refuse", self.refuse),
            ("/admission/tokens/{token}/revoke", self.revoke_token),
            ("/models/{model}/stop", self.stop_model),
            ("/models/{model}/start", self.start_model),
            ("/models/{model}/drill", self.start_drill),
            ("/rollouts/{number}/approve", self.approve),
            ("/rollouts/{number}/withhold", self.withhold),
        ):
            self.router.add_api_route(path, action, methods=["POST"], response_model=None)

    def _require_form(self, request: Request, form_token: Text = "") -> None:
        self._renderer.check_form(request, form_token)
        self._renderer.check_right(request)

    def revoke(self, actor: Actor, device: str, reason: Text = "") -> Response:
        """Turn a device away."""
        devices.revoke(self._context, actor, device, reason)
        return _back(f"/devices/{device}")

    def accept(self, actor: Actor, code: str, labels: Text = "", reason: Text = "") -> Response:
        """Let a machine in; its labels are written as ``key=value``, apart by spaces or commas."""
        pairs = [text.partition("=") for text in labels.replace(",", " ").split()]
        given = {key: value for key, _, value in pairs}
        admission.accept(self._context, actor, code, labels=given, reason=reason)
        return _back("/devices")

    def refuse(self, actor: Actor, code: str, reason: Text = "") -> Response:
        """Turn a machine away."""
        admission.refuse(self._context, actor, code, reason=reason)
        return _back("/devices")

    def revoke_token(self, actor: Actor, token: str, reason: Text = "") -> Response:
        """Let nobody in any more by a token."""
        admission.revoke_token(self._context, actor, token, reason)
        return _back("/devices")

    def stop_model(self, actor: Actor, model: str, reason: Text = "") -> Response:
        """Make every device answer with the fallback."""
        versions.stop_model(self._context, actor, model, reason)
        return _back(f"/models/{model}")

    def start_model(self, actor: Actor, model: str, reason: Text = "") -> Response:
        """Lift the order that stopped a model."""
        versions.start_model(self._context, actor, model, reason)
        return _back(f"/models/{model}")

    def start_drill(self, actor: Actor, model: str, where: Text = "", reason: Text = "") -> Response:
        """Rehearse a rollback."""
        drills.start(self._context, actor, DrillRequest(model, where or None), reason)
        return _back(f"/models/{model}#drills")

    def approve(self, who: Who, number: int, *, digest: Text = "", reason: Text = "") -> Response:
        """Agree with a rollout as the page showed it."""
        approvals.approve(self._context, who, number, reason=reason, seen=digest)
        return _back(f"/rollouts/{number}")

    def withhold(self, who: Who, number: int, reason: Text = "") -> Response:
        """Refuse to approve a rollout."""
        approvals.withhold(self._context, who, number, reason=reason)
        return _back(f"/rollouts/{number}")

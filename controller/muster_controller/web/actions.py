"""Forms: logging in and out, and what an operator orders, each by the service function that the API calls."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from muster_controller.api.auth import OPERATOR
from muster_controller.api.errors import status_of
from muster_controller.service import admission, devices, rollouts, versions
from muster_controller.service.context import Context
from muster_controller.web.plan_form import PlanForm, read_form
from muster_controller.web.session import COOKIE, LIFETIME_SECONDS
from muster_controller.web.view import Renderer
from muster_models.errors import ForbiddenError, MusterError

Text = Annotated[str, Form(max_length=400)]
Command = Literal["pause", "resume", "promote"]


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
        """The form for the operator's token."""
        return self._renderer.page(request, "login.html", problem="")

    def log_in(self, request: Request, token: Text = "") -> Response:
        """Open a session for who knows the operator's token."""
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
            ("/rollouts/new", self.start_rollout),
            ("/rollouts/{number}/abort", self.abort_rollout),
            ("/rollouts/{number}/{command}", self.command_rollout),
        ):
            self.router.add_api_route(path, action, methods=["POST"], response_model=None)

    def _require_form(self, request: Request, form_token: Text = "") -> None:
        self._renderer.check_form(request, form_token)

    def revoke(self, device: str, reason: Text = "") -> Response:
        """Turn a device away."""
        devices.revoke(self._context, OPERATOR, device, reason)
        return _back(f"/devices/{device}")

    def accept(self, code: str, labels: Text = "", reason: Text = "") -> Response:
        """Let a machine in; its labels are written as ``key=value``, apart by spaces or commas."""
        pairs = [text.partition("=") for text in labels.replace(",", " ").split()]
        given = {key: value for key, _, value in pairs}
        admission.accept(self._context, OPERATOR, code, labels=given, reason=reason)
        return _back("/devices")

    def refuse(self, code: str, reason: Text = "") -> Response:
        """Turn a machine away."""
        admission.refuse(self._context, OPERATOR, code, reason=reason)
        return _back("/devices")

    def revoke_token(self, token: str, reason: Text = "") -> Response:
        """Let nobody in any more by a token."""
        admission.revoke_token(self._context, OPERATOR, token, reason)
        return _back("/devices")

    def stop_model(self, model: str, reason: Text = "") -> Response:
        """Make every device answer with the fallback."""
        versions.stop_model(self._context, OPERATOR, model, reason)
        return _back(f"/models/{model}")

    def start_model(self, model: str, reason: Text = "") -> Response:
        """Lift the order that stopped a model."""
        versions.start_model(self._context, OPERATOR, model, reason)
        return _back(f"/models/{model}")

    def start_rollout(self, request: Request, form: Annotated[PlanForm, Depends(read_form)]) -> Response:
        """Start a rollout, or show the form again with what stands in its way."""
        try:
            detail = rollouts.start_rollout(self._context, OPERATOR, form.request(), form.reason)
        except MusterError as error:
            return self._renderer.page(
                request,
                "rollout_new.html",
                status=status_of(error)[0],
                section="/rollouts",
                versions=versions.list_versions(self._context).items,
                form=form,
                cohort="these devices",
                problem=str(error),
            )
        return _back(f"/rollouts/{detail.rollout.id}")

    def abort_rollout(
        self, number: int, mode: Annotated[Literal["keep", "revert"], Form()], reason: Text = ""
    ) -> Response:
        """End a rollout: devices keep what they have, or all go back."""
        rollouts.abort(self._context, OPERATOR, number, mode=mode, reason=reason)
        return _back(f"/rollouts/{number}")

    def command_rollout(self, number: int, command: Command, reason: Text = "") -> Response:
        """Pause, resume or promote a rollout."""
        match command:
            case "pause":
                rollouts.pause(self._context, OPERATOR, number, reason)
            case "resume":
                rollouts.resume(self._context, OPERATOR, number, reason)
            case "promote":
                rollouts.promote(self._context, OPERATOR, number, reason)
        return _back(f"/rollouts/{number}")

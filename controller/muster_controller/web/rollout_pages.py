"""The pages of rollouts and the orders on them, each over the service function that API and CLI call."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from muster_controller.service import approvals, rollout_devices, rollout_explain, rollouts
from muster_controller.service.context import Context
from muster_controller.service.rollout_views import Outcome
from muster_controller.service.rollouts import WayBack
from muster_controller.store.views.rollouts import RolloutFilter
from muster_controller.web import rollout_words
from muster_controller.web.view import Actor, Renderer

Cursor = str | None
Text = Annotated[str, Form(max_length=400)]
Devices = Annotated[str, Form(max_length=4000)]
Command = Literal["pause", "resume", "promote", "retry"]
SECTION = "/rollouts"


def _back(number: int) -> RedirectResponse:
    # 303: the browser follows with a GET, so that a reload does not send the form again.
    return RedirectResponse(f"{SECTION}/{number}", status_code=303)


class RolloutPages:
    """The list, and one rollout."""

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer
        self.router = APIRouter(dependencies=[Depends(renderer.require_session)])
        for path, page in (
            (SECTION, self.list),
            (f"{SECTION}/{{number}}", self.show),
            (f"{SECTION}/{{number}}/explain", self.explain),
        ):
            self.router.add_api_route(path, page, response_class=HTMLResponse, response_model=None)

    def list(self, request: Request, cursor: Cursor = None) -> HTMLResponse:
        """Every rollout, newest first."""
        page = rollouts.list_rollouts(self._context, RolloutFilter(), cursor=cursor)
        return self._renderer.page(request, "rollouts.html", section=SECTION, page=page)

    def show(
        self, request: Request, number: int, outcome: Outcome | None = None, cursor: Cursor = None
    ) -> HTMLResponse:
        """One rollout: stages, gates, denominators, devices, what happened."""
        detail = rollouts.show_rollout(self._context, number)
        page, counts = rollout_devices.page_devices(self._context, number, outcome=outcome, cursor=cursor)
        window = float(detail.plan["rollback_window_seconds"])
        return self._renderer.page(
            request,
            "rollout.html",
            section=SECTION,
            detail=detail,
            devices=page,
            counts=counts,
            outcome=outcome,
            pace=rollout_devices.show_pace(self._context, number),
            approval=approvals.show(self._context, number),
            told=rollout_words,
            effects=rollout_words.effects(detail.rollout, abort=detail.plan["abort"], window=window),
        )

    def explain(self, request: Request, number: int, gate: str | None = None) -> HTMLResponse:
        """The evidence of one rollout, computed again, which takes its time with many windows."""
        found = rollout_explain.explain(self._context, number)
        chosen = [row for row in found.rounds if gate in {None, "", row.gate}]
        return self._renderer.page(
            request,
            "explain_rollout.html",
            section=SECTION,
            found=found,
            gate=gate,
            gates=sorted({row.gate for row in found.rounds}),
            courses=rollout_words.courses(chosen),
        )


class RolloutActions:
    """What an operator orders of rollouts."""

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer
        self.router = APIRouter(dependencies=[Depends(renderer.require_session), Depends(self._require_form)])
        for path, action in (
            ("/rollouts/{number}/abort", self.abort),
            ("/rollouts/{number}/rollback", self.roll_back),
            ("/rollouts/{number}/{command}", self.steer),
        ):
            self.router.add_api_route(path, action, methods=["POST"], response_model=None)

    def _require_form(self, request: Request, form_token: Text = "") -> None:
        self._renderer.check_form(request, form_token)
        self._renderer.check_right(request)

    def abort(
        self,
        actor: Actor,
        number: int,
        mode: Annotated[Literal["keep", "revert", ""], Form()] = "",
        reason: Text = "",
    ) -> Response:
        """End a rollout: devices keep what they have, or all go back; or as the plan says."""
        rollouts.abort(self._context, actor, number, mode=mode or None, reason=reason)
        return _back(number)

    def roll_back(
        self,
        actor: Actor,
        number: int,
        *,
        devices: Devices = "",
        stage: Annotated[int, Form()] = 0,
        override: Annotated[bool, Form()] = False,
        reason: Text = "",
    ) -> Response:
        """Send the cohort, a stage or some devices back."""
        names = tuple(devices.replace(",", " ").split())
        way = WayBack(names, stage or None, override)
        rollouts.roll_back(self._context, actor, number, way, reason)
        return _back(number)

    def steer(self, actor: Actor, number: int, command: Command, reason: Text = "") -> Response:
        """Pause, resume or promote a rollout, or try failed devices again."""
        order: dict[str, Any] = {
            "pause": rollouts.pause,
            "resume": rollouts.resume,
            "promote": rollouts.promote,
            "retry": rollouts.retry,
        }
        order[command](self._context, actor, number, reason)
        return _back(number)

"""The pages of rollouts and the orders on them, each over the service function that API and CLI call."""

import secrets
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from muster_controller.api.errors import status_of
from muster_controller.service import (
    approvals,
    devices,
    rollout_devices,
    rollout_explain,
    rollout_preview,
    rollouts,
    versions,
)
from muster_controller.service.context import Context
from muster_controller.service.rollout_preview import PlanView
from muster_controller.service.rollout_views import Outcome
from muster_controller.service.rollouts import WayBack
from muster_controller.store.views.rollouts import RolloutFilter
from muster_controller.web import rollout_words
from muster_controller.web.plan_form import PlanForm, form_fields, read_form
from muster_controller.web.view import Actor, Renderer
from muster_models.errors import MusterError

Cursor = str | None
Text = Annotated[str, Form(max_length=400)]
Devices = Annotated[str, Form(max_length=4000)]
Command = Literal["pause", "resume", "promote", "retry"]
SECTION = "/rollouts"


def _back(number: int) -> RedirectResponse:
    # 303: the browser follows with a GET, so that a reload does not send the form again.
    return RedirectResponse(f"{SECTION}/{number}", status_code=303)


class RolloutPages:
    """The list, the form with its preview, and one rollout."""

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer
        self.router = APIRouter(dependencies=[Depends(renderer.require_session)])
        for path, page in (
            (SECTION, self.list),
            (f"{SECTION}/new", self.new),
            (f"{SECTION}/{{number}}", self.show),
            (f"{SECTION}/{{number}}/explain", self.explain),
        ):
            self.router.add_api_route(path, page, response_class=HTMLResponse, response_model=None)
        self.router.add_api_route(f"{SECTION}/preview", self.preview, methods=["POST"], response_model=None)

    def list(self, request: Request, cursor: Cursor = None) -> HTMLResponse:
        """Every rollout, newest first."""
        page = rollouts.list_rollouts(self._context, RolloutFilter(), cursor=cursor)
        return self._renderer.page(request, "rollouts.html", section=SECTION, page=page)

    def new(self, request: Request, version: Annotated[str, Query(max_length=200)] = "") -> HTMLResponse:
        """The form of a plan, with what it would do."""
        return self.form(request, PlanForm({"version": version} if version else {}))

    async def preview(self, request: Request) -> Response:
        """What the form would do now: both sides of it settled, and the preview as a part of the page."""
        form = read_form(dict(await request.form()))
        return await run_in_threadpool(self._preview, request, form)

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

    def form(self, request: Request, form: PlanForm, *, status: int = 200) -> HTMLResponse:
        """Answer with the form as it was typed, and what it would do."""
        choices = [row for row in versions.list_versions(self._context).items if not row.withdrawn_at]
        if not form.as_file:
            # The draw that is shown is the draw that will be made.
            first = {"version": choices[0].name} if choices else {}
            form = replace(form, values={**first, "seed": secrets.token_hex(4), **form.values})
        settled, view = self._settle(form)
        return self._renderer.page(
            request,
            "rollout_new.html",
            status=status,
            section=SECTION,
            versions=choices,
            form=settled,
            groups=form_fields(),
            view=view,
            cohort=self._cohort(settled),
        )

    def _cohort(self, form: PlanForm) -> str:
        try:
            cohort = devices.show_cohort(self._context, form.values.get("selector", "all"))
        except MusterError as error:
            return str(error)
        return f"{len(cohort.devices)} of {cohort.enrolled} devices"

    def _preview(self, request: Request, form: PlanForm) -> Response:
        settled, view = self._settle(form)
        page = self._renderer.page(request, "_plan_preview.html", view=view, form=settled)
        return JSONResponse(
            {
                "html": bytes(page.body).decode(),
                "file": settled.file,
                "values": dict(settled.values),
                "problem": settled.problem,
            }
        )

    def _settle(self, form: PlanForm) -> tuple[PlanForm, PlanView | None]:
        """Return the form with both its sides saying the same, and what it would do where that is known."""
        settled = form.settled()
        problem = form.problem or settled.problem
        view = None
        if not settled.problem:
            try:
                view = rollout_preview.plan_rollout(self._context, settled.request())
            except MusterError as error:
                problem = problem or str(error)
        return replace(settled, problem=problem), view


class RolloutActions:
    """What an operator orders of rollouts."""

    def __init__(self, context: Context, renderer: Renderer, pages: RolloutPages) -> None:
        self._context = context
        self._renderer = renderer
        self._pages = pages
        self.router = APIRouter(dependencies=[Depends(renderer.require_session), Depends(self._require_form)])
        for path, action in (
            ("/rollouts/new", self.start),
            ("/rollouts/{number}/abort", self.abort),
            ("/rollouts/{number}/rollback", self.roll_back),
            ("/rollouts/{number}/{command}", self.steer),
        ):
            self.router.add_api_route(path, action, methods=["POST"], response_model=None)

    def _require_form(self, request: Request, form_token: Text = "") -> None:
        self._renderer.check_form(request, form_token)
        self._renderer.check_right(request)

    async def start(self, request: Request, actor: Actor) -> Response:
        """Start a rollout, or show the form again with what stands in its way."""
        form = read_form(dict(await request.form()))
        return await run_in_threadpool(self._start, request, actor, form)

    def _start(self, request: Request, actor: str, form: PlanForm) -> Response:
        try:
            detail = rollouts.start_rollout(self._context, actor, form.request(), form.reason)
        except MusterError as error:
            refused = replace(form, problem=str(error))
            return self._pages.form(request, refused, status=status_of(error)[0])
        return _back(detail.rollout.id)

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

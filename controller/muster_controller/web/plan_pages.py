"""The pages on which a plan is written: that of a new rollout, and of one that has not begun."""

import secrets
from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from muster_controller.api.errors import status_of
from muster_controller.service import devices, rollout_edits, rollout_preview, rollouts, versions
from muster_controller.service.context import Context
from muster_controller.service.rollout_edits import Editable
from muster_controller.service.rollout_preview import PlanView
from muster_controller.service.subjects import Asking
from muster_controller.web.plan_form import PlanForm, form_fields, read_form
from muster_controller.web.view import Actor, Asks, Renderer, Who
from muster_models.errors import MusterError, RequestError

Text = Annotated[str, Form(max_length=400)]
SECTION: Final = "/rollouts"
DIGITS: Final = 9  # of a rollout's number, as a form sends it


class PlanPages:
    """The form of a plan beside what it would do, for a new rollout and for an edit.

    A script asks for the preview while one types, and is answered with parts of the page; the button of the
    form asks for all of it, so that nobody needs a script.
    """

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer
        self.router = APIRouter(dependencies=[Depends(renderer.require_session)])
        for path, page in ((f"{SECTION}/new", self.new), (f"{SECTION}/{{number}}/edit", self.edit)):
            self.router.add_api_route(path, page, response_class=HTMLResponse, response_model=None)
        self.router.add_api_route(f"{SECTION}/preview", self.preview, methods=["POST"], response_model=None)
        checked = [Depends(self._require_form)]
        for path, action in ((f"{SECTION}/new", self.start), (f"{SECTION}/{{number}}/edit", self.keep)):
            self.router.add_api_route(
                path, action, methods=["POST"], response_model=None, dependencies=checked
            )

    def _require_form(self, request: Request, form_token: Text = "") -> None:
        self._renderer.check_form(request, form_token)
        self._renderer.check_right(request)

    def new(
        self, request: Request, who: Who, version: Annotated[str, Query(max_length=200)] = ""
    ) -> HTMLResponse:
        """The form of a plan, with what it would do."""
        return self._form(request, who.name, PlanForm({"version": version} if version else {}))

    def edit(self, request: Request, who: Who, number: int) -> HTMLResponse:
        """The plan of a rollout that has not begun, as a form."""
        edited = rollout_edits.show_editable(self._context, number)
        form = PlanForm(file=edited.file, as_file=True).settled()
        values = {"seed": edited.seed, **form.values}
        return self._form(request, who.name, replace(form, as_file=False, values=values), edited=edited)

    async def preview(self, request: Request, who: Who) -> Response:
        """What the form would do now: as parts of the page, or all of it where the button asks for it."""
        typed = dict(await request.form())
        return await run_in_threadpool(self._preview, request, who.name, typed)

    async def start(self, request: Request, asks: Asks) -> Response:
        """Start a rollout, or show the form again with what stands in its way."""
        form = read_form(dict(await request.form()))
        return await run_in_threadpool(self._start, request, asks, form)

    async def keep(self, request: Request, actor: Actor, number: int) -> Response:
        """Give a rollout another plan, or show the form again with what stands in its way."""
        typed = dict(await request.form())
        return await run_in_threadpool(self._keep, request, actor, number, typed)

    def _start(self, request: Request, asks: Asking, form: PlanForm) -> Response:
        try:
            wanted = form.request()
            actor = asks.about(versions.model_asked(self._context, wanted.version))
            detail = rollouts.start_rollout(self._context, actor, wanted, form.reason)
        except MusterError as error:
            refused = replace(form, problem=str(error))
            return self._form(request, asks.person.name, refused, status=status_of(error)[0])
        return _back(detail.rollout.id)

    def _keep(self, request: Request, actor: str, number: int, typed: dict[str, Any]) -> Response:
        form = read_form(typed)
        edited = rollout_edits.show_editable(self._context, number)
        seen = _seen(typed, edited)
        try:
            rollout_edits.edit_rollout(
                self._context, actor, number, form.request(), reason=form.reason, seen=seen.digest
            )
        except MusterError as error:
            refused = replace(form, problem=str(error))
            return self._form(request, actor, refused, status=status_of(error)[0], edited=seen)
        return _back(number)

    def _preview(self, request: Request, actor: str, typed: dict[str, Any]) -> Response:
        form, number = read_form(typed), _number(typed.get("edited"))
        edited = None if number is None else rollout_edits.show_editable(self._context, number)
        if "page" in typed:
            seen = None if edited is None else _seen(typed, edited)
            return self._form(request, actor, form, edited=seen)
        settled, view = self._settle(form, actor, edited)
        page = self._renderer.page(request, "_plan_preview.html", view=view, form=settled, edited=edited)
        return JSONResponse(
            {
                "html": bytes(page.body).decode(),
                "file": settled.file,
                "values": dict(settled.values),
                "problem": settled.problem,
            }
        )

    def _form(
        self,
        request: Request,
        actor: str,
        form: PlanForm,
        *,
        status: int = 200,
        edited: Editable | None = None,
    ) -> HTMLResponse:
        """Answer with the form as it was typed, and what it would do."""
        choices = [row for row in versions.list_versions(self._context).items if not row.withdrawn_at]
        if not form.as_file and edited is None:
            # The draw that is shown is the draw that will be made.
            first = {"version": choices[0].name} if choices else {}
            form = replace(form, values={**first, "seed": secrets.token_hex(4), **form.values})
        settled, view = self._settle(form, actor, edited)
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
            edited=edited,
        )

    def _cohort(self, form: PlanForm) -> str:
        try:
            cohort = devices.show_cohort(self._context, form.values.get("selector", "all"))
        except MusterError as error:
            return str(error)
        return f"{len(cohort.devices)} of {cohort.enrolled} devices"

    def _settle(
        self, form: PlanForm, actor: str, edited: Editable | None
    ) -> tuple[PlanForm, PlanView | None]:
        """Return the form with both its sides saying the same, and what it would do where that is known."""
        settled = form.settled()
        problem = form.problem or settled.problem
        view = None
        if not settled.problem:
            number = None if edited is None else edited.number
            try:
                view = rollout_preview.plan_rollout(self._context, settled.request(), actor, number=number)
            except MusterError as error:
                problem = problem or str(error)
        return replace(settled, problem=problem), view


def _back(number: int) -> RedirectResponse:
    # 303: the browser follows with a GET, so that a reload does not send the form again.
    return RedirectResponse(f"{SECTION}/{number}", status_code=303)


def _seen(typed: dict[str, Any], edited: Editable) -> Editable:
    """Return what is edited with the digest of what the form showed: that is what the edit is of."""
    digest = typed.get("digest")
    return replace(edited, digest=digest) if isinstance(digest, str) else edited


def _number(typed: object) -> int | None:
    """Return the number of the rollout that a form edits; None for a new one.

    Raises:
        RequestError: It is no number.
    """
    if typed is None:
        return None
    if not (isinstance(typed, str) and typed.isdecimal() and len(typed) <= DIGITS):
        raise RequestError(f"edited: expected the number of a rollout, got {str(typed)[:40]!r}")
    return int(typed)

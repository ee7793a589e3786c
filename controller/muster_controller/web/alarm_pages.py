"""Pages and forms about alarms: acknowledging, silences, receivers of webhooks, retraining jobs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from muster_controller.domain.alarms.alarm import KINDS, LEVELS
from muster_controller.domain.alarms.silences import Matcher
from muster_controller.service import alarms, history, jobs, versions
from muster_controller.service.context import Context
from muster_controller.store.views.alarms import AlarmFilter
from muster_controller.web.view import Actor, Asks, Renderer

Text = Annotated[str, Form(max_length=400)]
SECTION = "/alarms"


class AlarmPages:
    """What there is to look at."""

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer
        self.router = APIRouter(dependencies=[Depends(renderer.require_session)])
        for path, page in (
            ("/alarms", self.alarms),
            ("/alarms/{number}", self.alarm),
            ("/silences", self.silences),
            ("/deliveries", self.deliveries),
            ("/jobs", self.jobs),
            ("/jobs/{number}", self.job),
        ):
            self.router.add_api_route(path, page, response_class=HTMLResponse, response_model=None)

    def alarms(self, request: Request, state: str | None = None, cursor: str | None = None) -> HTMLResponse:
        """Alarms, newest first."""
        wanted = AlarmFilter(state=state)
        page = history.list_alarms(self._context, wanted, cursor=cursor)
        return self._renderer.page(request, "alarms.html", section=SECTION, page=page, wanted=wanted)

    def alarm(self, request: Request, number: int) -> HTMLResponse:
        """One alarm with its evidence."""
        found = history.show_alarm(self._context, number)
        return self._renderer.page(request, "alarm.html", section=SECTION, alarm=found)

    def silences(self, request: Request) -> HTMLResponse:
        """Silences, and the form of a new one."""
        return self._renderer.page(
            request,
            "silences.html",
            section=SECTION,
            silences=alarms.list_silences(self._context, with_past=True),
            models=versions.list_models(self._context),
            kinds=KINDS,
            levels=LEVELS,
        )

    def deliveries(
        self, request: Request, webhook: str | None = None, cursor: str | None = None
    ) -> HTMLResponse:
        """Receivers of webhooks, and what is on its way to them."""
        return self._renderer.page(
            request,
            "deliveries.html",
            section=SECTION,
            webhooks=alarms.list_webhooks(self._context),
            page=alarms.list_deliveries(self._context, webhook=webhook, cursor=cursor),
        )

    def jobs(self, request: Request, cursor: str | None = None) -> HTMLResponse:
        """Retraining jobs, and what starts them."""
        return self._renderer.page(
            request,
            "jobs.html",
            section=SECTION,
            triggers=jobs.list_triggers(self._context),
            page=jobs.list_jobs(self._context, cursor=cursor),
        )

    def job(self, request: Request, number: int) -> HTMLResponse:
        """One job with its evidence."""
        found = jobs.show_job(self._context, number)
        return self._renderer.page(request, "job.html", section=SECTION, job=found)


class AlarmActions:
    """What there is to order."""

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer
        self.router = APIRouter(dependencies=[Depends(renderer.require_session), Depends(self._require_form)])
        for path, action in (
            ("/alarms/{number}/acknowledge", self.acknowledge),
            ("/silences", self.add_silence),
            ("/silences/{number}/end", self.end_silence),
            ("/webhooks/{name}/test", self.test_webhook),
            ("/jobs/{number}/retry", self.retry_job),
            ("/jobs/{number}/finish", self.finish_job),
        ):
            self.router.add_api_route(path, action, methods=["POST"], response_model=None)

    def _require_form(self, request: Request, form_token: Text = "") -> None:
        self._renderer.check_form(request, form_token)
        self._renderer.check_right(request)

    def acknowledge(self, actor: Actor, number: int, reason: Text = "") -> Response:
        """Take an alarm on."""
        alarms.acknowledge(self._context, actor, number, reason)
        return _back(f"/alarms/{number}")

    def add_silence(
        self,
        asks: Asks,
        *,
        hours: Annotated[float, Form()],
        model: Text = "",
        kind: Text = "",
        level: Text = "",
        where: Text = "",
        reason: Text = "",
    ) -> Response:
        """Tell nobody of some alarms for some hours; an empty field means any."""
        matcher = Matcher(model or None, kind or None, level or None, where or None)
        actor = asks.about([matcher.model])
        alarms.add_silence(self._context, actor, matcher, seconds=hours * 3600, reason=reason)
        return _back("/silences")

    def end_silence(self, actor: Actor, number: int, reason: Text = "") -> Response:
        """End a silence early."""
        alarms.end_silence(self._context, actor, number, reason)
        return _back("/silences")

    def test_webhook(self, actor: Actor, name: str) -> Response:
        """Send a receiver a message that means nothing."""
        alarms.test_webhook(self._context, actor, name)
        return _back("/deliveries")

    def retry_job(self, actor: Actor, number: int, reason: Text = "") -> Response:
        """Run a job again that has ended."""
        again = jobs.retry(self._context, actor, number, reason)
        return _back(f"/jobs/{again.id}")

    def finish_job(
        self, actor: Actor, number: int, outcome: Annotated[jobs.Outcome, Form()], reason: Text = ""
    ) -> Response:
        """Say how a job ended."""
        jobs.finish(self._context, actor, number, outcome, reason)
        return _back(f"/jobs/{number}")


def _back(path: str) -> RedirectResponse:
    # 303: the browser follows with a GET, so that a reload does not send the form again.
    return RedirectResponse(path, status_code=303)

"""Pages to look at: one function per page, each over one service function."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse

from muster_controller.service import (
    admission,
    cost,
    devices,
    drift,
    drills,
    explaining,
    history,
    labels,
    overview,
    samples,
    versions,
)
from muster_controller.service.context import Context
from muster_controller.service.devices import DeviceQuery
from muster_controller.service.drift import DriftQuery
from muster_controller.service.drift_threshold import Statistic, show_threshold
from muster_controller.service.labels import LabelQuery
from muster_controller.store.views.devices import State
from muster_controller.store.views.history import AuditFilter, EventFilter
from muster_controller.web.view import Renderer
from muster_models.errors import MusterError

Cursor = str | None
ROUNDS = 60  # that an explanation shows
DRILLS = 5
SAMPLES = 5
_EXPLAINED = {"windows": "explain.html", "labels": "explain_labels.html", "nothing": "reason.html"}


class Pages:
    """Every page that changes nothing."""

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer
        self.router = APIRouter(dependencies=[Depends(renderer.require_session)])
        for path, page in (
            ("/", self.overview),
            ("/devices", self.devices),
            ("/devices/{device}", self.device),
            ("/cohort-count", self.cohort_count),
            ("/models", self.models),
            ("/models/{model}", self.model),
            ("/models/{model}/drift", self.drift),
            ("/versions/{digest}", self.version),
            ("/alarms/{number}/explain", self.explain),
            ("/events", self.events),
            ("/audit", self.audit),
        ):
            self.router.add_api_route(path, page, response_class=HTMLResponse, response_model=None)

    def overview(self, request: Request) -> HTMLResponse:
        """What needs attention first, then how the fleet is."""
        view = overview.show_overview(self._context)
        return self._renderer.page(request, "overview.html", section="/", view=view)

    def devices(
        self,
        request: Request,
        q: str | None = None,
        state: State | None = None,
        where: str | None = None,
        cursor: Cursor = None,
    ) -> HTMLResponse:
        """Devices, with their states as filters."""
        query = DeviceQuery(text=q or None, state=state, where=where or None)
        page = devices.list_devices(self._context, query, cursor=cursor)
        return self._renderer.page(
            request,
            "devices.html",
            section="/devices",
            query=query,
            page=page,
            states=devices.count_states(self._context),
            waiting=admission.list_waiting(self._context),
            tokens=admission.list_tokens(self._context),
        )

    def device(self, request: Request, device: str) -> HTMLResponse:
        """One device: what it should run, what it runs, what happened."""
        detail = devices.show_device(self._context, device)
        return self._renderer.page(request, "device.html", section="/devices", detail=detail)

    def cohort_count(self, where: str = "all") -> PlainTextResponse:
        """How many devices a selector names, while it is being typed."""
        try:
            cohort = devices.show_cohort(self._context, where or "all")
        except MusterError as error:
            return PlainTextResponse(str(error))
        return PlainTextResponse(f"{len(cohort.devices)} of {cohort.enrolled} devices")

    def models(self, request: Request) -> HTMLResponse:
        """Every model."""
        found = versions.list_models(self._context)
        return self._renderer.page(request, "models.html", section="/models", models=found)

    def model(self, request: Request, model: str) -> HTMLResponse:
        """One model with its versions."""
        detail = versions.show_model(self._context, model)
        return self._renderer.page(
            request,
            "model.html",
            section="/models",
            detail=detail,
            cost=cost.show(self._context, model),
            drills=drills.list_drills(self._context, model, limit=DRILLS),
            samples=samples.list_orders(self._context, model, limit=SAMPLES),
            **self._seen(model, drift.ALL),
        )

    def version(self, request: Request, digest: str) -> HTMLResponse:
        """One version: what was signed, what it was measured at, who ran it."""
        detail = versions.show_version(self._context, digest)
        return self._renderer.page(request, "version.html", section="/models", detail=detail)

    def drift(
        self,
        request: Request,
        model: str,
        subject: str = "all",
        feature: str | None = None,
        *,
        statistic: Statistic | None = None,
        above: Annotated[float | None, Query(ge=0, le=1e6)] = None,
    ) -> HTMLResponse:
        """What a model sees, against its baseline; and against a threshold, where one is named."""
        seen = self._seen(model, subject)
        view = seen["view"]
        # What an alarm is about, or else what moved most, is what one came to see.
        wanted = feature or next((alarm.feature for alarm in seen["open"]), "")
        worst = next(iter(view.ranked), None)
        chosen = next((found for found in view.features if found.name == wanted), worst)
        named = None
        if statistic is not None and above is not None:
            named = show_threshold(self._context, model, DriftQuery(subject=subject), statistic, above)
        return self._renderer.page(
            request, "drift.html", section="/models", chosen=chosen, threshold=named, feature=feature, **seen
        )

    def _seen(self, model: str, subject: str) -> dict[str, Any]:
        """Return what is known of a model's drift, with and without labels, and the open alarms about it."""
        view = drift.show_drift(self._context, model, DriftQuery(subject=subject))
        truth = labels.show_labels(self._context, model, LabelQuery(subject=subject))
        elsewhere = {alarm.id for alarm in view.alarms} - {*view.concerned}
        opened = {alarm.id: alarm for alarm in (*view.alarms, *truth.alarms) if alarm.id not in elsewhere}
        return {"view": view, "truth": truth, "open": list(opened.values())}

    def explain(self, request: Request, number: int) -> HTMLResponse:
        """One alarm, computed again from what is stored, which takes its time with many windows."""
        found = explaining.explain(self._context, number, rounds=ROUNDS)
        return self._renderer.page(request, _EXPLAINED[found.how], section="/alarms", found=found)

    def events(self, request: Request, kind: str | None = None, cursor: Cursor = None) -> HTMLResponse:
        """Events of devices and of the controller, and what ingest refused."""
        wanted = EventFilter(kind=kind)
        return self._renderer.page(
            request,
            "events.html",
            section="/events",
            page=history.list_events(self._context, wanted, cursor=cursor),
            refusals=history.list_refusals(self._context),
            wanted=wanted,
        )

    def audit(self, request: Request, cursor: Cursor = None) -> HTMLResponse:
        """Who did what, and why."""
        page = history.list_audit(self._context, AuditFilter(), cursor=cursor)
        return self._renderer.page(request, "audit.html", section="/audit", page=page)

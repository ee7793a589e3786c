"""``/devices``: looking at devices, letting one in, turning one away."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from muster_controller.api.documents import Body, ReasonBody
from muster_controller.api.limits import DEFAULT, Cursor, Limit
from muster_controller.api.parts import Actor, Here
from muster_controller.service import devices
from muster_controller.service.devices import Cohort, DeviceQuery, TokenView
from muster_controller.store.enrolment import TOKEN_SECONDS
from muster_controller.store.views.devices import DeviceDetail, DeviceView, State
from muster_controller.store.views.engines import EngineView
from muster_controller.store.views.paging import Page

router = APIRouter(tags=["devices"])


class TokenBody(Body):
    """For whom an enrolment token is made."""

    device: str
    labels: dict[str, str] = Field(default_factory=dict)
    lifetime_seconds: float = TOKEN_SECONDS
    again: bool = False


class LabelsBody(ReasonBody):
    """The labels a device has from now on."""

    labels: dict[str, str]


@router.get("/devices")
def list_devices(
    context: Here,
    *,
    q: Annotated[str | None, Query(description="Part of the device id.")] = None,
    state: State | None = None,
    model: str | None = None,
    version: Annotated[str | None, Query(description="model@version or a digest.")] = None,
    where: Annotated[str | None, Query(description="A selector over labels.")] = None,
    limit: Limit = DEFAULT,
    cursor: Cursor = None,
) -> Page[DeviceView]:
    """Return devices by id."""
    query = DeviceQuery(q, state, model, version, where)
    return devices.list_devices(context, query, limit=limit, cursor=cursor)


@router.get("/engines")
def show_engines(context: Here) -> tuple[EngineView, ...]:
    """Return which engines the devices run models with."""
    return devices.show_engines(context)


@router.get("/cohort")
def show_cohort(context: Here, where: str = "all") -> Cohort:
    """Return the devices that a selector names now."""
    return devices.show_cohort(context, where)


@router.post("/devices/tokens", status_code=201)
def issue_token(context: Here, actor: Actor, body: TokenBody) -> TokenView:
    """Make a one-time enrolment token; its text is shown this once."""
    return devices.issue_token(
        context,
        actor,
        device=body.device,
        labels=body.labels,
        lifetime=body.lifetime_seconds,
        again=body.again,
    )


@router.get("/devices/{device}")
def show_device(context: Here, device: str) -> DeviceDetail:
    """Return one device with its latest history."""
    return devices.show_device(context, device)


@router.post("/devices/{device}/revoke")
def revoke(context: Here, actor: Actor, device: str, body: ReasonBody) -> DeviceDetail:
    """Refuse everything from a device from now on."""
    return devices.revoke(context, actor, device, body.reason)


@router.put("/devices/{device}/labels")
def set_labels(context: Here, actor: Actor, device: str, body: LabelsBody) -> DeviceDetail:
    """Replace the labels of a device."""
    return devices.set_labels(context, actor, device, labels=body.labels, reason=body.reason)

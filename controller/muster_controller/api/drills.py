"""``/drills``: rehearsing a rollback, and what former rehearsals measured."""

from fastapi import APIRouter
from pydantic import Field

from muster_controller.api.documents import ReasonBody
from muster_controller.api.parts import Asks, Here
from muster_controller.service import drills
from muster_controller.service.drills import PATIENCE_SECONDS, DrillRequest, DrillView
from muster_controller.store.views.paging import Page

router = APIRouter(prefix="/drills", tags=["drills"])


class DrillBody(ReasonBody):
    """What is rehearsed, and on which devices."""

    model: str
    where: str | None = Field(default=None, description="A selector; all devices of the model when left out.")
    devices: int | None = Field(default=None, description="How many of those, drawn by chance.")
    other: str | None = Field(default=None, description="model@version they are sent to, and come back from.")
    patience_seconds: float = Field(default=PATIENCE_SECONDS, allow_inf_nan=False)


@router.get("")
def list_drills(context: Here, model: str | None = None) -> Page[DrillView]:
    """Return drills, newest first."""
    return Page(drills.list_drills(context, model), None)


@router.post("", status_code=201)
def start_drill(context: Here, asks: Asks, body: DrillBody) -> DrillView:
    """Rehearse a rollback: devices go to another version and back, and the way back is timed."""
    wanted = DrillRequest(body.model, body.where, body.devices, body.other, body.patience_seconds)
    return drills.start(context, asks.about([body.model]), wanted, body.reason)


@router.get("/{number}")
def show_drill(context: Here, number: int) -> DrillView:
    """Return one drill with what each device took."""
    return drills.show(context, number)

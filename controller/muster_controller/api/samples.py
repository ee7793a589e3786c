"""``/samples``: rows of calls, ordered from devices that allow it."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from muster_controller.api.documents import Body, ReasonBody
from muster_controller.api.parts import Actor, Asks, Here
from muster_controller.service import samples
from muster_controller.service.samples import SampleBatchView, SampleOrderView, SampleRequest
from muster_controller.store.views.paging import Page

router = APIRouter(tags=["samples"])


class SampleBody(Body):
    """Which rows are ordered, of whom, for how long, and why."""

    model: str
    where: str = Field(description="A selector over devices, as they are now.")
    rows: int = Field(description="The most of each device.")
    seconds: float = Field(description="From now until every row is deleted.", allow_inf_nan=False)
    reason: str = Field(min_length=1, max_length=400)


@router.get("/samples")
def list_samples(context: Here) -> Page[SampleOrderView]:
    """Return orders for rows, newest first."""
    return Page(samples.list_orders(context), None)


@router.post("/samples", status_code=201)
def order_sample(context: Here, asks: Asks, body: SampleBody) -> SampleOrderView:
    """Order rows; a device follows only where its own settings allow it."""
    wanted = SampleRequest(body.model, body.where, body.rows, body.seconds, body.reason)
    return samples.order(context, asks.about([body.model]), wanted)


@router.get("/samples/{number}")
def show_sample(context: Here, number: int) -> SampleOrderView:
    """Return one order, and what came of each device."""
    return samples.show(context, number)


@router.get("/samples/{number}/rows")
def read_sample(
    context: Here,
    actor: Actor,
    number: int,
    *,
    after: Annotated[int, Query(ge=0, le=2**53, description="The last batch that was read.")] = 0,
    reason: Annotated[str, Query(max_length=400, description="Why, for the audit trail.")] = "",
) -> list[SampleBatchView]:
    """Return rows of an order, oldest first; each read is audited."""
    return list(samples.read(context, actor, number, after=after, reason=reason))


@router.post("/samples/{number}/delete")
def delete_sample(context: Here, actor: Actor, number: int, body: ReasonBody) -> SampleOrderView:
    """End an order, and delete its rows."""
    return samples.delete(context, actor, number, body.reason)

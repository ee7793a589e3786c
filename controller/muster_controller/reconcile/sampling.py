"""One step of the loop: rows of orders that are past their end are deleted, and the audit trail says so."""

from sqlalchemy import Engine

from muster_controller.service.context import Deed, record
from muster_controller.store import samples
from muster_controller.store.engine import Reading, Unit

ACTOR = "controller"


def end_samples(engine: Engine, now: float) -> None:
    """Delete the rows of every order that is past its end."""
    with Reading(engine) as session:
        if not samples.due(session, now):
            return
    with Unit(engine) as session:
        for order in samples.due(session, now):
            gone = samples.end(session, [order.id], now)
            record(session, Deed(ACTOR, "sample.expire", f"sample {order.id}", detail={"rows": gone}), now)
    samples.erase(engine)

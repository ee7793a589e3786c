"""What routes ask for: the parts of the controller, and who is asking."""

from typing import Annotated

from fastapi import Depends, Request

from muster_controller.api.auth import require_right
from muster_controller.domain.people import Person
from muster_controller.service.context import Context
from muster_controller.service.subjects import Asking


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Asks = Annotated[Asking, Depends(require_right)]  # where only the body says which model it is about


def _who(asks: Asks) -> Person:
    return asks.person


def _actor(asks: Asks) -> str:
    return asks.actor()


Here = Annotated[Context, Depends(_context)]
Who = Annotated[Person, Depends(_who)]
Actor = Annotated[str, Depends(_actor)]  # as the audit trail names who is asking

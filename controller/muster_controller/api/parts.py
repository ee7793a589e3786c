"""What routes ask for: the parts of the controller, and who is asking."""

from typing import Annotated

from fastapi import Depends, Request

from muster_controller.api.auth import require_person
from muster_controller.domain.people import Person
from muster_controller.service.context import Context


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Who = Annotated[Person, Depends(require_person)]


def _actor(who: Who) -> str:
    return who.name


Here = Annotated[Context, Depends(_context)]
Actor = Annotated[str, Depends(_actor)]  # as the audit trail names who is asking

"""What routes ask for: the parts of the controller, and who is asking."""

from typing import Annotated

from fastapi import Depends, Request

from muster_controller.api.auth import require_operator
from muster_controller.service.context import Context


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Here = Annotated[Context, Depends(_context)]
Actor = Annotated[str, Depends(require_operator)]

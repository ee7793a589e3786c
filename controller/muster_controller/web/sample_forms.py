"""The forms of rows on order, on a model's page: ordering, downloading, deleting."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from muster_controller.service import samples
from muster_controller.service.context import Context
from muster_controller.service.samples import SampleRequest
from muster_controller.web.view import Actor, Renderer

Text = Annotated[str, Form(max_length=400)]
_HOUR = 3600.0


class SampleForms:
    """What there is to order, and the rows themselves; each of these is in the audit trail."""

    def __init__(self, context: Context, renderer: Renderer) -> None:
        self._context = context
        self._renderer = renderer
        self.router = APIRouter(dependencies=[Depends(renderer.require_session), Depends(self._require_form)])
        for path, action in (
            ("/models/{model}/samples", self.order),
            ("/samples/{number}/rows", self.download),
            ("/samples/{number}/delete", self.delete),
        ):
            self.router.add_api_route(path, action, methods=["POST"], response_model=None)

    def _require_form(self, request: Request, form_token: Text = "") -> None:
        self._renderer.check_form(request, form_token)
        self._renderer.check_right(request)

    def order(
        self,
        actor: Actor,
        model: str,
        *,
        rows: Annotated[int, Form()],
        hours: Annotated[float, Form(allow_inf_nan=False)],
        where: Text = "",
        reason: Text = "",
    ) -> Response:
        """Order rows of a model from the devices that a selector names."""
        samples.order(self._context, actor, SampleRequest(model, where, rows, hours * _HOUR, reason))
        return RedirectResponse(f"/models/{model}#samples", status_code=303)

    def download(self, actor: Actor, number: int, reason: Text = "") -> Response:
        """Hand out the rows that came, one JSON object a line."""
        lines = samples.read_lines(self._context, actor, number, reason=reason)
        headers = {"Content-Disposition": f'attachment; filename="rows-of-order-{number}.jsonl"'}
        return StreamingResponse(lines, media_type="application/jsonl", headers=headers)

    def delete(self, actor: Actor, number: int, reason: Text = "") -> Response:
        """End an order, and delete its rows."""
        ended = samples.delete(self._context, actor, number, reason)
        return RedirectResponse(f"/models/{ended.model}#samples", status_code=303)

"""How much of a request is read before it is refused."""

from typing import Annotated

from fastapi import Query
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muster_controller.api.errors import answer
from muster_controller.store.views.paging import DEFAULT_LIMIT, MAX_LIMIT
from muster_models.errors import Reason, RequestError

MAX_BODY_BYTES = 8 * 1024 * 1024  # a role of a thousand versions has about 300 kB

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items of a page.")]
Cursor = Annotated[str | None, Query(description="The 'next' of the page before.")]
DEFAULT = DEFAULT_LIMIT


class BodyLimit:
    """Refuses bodies that are longer than ``limit`` bytes, whatever their header says.

    Paths that begin with ``streamed`` are left alone: they bound what they read themselves.
    """

    def __init__(self, app: ASGIApp, *, limit: int, streamed: str) -> None:
        self._app = app
        self._limit = limit
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body counted."""
        if scope["type"] != "http" or (scope["method"] == "PUT" and scope["path"].startswith(self._streamed)):
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._limit:
            refusal = answer(413, "too-large", f"a body has at most {self._limit} bytes", Reason.TOO_LARGE)
            await refusal(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        read = 0

        async def count() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                raise RequestError(f"a body has at most {self._limit} bytes", Reason.TOO_LARGE)
            return message

        return count

"""Telling open pages that something changed: one WebSocket per page, at most one word a second.

The page then fetches itself again: there is one way to render anything, and one check of who sees it. A page
that has just connected is told too: nobody knows what changed since it was rendered.
"""

import asyncio
from urllib.parse import urlsplit

from fastapi import WebSocket, WebSocketDisconnect
from starlette.concurrency import run_in_threadpool

from muster_controller.store.engine import Changes
from muster_controller.web.session import COOKIE, Sessions

PERIOD_SECONDS = 1.0
UNAUTHORISED = 4401  # what app.js takes as "go to the login page"


class Live:
    """Watches the database once for all open pages, and not at all while there is none."""

    def __init__(self, changes: Changes, sessions: Sessions) -> None:
        self._changes = changes
        self._sessions = sessions
        self._pages: set[WebSocket] = set()
        self._new: set[WebSocket] = set()  # among them, those that were told nothing yet
        self._watcher: asyncio.Task[None] | None = None

    async def serve(self, socket: WebSocket, now: float) -> None:
        """Serve one page until it closes."""
        await socket.accept()
        reader = await run_in_threadpool(self._sessions.person, socket.cookies.get(COOKIE, ""), now)
        if reader is None or not _same_origin(socket):
            await socket.close(UNAUTHORISED)
            return
        self._pages.add(socket)
        self._new.add(socket)
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            self._forget(socket)

    async def _watch(self) -> None:
        known: int | None = None
        try:
            while self._pages:
                new, self._new = self._new, set()  # before the look: what comes later is for the next one
                number = await run_in_threadpool(self._changes.number)
                for page in tuple(self._pages if number != known else new):
                    await self._tell(page)
                known = number
                await asyncio.sleep(PERIOD_SECONDS)
        finally:
            self._watcher = None

    async def _tell(self, page: WebSocket) -> None:
        try:
            await page.send_text("changed")
        except (WebSocketDisconnect, RuntimeError):
            # It went away between two looks; ``serve`` may hear of that later.
            self._forget(page)

    def _forget(self, page: WebSocket) -> None:
        self._pages.discard(page)
        self._new.discard(page)


def _same_origin(socket: WebSocket) -> bool:
    """Tell whether the page that opens the socket is ours: browsers apply no other rule to WebSockets."""
    return urlsplit(socket.headers.get("origin", "")).netloc == socket.headers.get("host")

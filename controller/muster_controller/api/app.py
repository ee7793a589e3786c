"""The operators' application: ``/api/v1`` behind a token of each person, and its OpenAPI document."""

from fastapi import APIRouter, Depends, FastAPI, Request

from muster_controller.api import (
    admission,
    alarms,
    approvals,
    devices,
    drift,
    drills,
    errors,
    history,
    labels,
    people,
    reporting,
    repository,
    rollouts,
    samples,
    status,
    versions,
)
from muster_controller.api.auth import PREFIX, require_right
from muster_controller.api.limits import MAX_BODY_BYTES, BodyLimit
from muster_controller.service.context import Context
from muster_controller.service.people import open_door
from muster_models import __version__
from muster_models.errors import NotFoundError

__all__ = ["PREFIX", "make_api"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
ROOMS = (
    status, devices, admission, versions, drift, reporting, labels, repository, rollouts, approvals, drills,
    alarms, samples, history, people,
)  # fmt: skip


def make_api(context: Context, token: str) -> FastAPI:
    """Return the application that listens for operators; ``token`` is that of the folder."""
    app = FastAPI(
        title="Muster",
        version=__version__,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    app.state.context = context
    app.state.door = open_door(context, token)
    errors.install(app)
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES, streamed=f"{PREFIX}/blobs/")
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_right)])
    for room in ROOMS:
        router.include_router(room.router)
    router.add_api_route("/{rest:path}", _unknown, methods=METHODS, include_in_schema=False)
    app.include_router(router)
    return app


def _unknown(request: Request) -> None:
    # Without this route the dashboard, which is mounted below, would answer with a page.
    raise NotFoundError(f"{request.method} {request.url.path}: no such resource")

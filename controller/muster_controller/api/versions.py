"""``/models`` and ``/versions``: the registry, publishing into it, stopping a model everywhere."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from muster_controller.api.documents import Body, Document, ReasonBody, unarmour
from muster_controller.api.limits import DEFAULT, Cursor, Limit
from muster_controller.api.parts import Actor, Asks, Here
from muster_controller.service import bootstrap, publishing, versions
from muster_controller.service.bootstrap import BootstrapView
from muster_controller.service.publishing import Submission
from muster_controller.store.views.models import ModelDetail, ModelView, VersionDetail, VersionView
from muster_controller.store.views.paging import Page
from muster_models.errors import NotFoundError

router = APIRouter(tags=["versions"])


class ReleaseBody(Body):
    """A manifest, the model's role that lists it, and new targets where the model is new."""

    manifest: Document
    role: Document
    targets: Document | None = None


class WithdrawBody(ReasonBody):
    """The model's role without the version."""

    role: Document
    override: bool = False  # also when a rollout may still have to go back to it; needs a reason


@router.get("/models")
def list_models(context: Here) -> Page[ModelView]:
    """Return every model by name."""
    return Page(versions.list_models(context), None)


@router.get("/models/{model}")
def show_model(context: Here, model: str) -> ModelDetail:
    """Return one model with its versions and alarms."""
    return versions.show_model(context, model)


@router.post("/models/{model}/stop")
def stop_model(context: Here, actor: Actor, model: str, body: ReasonBody) -> ModelDetail:
    """Make every device answer with the model's declared fallback."""
    return versions.stop_model(context, actor, model, body.reason)


@router.post("/models/{model}/start")
def start_model(context: Here, actor: Actor, model: str, body: ReasonBody) -> ModelDetail:
    """Lift the order that stopped a model."""
    return versions.start_model(context, actor, model, body.reason)


@router.get("/versions")
def list_versions(
    context: Here, model: str | None = None, limit: Limit = DEFAULT, cursor: Cursor = None
) -> Page[VersionView]:
    """Return versions, latest published first."""
    return versions.list_versions(context, model=model, limit=limit, cursor=cursor)


@router.post("/versions", status_code=201)
def release(context: Here, asks: Asks, body: ReleaseBody) -> VersionDetail:
    """Publish a version whose files were uploaded; with new targets it is about all models."""
    targets = None if body.targets is None else unarmour(body.targets)
    submission = Submission(unarmour(body.manifest), unarmour(body.role), targets)
    return publishing.release(context, asks.about(submission.models()), submission)


@router.get("/versions/{name}")
def show_version(context: Here, name: str) -> VersionDetail:
    """Return the version that ``model@version`` or a digest names."""
    return versions.show_version(context, name)


@router.get("/versions/{name}/bootstrap")
def bootstrap_baseline(
    context: Here,
    name: str,
    windows: Annotated[int, Query(ge=1, le=10_000, description="First ones, of each device.")] = 24,
) -> BootstrapView:
    """Return a baseline of what the fleet sketched first of a version."""
    return bootstrap.bootstrap(context, name, per_device=windows)


@router.post("/versions/{digest}/withdraw")
def withdraw(context: Here, actor: Actor, digest: str, body: WithdrawBody) -> VersionDetail:
    """Withdraw a version: no device installs it or starts it again."""
    return publishing.withdraw(
        context, actor, digest, role=unarmour(body.role), reason=body.reason, override=body.override
    )


@router.head("/blobs/{sha256}")
def has_blob(context: Here, sha256: str) -> Response:
    """Tell whether a file is here."""
    if not context.blobs.has(sha256):
        raise NotFoundError(f"no file {sha256}")
    return Response()


@router.get("/blobs/{sha256}", response_class=FileResponse)
def show_blob(context: Here, sha256: str) -> FileResponse:
    """Return a file: what a publisher makes patches of."""
    return FileResponse(context.blobs.path(sha256), media_type="application/octet-stream")


@router.put("/blobs/{sha256}", status_code=204)
async def put_blob(context: Here, sha256: str, request: Request) -> None:
    """Take a file as the whole body; refused when it has another hash."""
    with await run_in_threadpool(context.blobs.writer, sha256) as writer:
        async for part in request.stream():
            await run_in_threadpool(writer.write, part)
        await run_in_threadpool(writer.commit)

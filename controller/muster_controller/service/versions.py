"""Models and versions: looking at them, stopping and starting a model everywhere."""

import re
from collections.abc import Iterator

from sqlmodel import Session

from muster_controller.service.context import Context, Deed, record
from muster_controller.store import assignments
from muster_controller.store import versions as store
from muster_controller.store.versions import Release
from muster_controller.store.views import models as views
from muster_controller.store.views.models import ModelDetail, ModelView, VersionDetail, VersionView
from muster_controller.store.views.paging import DEFAULT_LIMIT, Page
from muster_models.errors import NotFoundError, RequestError

_DIGEST = re.compile(r"[0-9a-f]{64}")


def resolve(session: Session, name: str) -> Release:
    """Return the version that ``model@version`` or a digest names.

    Raises:
        RequestError: Neither of the two forms.
        NotFoundError: No such version.
    """
    if _DIGEST.fullmatch(name) is not None:
        return store.get(session, name)
    model, mark, version = name.partition("@")
    if not (model and mark and version):
        raise RequestError(f"expected model@version or the digest of a manifest, got {name[:80]!r}")
    return store.find(session, model, version)


def model_asked(context: Context, name: str) -> Iterator[str]:
    """Yield the model of the version that ``model@version`` or a digest names, once it is asked for.

    Raises:
        RequestError: Neither of the two forms.
        NotFoundError: No such version.
    """
    with context.reading() as session:
        model = resolve(session, name).manifest.model
    yield model


def list_models(context: Context) -> tuple[ModelView, ...]:
    """Return every model by name."""
    with context.reading() as session:
        return views.list_models(session)


def show_model(context: Context, model: str) -> ModelDetail:
    """Return one model with its versions and alarms.

    Raises:
        NotFoundError: No version of such a model was published.
    """
    with context.reading() as session:
        found = views.find_model(session, model)
    if found is None:
        raise NotFoundError(f"no model {model!r}")
    return found


def list_versions(
    context: Context, *, model: str | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[VersionView]:
    """Return versions, latest published first."""
    with context.reading() as session:
        return views.list_versions(session, model=model, limit=limit, cursor=cursor)


def show_version(context: Context, name: str) -> VersionDetail:
    """Return the version that ``model@version`` or a digest names.

    Raises:
        NotFoundError: No such version.
    """
    with context.reading() as session:
        digest = resolve(session, name).digest
        found = views.find_version(session, digest)
    assert found is not None
    return found


def stop_model(context: Context, actor: str, model: str, reason: str = "") -> ModelDetail:
    """Make every device answer with the model's declared fallback, now and when it joins later.

    Raises:
        NotFoundError: No such model.
        ConflictError: It is stopped already.
    """
    now = context.clock()
    with context.unit() as session:
        _require_model(session, model)
        assignments.stop(session, model, now)
        record(session, Deed(actor, "model.stop", model, reason), now)
    context.wake()
    return show_model(context, model)


def start_model(context: Context, actor: str, model: str, reason: str = "") -> ModelDetail:
    """Lift the order that stopped a model.

    Raises:
        NotFoundError: No such model, or it is not stopped.
    """
    now = context.clock()
    with context.unit() as session:
        _require_model(session, model)
        assignments.start(session, model)
        record(session, Deed(actor, "model.start", model, reason), now)
    context.wake()
    return show_model(context, model)


def _require_model(session: Session, model: str) -> None:
    if not store.of_model(session, model):
        raise NotFoundError(f"no model {model!r}")

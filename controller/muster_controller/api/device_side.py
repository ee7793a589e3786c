"""What devices reach over TLS: enrolment, renewal, and the signed repository as static files below one URL.

Everything but the CA certificate and enrolment needs a certificate of a device that was not revoked.
"""

import hashlib
import re
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Final

from fastapi import Depends, FastAPI, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from muster_controller.api import errors
from muster_controller.api.limits import BodyLimit
from muster_controller.api.parts import Here
from muster_controller.api.peer import Peer
from muster_controller.service import enrolment
from muster_controller.service.context import Context
from muster_controller.service.enrolment import Answer, Enrolment, Renewal
from muster_models.errors import ForbiddenError, NotFoundError, Reason

MAX_BODY_BYTES: Final = 64 * 1024
_METADATA = re.compile(r"(\d{1,9}\.)?[a-z][a-z0-9-]{0,80}\.json")
# A name that holds a version or a hash never shows other bytes; the timestamp does.
_FOR_EVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
_NEVER: Final = {"Cache-Control": "no-cache"}


class EnrolBody(BaseModel):
    """A token and a certificate request in PEM; an id, where the token leaves a choice."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(max_length=400)
    csr: str = Field(max_length=8192)
    device: str | None = Field(default=None, max_length=80)


class AskBody(BaseModel):
    """The id that a machine without a token asks for, and a certificate request in PEM."""

    model_config = ConfigDict(extra="forbid")
    device: str = Field(max_length=80)
    csr: str = Field(max_length=8192)


class RenewBody(BaseModel):
    """A certificate request in PEM."""

    model_config = ConfigDict(extra="forbid")
    csr: str = Field(max_length=8192)


def require_device(request: Request, context: Here) -> str:
    """Return the id of the device whose certificate the connection carries.

    Raises:
        ForbiddenError: There is no certificate, it was revoked, or its device is not enrolled or was revoked.
    """
    peer = getattr(request.state, "peer", None)
    if not isinstance(peer, Peer):
        raise ForbiddenError("show the certificate of an enrolled device", Reason.UNSIGNED)
    if not enrolment.may_connect(context, peer.name, peer.serial):
        raise ForbiddenError(
            f"{peer.name[:80]!r} is not enrolled or was revoked, or this certificate of it was",
            Reason.WRONG_DEVICE,
        )
    return peer.name


Device = Annotated[str, Depends(require_device)]


def make_device_app(context: Context) -> FastAPI:
    """Return the application that listens for devices."""
    app = FastAPI(title="Muster for devices", openapi_url=None)
    app.state.context = context
    errors.install(app)
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES, streamed="\0")
    app.get("/ca.pem")(ca)
    app.post("/enrol")(enrol)
    app.post("/enrol/ask")(ask)
    app.post("/renew")(renew)
    app.get("/repository/metadata/{name}")(metadata)
    app.get("/repository/blobs/{sha256}")(blob)
    return app


def ca(context: Here) -> Response:
    """Return the CA certificate, which a device trusts only when its token names its SHA-256."""
    return PlainTextResponse(context.authority.pem, media_type="application/x-pem-file")


def enrol(body: EnrolBody, request: Request, context: Here) -> Enrolment:
    """Exchange a token and a certificate request for a certificate."""
    host = request.url.hostname or ""
    return enrolment.enrol(context, body.token, body.csr, host=host, device=body.device)


def ask(body: AskBody, request: Request, context: Here) -> Answer:
    """Ask to be let in without a token, and ask again what became of it."""
    address = "" if request.client is None else request.client.host
    return enrolment.ask(context, body.device, body.csr, host=request.url.hostname or "", address=address)


def renew(body: RenewBody, device: Device, context: Here) -> Renewal:
    """Exchange a certificate request for the device's next certificate."""
    return enrolment.renew(context, device, body.csr)


def metadata(name: str, request: Request, _device: Device, context: Here) -> Response:
    """Return a file of signed metadata, or that the timestamp is still the one whose tag the device names."""
    path = context.repository.metadata / name
    if _METADATA.fullmatch(name) is None or not path.is_file():
        raise NotFoundError(f"no metadata {name[:80]!r}")
    if name[0].isdecimal():
        return FileResponse(path, media_type="application/json", headers=_FOR_EVER)
    return _unless_known(path, request.headers.get("If-None-Match", ""))


def _unless_known(path: Path, known: str) -> Response:
    content = path.read_bytes()
    # By content: two timestamps of one second have the same length.
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_NEVER, "ETag": tag}
    if tag in {one.strip().removeprefix("W/") for one in known.split(",")}:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type="application/json", headers=headers)


def blob(sha256: str, _device: Device, context: Here) -> Response:
    """Return a file by its SHA-256, or the part of it that a Range header asks for."""
    path = context.blobs.path(sha256)
    return FileResponse(path, media_type="application/octet-stream", headers=_FOR_EVER)

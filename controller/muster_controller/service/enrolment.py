"""Letting a machine in: a token, or an operator's consent, and a certificate request become a certificate."""

import datetime as dt
from dataclasses import dataclass

from sqlmodel import Session

from muster_controller.pki import request_key
from muster_controller.service.context import Context, Deed, record
from muster_controller.store import bulk_tokens, enrolment, requests
from muster_controller.store.enrolment import Permit
from muster_controller.store.requests import Asking
from muster_models.errors import ConflictError, ForbiddenError, Reason

# The actor in the audit trail when a device acts for itself.
DEVICE = "device"


@dataclass(frozen=True)
class Mqtt:
    """Where the broker listens for devices."""

    host: str
    port: int


@dataclass(frozen=True)
class Enrolment:
    """Everything a new device needs to know.

    Attributes:
        certificate, ca: PEM.
        root: The first root of the signed repository, which the device pins.
        repository: Base URL of the repository's files.
    """

    device: str
    certificate: str
    ca: str
    root: str
    mqtt: Mqtt
    repository: str


@dataclass(frozen=True)
class Renewal:
    """The next certificate of a device."""

    device: str
    certificate: str
    ca: str


@dataclass(frozen=True)
class Answer:
    """What becomes of a machine that asks without a token.

    Attributes:
        state: ``pending``, ``refused`` or ``enrolled``.
        code: Of its key; the machine computes it too, and shows its own.
        enrolment: Once it is enrolled.
    """

    state: str
    code: str
    enrolment: Enrolment | None = None


def enrol(context: Context, token: str, csr: str, *, host: str, device: str | None = None) -> Enrolment:
    """Use up a token and return what the new device needs; nothing is used up when the request is bad.

    Args:
        context: Of this controller.
        token: As it was shown once.
        csr: A certificate request in PEM; every name that it holds is ignored.
        host: The name under which the machine reached this controller.
        device: The id that it asks for, where the token leaves a choice.

    Raises:
        ForbiddenError: The token is not known, used, revoked or expired.
        RequestError: The certificate request is bad.
        ConflictError: The signed repository is not installed yet, or the token is not for that id.
    """
    _check_ready(context)
    now = context.clock()
    with context.unit() as session:
        if token.startswith(f"{bulk_tokens.TOKEN_FORM}."):
            admitted, pem = _admit_one_more(context, session, token, csr, wanted=device)
        else:
            permit = enrolment.consume_token(session, token, now)
            if device is not None and device != permit.device:
                raise ConflictError(f"the token is for {permit.device}, got the id {device[:80]!r}")
            admitted, pem = permit.device, _admit(context, session, permit, csr, by="token")
    context.wake()
    return _enrolment(context, admitted, pem, host)


def ask(context: Context, device: str, csr: str, *, host: str, address: str) -> Answer:
    """Let a machine without a token ask, or ask again what became of it.

    Args:
        context: Of this controller.
        device: The id that it asks for.
        csr: A certificate request in PEM, which proves that it holds the key it is known by.
        host: The name under which the machine reached this controller.
        address: Where it comes from.

    Raises:
        ForbiddenError: This controller wants a token from everybody.
        RequestError: The certificate request is bad.
        MessageError: The id is not legal.
        ConflictError: Too many ask, the key asked for another id, the id was taken in the meantime, or the
            signed repository is not installed yet.
    """
    if not context.settings.enrol_on_request:
        raise ForbiddenError(
            "this controller admits only by token; an operator may set enrol_on_request", Reason.UNSIGNED
        )
    _check_ready(context)
    now = context.clock()
    asking = Asking(request_key(csr.encode()), device, address)
    with context.reading() as reading:  # nearly always nothing has changed, and nothing is written
        found = requests.find(reading, asking, now)
    if found is not None and found.state in {"pending", "refused"}:
        return Answer(found.state, found.code)
    with context.unit() as session:
        row = requests.add(session, asking, now)
        if row.state == "accepted":
            if not enrolment.is_free(session, device):
                raise ConflictError(f"{device} was enrolled by other means since")
            pem = _admit(context, session, Permit(device, row.labels), csr, by=f"request {row.code}")
            requests.complete(session, row, pem)
        state, code, pem = row.state, row.code, row.certificate
    if state != "enrolled":
        return Answer(state, code)
    context.wake()
    return Answer(state, code, _enrolment(context, device, pem, host))


def _admit(context: Context, session: Session, permit: Permit, csr: str, *, by: str) -> str:
    """Enrol a device within a unit of work; return its certificate."""
    now = context.clock()
    issued = context.authority.issue_device(permit.device, csr.encode(), _instant(now))
    enrolment.enrol(session, permit, issued, now)
    detail = {"serial": issued.serial, "by": by}
    record(session, Deed(DEVICE, "device.enrol", permit.device, detail=detail), now)
    return issued.pem


def _admit_one_more(
    context: Context, session: Session, token: str, csr: str, *, wanted: str | None
) -> tuple[str, str]:
    now, key = context.clock(), request_key(csr.encode())
    admission = bulk_tokens.admit(session, token, key=key, wanted=wanted, now=now)
    device = admission.permit.device
    if admission.certificate:
        return device, admission.certificate
    pem = _admit(context, session, admission.permit, csr, by=f"token {admission.token}")
    bulk_tokens.use(session, token, key=key, device=device, certificate=pem, now=now)
    return device, pem


def _check_ready(context: Context) -> None:
    if not context.repository.is_installed:
        raise ConflictError("there is no signed repository yet; make it with: muster keys init DIR")


def _enrolment(context: Context, device: str, certificate: str, host: str) -> Enrolment:
    reached = _reached_as(context, host)
    return Enrolment(
        device=device,
        certificate=certificate,
        ca=context.authority.pem,
        root=context.repository.root_v1.decode(),
        mqtt=Mqtt(reached, context.settings.mqtt_port),
        repository=f"{context.settings.device_url(reached)}/repository",
    )


def renew(context: Context, device: str, csr: str) -> Renewal:
    """Return the next certificate of a device that showed its present one.

    Raises:
        ForbiddenError: The device is not enrolled, or was revoked.
        RequestError: The certificate request is bad.
    """
    now = context.clock()
    with context.unit() as session:
        issued = context.authority.issue_device(device, csr.encode(), _instant(now))
        enrolment.renew(session, device, issued)
        record(session, Deed(DEVICE, "device.renew", device, detail={"serial": issued.serial}), now)
    return Renewal(device, issued.pem, context.authority.pem)


def may_connect(context: Context, device: str, serial: str) -> bool:
    """Tell whether a device may still use a certificate of ours, named by its serial (hex)."""
    with context.reading() as session:
        return enrolment.may_connect(session, device, serial)


def _reached_as(context: Context, host: str) -> str:
    # The server certificate holds only these names, so any other would not verify.
    return host if host in context.settings.names else context.settings.names[0]


def _instant(now: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(now, dt.UTC)

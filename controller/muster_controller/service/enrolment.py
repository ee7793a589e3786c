"""Letting a machine in: a one-time token and a certificate request become a certificate; renewing it."""

import datetime as dt
from dataclasses import dataclass

from muster_controller.service.context import Context, Deed, record
from muster_controller.store import enrolment
from muster_models.errors import ConflictError

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


def enrol(context: Context, token: str, csr: str, *, host: str) -> Enrolment:
    """Use up a token and return what the new device needs; nothing is used up when the request is bad.

    Args:
        context: Of this controller.
        token: As it was shown once.
        csr: A certificate request in PEM; every name that it holds is ignored.
        host: The name under which the machine reached this controller.

    Raises:
        ForbiddenError: The token is not known, used or expired.
        RequestError: The certificate request is bad.
        ConflictError: The signed repository is not installed yet.
    """
    if not context.repository.is_installed:
        raise ConflictError("there is no signed repository yet; make it with: muster keys init DIR")
    now = context.clock()
    with context.unit() as session:
        permit = enrolment.consume_token(session, token, now)
        issued = context.authority.issue_device(permit.device, csr.encode(), _instant(now))
        enrolment.enrol(session, permit, issued, now)
        record(session, Deed(DEVICE, "device.enrol", permit.device, detail={"serial": issued.serial}), now)
    context.wake()
    reached = _reached_as(context, host)
    return Enrolment(
        device=permit.device,
        certificate=issued.pem,
        ca=context.authority.pem,
        root=context.repository.root_v1.decode(),
        mqtt=Mqtt(reached, context.settings.mqtt_port),
        repository=f"https://{_url_host(reached)}:{context.settings.device_port}/repository",
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


def may_connect(context: Context, device: str) -> bool:
    """Tell whether a device with a certificate of ours may still use it."""
    with context.reading() as session:
        return enrolment.is_active(session, device)


def _reached_as(context: Context, host: str) -> str:
    # The server certificate holds only these names, so any other would not verify.
    return host if host in context.settings.names else context.settings.names[0]


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _instant(now: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(now, dt.UTC)

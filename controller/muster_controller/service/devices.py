"""Devices: looking at them, letting one in, turning one away."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass

from muster_controller.domain import selector
from muster_controller.service.context import Context, Deed, record
from muster_controller.service.versions import resolve
from muster_controller.store import devices as store
from muster_controller.store import enrolment
from muster_controller.store.views import devices as views
from muster_controller.store.views.devices import DeviceDetail, DeviceFilter, DeviceView, State
from muster_controller.store.views.engines import EngineView, list_engines
from muster_controller.store.views.paging import DEFAULT_LIMIT, Page
from muster_models.errors import NotFoundError, RequestError
from muster_models.topics import check_device

MAX_TOKEN_SECONDS = 30 * 24 * 3600.0
MAX_LABELS = 32
_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class DeviceQuery:
    """Which devices are asked for, in an operator's words; None means any.

    Attributes:
        text: Part of the device id.
        version: ``model@version`` or a digest: the device runs it now.
        where: A selector over labels.
    """

    text: str | None = None
    state: State | None = None
    model: str | None = None
    version: str | None = None
    where: str | None = None


@dataclass(frozen=True)
class TokenView:
    """A new enrolment token; its text is shown this once.

    Attributes:
        url: Where the device enrols with it.
    """

    device: str
    token: str
    expires_at: dt.datetime
    url: str


@dataclass(frozen=True)
class Cohort:
    """The devices that a selector names now, by id."""

    where: str
    devices: tuple[str, ...]
    enrolled: int


def show_engines(context: Context) -> tuple[EngineView, ...]:
    """Return which engines the devices run models with."""
    with context.reading() as session:
        return list_engines(session)


def list_devices(
    context: Context, query: DeviceQuery, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[DeviceView]:
    """Return devices by id.

    Raises:
        InvalidInputError: ``query.where`` is not a selector.
        NotFoundError: ``query.version`` names no version.
    """
    matches = None if query.where is None else selector.parse(query.where).matches
    with context.reading() as session:
        digest = None if query.version is None else resolve(session, query.version).digest
        wanted = DeviceFilter(query.text, query.state, query.model, digest, matches)
        return views.list_devices(
            session, wanted, silent_before=context.silent_before, limit=limit, cursor=cursor
        )


def show_device(context: Context, device: str) -> DeviceDetail:
    """Return one device with its latest history.

    Raises:
        NotFoundError: No such device.
    """
    with context.reading() as session:
        found = views.find_device(session, device, silent_before=context.silent_before)
    if found is None:
        raise NotFoundError(f"no device {device!r}")
    return found


def count_states(context: Context) -> dict[str, int]:
    """Return how many devices are in each state; every state is in the answer."""
    with context.reading() as session:
        return views.count_states(session, silent_before=context.silent_before)


def show_cohort(context: Context, where: str) -> Cohort:
    """Return the devices that a selector names, revoked ones left out.

    Raises:
        InvalidInputError: Not a selector.
    """
    matches = selector.parse(where).matches
    with context.reading() as session:
        members = store.members(session)
    chosen = (member.id for member in members if matches(selector.known_by(member.id, member.labels)))
    return Cohort(where, tuple(chosen), len(members))


def issue_token(
    context: Context,
    actor: str,
    *,
    device: str,
    labels: Mapping[str, str],
    lifetime: float = enrolment.TOKEN_SECONDS,
    again: bool = False,
) -> TokenView:
    """Make a one-time token with which a machine enrols as ``device``; ``lifetime`` is in seconds.

    With ``again``, the device is enrolled and lost its identity; its certificates are refused from now on.

    Raises:
        MessageError: Not a legal device id.
        RequestError: A label or the lifetime is not of the expected form.
        ConflictError: The device is enrolled already, or was revoked.
        NotFoundError: ``again``, and no such device.
    """
    check_device(device)
    check_labels(labels)
    check_lifetime(lifetime)
    now = context.clock()
    with context.unit() as session:
        token = enrolment.create_token(
            session,
            device,
            labels=labels,
            authority=context.authority.fingerprint,
            now=now,
            lifetime=lifetime,
            again=again,
        )
        detail = {"labels": dict(labels), "again": again}
        record(session, Deed(actor, "device.token", device, detail=detail), now)
    if again:
        context.wake()
    until = dt.datetime.fromtimestamp(now + lifetime, dt.UTC)
    return TokenView(device, token, until, context.settings.device_url())


def revoke(context: Context, actor: str, device: str, reason: str = "") -> DeviceDetail:
    """Refuse everything from a device from now on.

    Raises:
        NotFoundError: No such device.
    """
    now = context.clock()
    with context.unit() as session:
        enrolment.revoke(session, device, now)
        record(session, Deed(actor, "device.revoke", device, reason), now)
    context.wake()
    return show_device(context, device)


def set_labels(
    context: Context, actor: str, device: str, *, labels: Mapping[str, str], reason: str = ""
) -> DeviceDetail:
    """Replace the labels of a device.

    Raises:
        NotFoundError: No such device.
        RequestError: A label is not of the expected form.
    """
    check_labels(labels)
    now = context.clock()
    with context.unit() as session:
        store.set_labels(session, device, labels)
        record(session, Deed(actor, "device.label", device, reason, {"labels": dict(labels)}), now)
    context.wake()
    return show_device(context, device)


def check_lifetime(lifetime: float) -> None:
    """Refuse a lifetime of a token (seconds) that is no time, or too long.

    Raises:
        RequestError: It is.
    """
    if not 0 < lifetime <= MAX_TOKEN_SECONDS:
        raise RequestError(f"a token lives up to {MAX_TOKEN_SECONDS:.0f} seconds, got {lifetime:g}")


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that selectors could not name.

    Raises:
        RequestError: Too many labels, or a key or value of another form.
    """
    if len(labels) > MAX_LABELS:
        raise RequestError(f"a device has at most {MAX_LABELS} labels, got {len(labels)}")
    if selector.DEVICE in labels:
        raise RequestError(f"{selector.DEVICE!r} is the device's id in selectors and cannot be a label")
    for key, value in labels.items():
        if _KEY.fullmatch(key) is None or _VALUE.fullmatch(value) is None:
            raise RequestError(
                f"a label is {_KEY.pattern} = {_VALUE.pattern}, got {key[:80]!r} = {value[:80]!r}"
            )

"""How every device of the fleet reports: looking at it and changing it."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from muster_controller.service.context import Context, Deed, record
from muster_controller.store import reporting as store
from muster_models.errors import RequestError
from muster_models.wire import Reporting


@dataclass(frozen=True)
class ReportingView:
    """How every device reports; the fields of ``wire.Reporting``.

    Attributes:
        changed_at: When an operator ordered it; None where ``controller.toml`` decides.
    """

    window_seconds: float
    window_rows: int
    sample: float
    heartbeat_seconds: float
    save_seconds: float
    epsilon: float
    changed_at: dt.datetime | None


def current(context: Context) -> Reporting:
    """Return how every device reports."""
    with context.reading() as session:
        return store.current(session, context.settings.reporting)


def show(context: Context) -> ReportingView:
    """Return how every device reports."""
    with context.reading() as session:
        found = store.ordered(session)
    if found is None:
        return _view(context.settings.reporting, None)
    return _view(found.reporting, dt.datetime.fromtimestamp(found.changed_at, dt.UTC))


def change(context: Context, actor: str, fields: Mapping[str, Any], reason: str) -> ReportingView:
    """Change how every device reports, from its next desired state on. What is not named stays as it is.

    Rollouts that are under way keep the rounds of their plan. Devices begin a new window when they hear of
    it, and drift goes on from the levels that it knows.

    Raises:
        RequestError: A field is unknown or out of range, there is none, or no reason is given.
    """
    if not fields or not reason.strip():
        raise RequestError("expected what is to change, and a reason")
    now = context.clock()
    with context.unit() as session:
        before = store.current(session, context.settings.reporting)
        try:
            after = msgspec.convert({**msgspec.to_builtins(before), **fields}, Reporting)
        except msgspec.ValidationError as error:
            raise RequestError(f"reporting: {error}") from error
        store.order(session, after, now)
        changes = {name: [getattr(before, name), getattr(after, name)] for name in fields}
        record(session, Deed(actor, "reporting.change", "fleet", reason, changes), now)
    context.wake()
    return show(context)


def reset(context: Context, actor: str, reason: str) -> ReportingView:
    """Let ``controller.toml`` decide again how devices report."""
    now = context.clock()
    with context.unit() as session:
        store.forget(session)
        record(session, Deed(actor, "reporting.reset", "fleet", reason), now)
    context.wake()
    return show(context)


def _view(reporting: Reporting, changed_at: dt.datetime | None) -> ReportingView:
    return ReportingView(**msgspec.structs.asdict(reporting), changed_at=changed_at)

"""``muster event``, ``alarm``, ``audit`` and ``status``: what happened, and how things are."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.output import Columns, write_fields, write_json, write_section, write_table

event = App(name="event", help="What happened on devices and at the controller.")
alarm = App(name="alarm", help="What moved, fell silent or failed, and who took it on.")
audit = App(name="audit", help="Who did what, and why.")
HERE = Connection()
Limit = Annotated[int, Parameter(help="The newest so many.")]

EVENTS = {
    "at": "at",
    "device": "device",
    "event": "kind",
    "model": "model",
    "version": "version.name",
    "reason": "reason",
    "detail": "detail",
}
ALARMS = {
    "alarm": "id",
    "state": "state",
    "model": "model",
    "kind": "kind",
    "level": "level",
    "subject": "subject",
    "feature": "feature",
    "effect": "effect",
    "unit": "unit",
    "since": "since",
    "taken on by": "acknowledged_by",
    "silence": "silence",
}
AUDIT = {
    "at": "at",
    "actor": "actor",
    "action": "action",
    "subject": "subject",
    "reason": "reason",
    "detail": "detail",
}


@event.command(name="list")
def list_events(
    *,
    device: str | None = None,
    model: str | None = None,
    kind: str | None = None,
    reason: str | None = None,
    limit: Limit = 50,
    connection: Connection = HERE,
) -> None:
    """List events, newest first."""
    query = {"device": device, "model": model, "kind": kind, "reason": reason}
    _list("/events", query, EVENTS, limit=limit, connection=connection)


@alarm.command(name="list")
def list_alarms(
    *,
    model: str | None = None,
    state: str | None = None,
    kind: str | None = None,
    level: str | None = None,
    subject: str | None = None,
    limit: Limit = 50,
    connection: Connection = HERE,
) -> None:
    """List alarms, newest first."""
    query = {"model": model, "state": state, "kind": kind, "level": level, "subject": subject}
    _list("/alarms", query, ALARMS, limit=limit, connection=connection)


@alarm.command(name="show")
def show_alarm(number: int, /, *, connection: Connection = HERE) -> None:
    """Show one alarm with its evidence."""
    with connection.open() as api:
        found = api.get(f"/alarms/{number}")
    if connection.output == "json":
        write_json(found)
    else:
        write_fields(
            found,
            {
                **ALARMS,
                "because": "acknowledged_reason",
                "silenced until": "silenced_until",
                "fired": "fired_at",
                "resolved": "resolved_at",
                "evidence": "evidence",
            },
        )


@audit.command(name="list")
def list_audit(
    *,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    limit: Limit = 50,
    connection: Connection = HERE,
) -> None:
    """List who did what, newest first."""
    query = {"actor": actor, "action": action, "subject": subject}
    _list("/audit", query, AUDIT, limit=limit, connection=connection)


def show_status(*, connection: Connection = HERE) -> None:
    """Show how the controller and the fleet are, and what needs a person."""
    with connection.open() as api:
        status, overview = api.get("/status"), api.get("/overview")
    if connection.output == "json":
        write_json({**status, "attention": overview["attention"]})
        return
    write_fields(
        status,
        {
            "version": "version",
            "signed repository": "repository",
            "parts": "health",
            "devices": "devices",
            "alarms": "alarms",
            "live rollouts": "rollouts",
            "models": "models",
        },
    )
    write_section(
        "Needs attention", overview["attention"], {"what": "what", "title": "title", "detail": "detail"}
    )


def _list(path: str, query: dict[str, Any], columns: Columns, *, limit: int, connection: Connection) -> None:
    with connection.open() as api:
        items = list(api.items(path, query, limit=limit))
    if connection.output == "json":
        write_json(items)
    else:
        write_table(items, columns, empty="nothing")

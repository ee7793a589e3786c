"""``muster device``: letting machines in, looking at them, turning them away."""

from typing import Annotated

from cyclopts import App, Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.labels import parse_labels
from muster_controller.cli.output import (
    write_fields,
    write_json,
    write_outcome,
    write_section,
    write_table,
)

app = App(name="device", help="Machines: letting them in, looking at them, turning them away.")
Reason = Annotated[str, Parameter(help="Why, for the audit trail.")]
HERE = Connection()

COLUMNS = {
    "device": "id",
    "state": "state",
    "labels": "labels",
    "models": "summary",
    "alarms": "firing",
    "last seen": "last_seen",
}
MODELS = {
    "model": "model",
    "desired": "desired.name",
    "runs": "current.name",
    "phase": "phase",
    "reason": "reason",
    "since": "since",
}
EVENTS = {"at": "at", "event": "kind", "version": "version.name", "reason": "reason", "detail": "detail"}


@app.command(name="list")
def list_devices(
    *,
    where: Annotated[str | None, Parameter(help="A selector over labels, such as 'site = berlin'.")] = None,
    state: str | None = None,
    model: str | None = None,
    version: Annotated[str | None, Parameter(help="MODEL@VERSION that they run now.")] = None,
    limit: int | None = None,
    connection: Connection = HERE,
) -> None:
    """List devices."""
    query = {"where": where, "state": state, "model": model, "version": version}
    with connection.open() as api:
        devices = list(api.items("/devices", query, limit=limit))
    if connection.output == "json":
        write_json(devices)
        return
    for device in devices:
        running = (model["current"] for model in device["models"])
        device["summary"] = [version["name"] for version in running if version]
    write_table(devices, COLUMNS, empty="no such device")


@app.command
def show(device: str, /, *, connection: Connection = HERE) -> None:
    """Show one device: what it should run, what it runs, and what happened."""
    with connection.open() as api:
        detail = api.get(f"/devices/{device}")
    if connection.output == "json":
        write_json(detail)
        return
    write_fields(
        detail,
        {
            "device": "device.id",
            "state": "device.state",
            "labels": "device.labels",
            "hardware": "device.hardware",
            "agent": "device.agent",
            "runtimes": "runtimes",
            "isolation": "isolation",
            "last seen": "device.last_seen",
            "certificate until": "certificate_expires",
            "desired state": "desired.sequence",
            "outbox": "outbox",
        },
    )
    write_section("Models", detail["device"]["models"], MODELS)
    write_section("Events", detail["events"][:10], EVENTS)
    write_section(
        "Refused", detail["refusals"], {"reason": "reason", "count": "count", "detail": "last_detail"}
    )


@app.command
def revoke(device: str, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Refuse everything from a device from now on."""
    with connection.open() as api:
        detail = api.post(f"/devices/{device}/revoke", {"reason": reason})
    write_outcome(connection.output, detail, f"{device} is revoked")


@app.command(name="label")
def set_labels(
    device: str, labels: tuple[str, ...] = (), /, *, reason: Reason = "", connection: Connection = HERE
) -> None:
    """Replace the labels of a device by those given as KEY=VALUE."""
    with connection.open() as api:
        detail = api.put(f"/devices/{device}/labels", {"labels": parse_labels(labels), "reason": reason})
    if connection.output == "json":
        write_json(detail)
    else:
        write_fields(detail, {"device": "device.id", "labels": "device.labels"})

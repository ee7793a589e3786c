"""``muster device``: letting machines in, looking at them, turning them away."""

from typing import Annotated

from cyclopts import App, Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.exits import UsageError
from muster_controller.cli.output import (
    note,
    write_fields,
    write_json,
    write_outcome,
    write_section,
    write_table,
    write_text,
)

app = App(name="device", help="Machines: letting them in, looking at them, turning them away.")
Reason = Annotated[str, Parameter(help="Why, for the audit trail.")]
Labels = Annotated[
    tuple[str, ...], Parameter(name="--label", negative="", help="KEY=VALUE; may be repeated.")
]
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
def token(
    device: str,
    /,
    *,
    label: Labels = (),
    hours: Annotated[float, Parameter(help="How long the token is good for.")] = 24.0,
    connection: Connection = HERE,
) -> None:
    """Make a one-time token with which a machine enrols as DEVICE."""
    body = {"device": device, "labels": parse_labels(label), "lifetime_seconds": hours * 3600}
    with connection.open() as api:
        made = api.post("/devices/tokens", body)
    if connection.output == "json":
        write_json(made)
        return
    note(
        f"for one use until {made['expires_at'][:19]}Z, on the device: "
        "muster-agent enrol URL TOKEN --folder FOLDER"
    )
    write_text(made["token"])


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


def parse_labels(texts: tuple[str, ...]) -> dict[str, str]:
    """Return labels by key.

    Raises:
        UsageError: One is not KEY=VALUE.
    """
    labels: dict[str, str] = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not (key and mark and value):
            raise UsageError(f"a label is KEY=VALUE, got {text!r}")
        labels[key] = value
    return labels

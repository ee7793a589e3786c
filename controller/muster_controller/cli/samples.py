"""``muster sample``: rows of calls, ordered from devices that allow it."""

from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import App, Parameter

from muster_controller.cli.connection import Api, Connection
from muster_controller.cli.output import (
    write_fields,
    write_json,
    write_line,
    write_outcome,
    write_section,
    write_table,
)

app = App(name="sample", help="Rows of calls, from devices whose own settings allow it.")
HERE = Connection()
ORDERS = {
    "order": "id",
    "model": "model",
    "where": "where",
    "rows each": "rows",
    "received": "received",
    "may come": "remaining",
    "open": "open",
    "until": "until",
    "by": "actor",
    "reason": "reason",
}
DEVICES = {"device": "device", "rows": "rows", "says": "reason", "detail": "detail"}


@app.command(name="order")
def give(
    model: str,
    /,
    *,
    where: Annotated[str, Parameter(help="A selector over devices, such as 'device = press-1'.")],
    rows: Annotated[int, Parameter(help="The most of each device; up to 1000.")],
    hours: Annotated[float, Parameter(help="Until every row is deleted; up to 720.")],
    reason: Annotated[str, Parameter(help="Why; it must be given, for the audit trail.")],
    connection: Connection = HERE,
) -> None:
    """Order rows of a model, inputs and outputs; a device hands them out only if its agent.toml says so."""
    body = {"model": model, "where": where, "rows": rows, "seconds": hours * 3600, "reason": reason}
    with connection.open() as api:
        made = api.post("/samples", body)
    said = f"order {made['id']} asks {len(made['devices'])} devices until {made['until'][:19]}Z"
    write_outcome(connection.output, made, said)


@app.command(name="list")
def list_orders(*, connection: Connection = HERE) -> None:
    """List orders, newest first."""
    with connection.open() as api:
        found = api.get("/samples")["items"]
    if connection.output == "json":
        write_json(found)
    else:
        write_table(found, ORDERS, empty="no rows were ordered")


@app.command
def show(
    number: int,
    /,
    *,
    rows: Annotated[bool, Parameter(negative="", help="The rows too; that is audited.")] = False,
    reason: Annotated[str, Parameter(help="Why rows are read, for the audit trail.")] = "",
    connection: Connection = HERE,
) -> None:
    """Show what came of an order on each device; with --rows, one JSON object for each row besides."""
    with connection.open() as api:
        found = api.get(f"/samples/{number}")
        batches = list(_batches(api, number, reason)) if rows else []
    if connection.output == "json":
        write_json({**found, "batches": batches} if rows else found)
        return
    write_fields(found, ORDERS)
    write_section("Devices", found["devices"], DEVICES)
    for batch in batches:
        for row in _rows(batch):
            write_line(row)


@app.command
def delete(number: int, /, *, reason: str = "", connection: Connection = HERE) -> None:
    """End an order, and delete its rows now."""
    with connection.open() as api:
        ended = api.post(f"/samples/{number}/delete", {"reason": reason})
    write_outcome(connection.output, ended, f"order {number} is over, its rows are deleted")


def _batches(api: Api, number: int, reason: str) -> Iterator[dict[str, Any]]:
    after = 0
    while found := api.get(f"/samples/{number}/rows", {"after": after, "reason": reason}):
        yield from found
        after = found[-1]["id"]


def _rows(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for index in range(batch["rows"]):
        sides = {
            side: {name: values[index] for name, values in batch[side].items()}
            for side in ("inputs", "outputs")
        }
        yield {"device": batch["device"], "at": batch["at"], "version": batch["version"]["version"], **sides}

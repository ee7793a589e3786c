"""``muster drill``: rehearsing a rollback, and what former rehearsals measured."""

import time
from typing import Annotated, Any

from cyclopts import App, Parameter

from muster_controller.cli.connection import Api, Connection
from muster_controller.cli.exits import Exit
from muster_controller.cli.output import note, write_fields, write_json, write_section, write_table
from muster_models.errors import Reason as Code
from muster_models.errors import TransferError

app = App(name="drill", help="Rehearsing a rollback on some devices, and timing it.")
HERE = Connection()
POLL_SECONDS = 0.5
LIVE = frozenset({"away", "back"})
FIELDS = {
    "drill": "id",
    "model": "model",
    "version": "version.name",
    "went to": "other.name",
    "phase": "phase",
    "restored after s": "seconds",
    "devices": "count",
    "began": "started_at",
    "ended": "ended_at",
    "by": "started_by",
    "reason": "reason",
    "not as it should be": "why",
}
DEVICES = {"device": "device", "there after s": "away_seconds", "restored after s": "back_seconds"}


@app.command
def rollback(
    model: str,
    /,
    *,
    where: Annotated[
        str | None, Parameter(help="A selector; all devices of the model when left out.")
    ] = None,
    devices: Annotated[
        int | None, Parameter(help="How many of those, drawn by chance; 3, or all that --where names.")
    ] = None,
    to: Annotated[str | None, Parameter(help="MODEL@VERSION they are sent to, and come back from.")] = None,
    patience: Annotated[float | None, Parameter(help="Seconds to wait on each way for a device.")] = None,
    reason: Annotated[str, Parameter(help="Why, for the audit trail.")] = "",
    wait: Annotated[bool, Parameter(help="Follow it to its end.")] = True,
    timeout: Annotated[float | None, Parameter(help="Seconds to follow it at most.")] = None,
    connection: Connection = HERE,
) -> int:
    """Send devices to another version and back, by a rollout as in earnest; exit 6 when not all came back."""
    body: dict[str, Any] = {"model": model, "where": where, "devices": devices, "other": to, "reason": reason}
    if patience is not None:
        body["patience_seconds"] = patience
    with connection.open() as api:
        drill = api.post("/drills", {name: value for name, value in body.items() if value is not None})
        if wait:
            drill = _follow(api, drill, timeout)
    _write(drill, connection)
    return Exit.ROLLOUT_FAILED if drill["phase"] == "incomplete" else Exit.OK


@app.command(name="list")
def list_drills(*, model: str | None = None, connection: Connection = HERE) -> None:
    """List drills, newest first."""
    with connection.open() as api:
        found = api.get("/drills", {"model": model})["items"]
    if connection.output == "json":
        write_json(found)
    else:
        write_table([_counted(drill) for drill in found], FIELDS, empty="no drill was ever run")


@app.command
def show(number: int, /, *, connection: Connection = HERE) -> None:
    """Show one drill with what each device took."""
    with connection.open() as api:
        drill = api.get(f"/drills/{number}")
    _write(drill, connection)


def _follow(api: Api, drill: dict[str, Any], timeout: float | None) -> dict[str, Any]:
    deadline = None if timeout is None else time.monotonic() + timeout
    told = ""
    while drill["phase"] in LIVE:
        line = f"drill {drill['id']}: {_way(drill)}"
        if line != told:
            note(line)
            told = line
        if deadline is not None and time.monotonic() >= deadline:
            raise TransferError(f"drill {drill['id']} is not over after {timeout:g} s", Code.TIMED_OUT)
        time.sleep(POLL_SECONDS)
        found: dict[str, Any] = api.get(f"/drills/{drill['id']}")
        drill = found
    return drill


def _way(drill: dict[str, Any]) -> str:
    trips, total = drill["devices"], len(drill["devices"])
    if drill["phase"] == "away":
        there = sum(trip["away_seconds"] is not None for trip in trips)
        return f"{there} of {total} run {drill['other']['name']}"
    back = sum(trip["back_seconds"] is not None for trip in trips)
    return f"ordered back; {back} of {total} run {drill['version']['name']} again"


def _counted(drill: dict[str, Any]) -> dict[str, Any]:
    return {**drill, "count": len(drill["devices"])}


def _write(drill: dict[str, Any], connection: Connection) -> None:
    if connection.output == "json":
        write_json(drill)
        return
    write_fields(_counted(drill), FIELDS)
    write_section("Devices", drill["devices"], DEVICES)

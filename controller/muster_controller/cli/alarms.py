"""``muster alarm acknowledge``, ``silence`` and ``webhook``: who is told of alarms, and who is not."""

import time
from typing import Annotated, Any

from cyclopts import App, Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.exits import Exit
from muster_controller.cli.output import Columns, write_json, write_outcome, write_table, write_text
from muster_controller.delivery.signature import new_secret

silence = App(name="silence", help="Telling nobody of some alarms for a while.")
webhook = App(name="webhook", help="Receivers of webhooks, and what is on its way to them.")
HERE = Connection()
POLL_SECONDS = 0.2
Why = Annotated[str, Parameter(help="Why; it must be given, for the audit trail.")]
SILENCES = {
    "silence": "id",
    "model": "model",
    "kind": "kind",
    "level": "level",
    "where": "where",
    "until": "until",
    "active": "active",
    "by": "actor",
    "reason": "reason",
}
WEBHOOKS = {
    "webhook": "name",
    "url": "url",
    "kinds": "kinds",
    "levels": "levels",
    "waiting": "waiting",
    "delivered": "delivered",
    "given up": "given_up",
    "gone": "gone_at",
    "last": "last_at",
    "said": "detail",
}
DELIVERIES = {
    "delivery": "id",
    "webhook": "webhook",
    "type": "type",
    "subject": "subject",
    "state": "state",
    "tells of": "items",
    "tries": "tries",
    "said": "detail",
    "at": "created_at",
    "next": "next_at",
}


def acknowledge(number: int, /, *, reason: Why, connection: Connection = HERE) -> None:
    """Take an alarm on: it goes on firing, but needs no attention and is not told again."""
    with connection.open() as api:
        found = api.post(f"/alarms/{number}/acknowledge", {"reason": reason})
    write_outcome(connection.output, found, f"alarm {number} is acknowledged")


@silence.command
def add(
    *,
    reason: Why,
    hours: Annotated[float, Parameter(help="How long, from now; up to 720.")],
    model: Annotated[str | None, Parameter(help="Alarms of this model.")] = None,
    kind: Annotated[str | None, Parameter(help="Alarms of this kind, such as data-drift.")] = None,
    level: Annotated[str | None, Parameter(help="device, group or fleet.")] = None,
    where: Annotated[
        str | None, Parameter(help="A selector over the subject; 'all' for every alarm.")
    ] = None,
    connection: Connection = HERE,
) -> None:
    """Tell nobody of the alarms that all of these name, for some hours."""
    body = {"model": model, "kind": kind, "level": level, "where": where}
    named = {name: value for name, value in body.items() if value is not None}
    with connection.open() as api:
        made = api.post("/silences", {**named, "seconds": hours * 3600, "reason": reason})
    write_outcome(connection.output, made, f"silence {made['id']} holds until {made['until'][:19]}Z")


@silence.command(name="list")
def list_silences(
    *,
    past: Annotated[bool, Parameter(negative="", help="Also those that are over.")] = False,
    connection: Connection = HERE,
) -> None:
    """List silences, newest first."""
    _list("/silences", SILENCES, {"past": past}, "no silence", connection)


@silence.command
def end(number: int, /, *, reason: str = "", connection: Connection = HERE) -> None:
    """End a silence early."""
    with connection.open() as api:
        ended = api.post(f"/silences/{number}/end", {"reason": reason})
    write_outcome(connection.output, ended, f"silence {number} is over")


@webhook.command(name="list")
def list_webhooks(*, connection: Connection = HERE) -> None:
    """List the receivers of controller.toml, and how each has done."""
    _list("/webhooks", WEBHOOKS, {}, "no webhook is configured", connection)


@webhook.command
def deliveries(
    name: str | None = None,
    /,
    *,
    state: Annotated[str | None, Parameter(help="waiting, delivered or given-up.")] = None,
    limit: Annotated[int, Parameter(help="The newest so many.")] = 50,
    connection: Connection = HERE,
) -> None:
    """List messages to receivers, or to one, newest first."""
    with connection.open() as api:
        found = list(api.items("/deliveries", {"webhook": name, "state": state}, limit=limit))
    _write(found, DELIVERIES, "nothing was sent", connection)


@webhook.command(name="test")
def send_test(
    name: str,
    /,
    *,
    timeout: Annotated[float, Parameter(help="Seconds to wait for the first try.")] = 30.0,
    connection: Connection = HERE,
) -> int:
    """Send a receiver a message that means nothing; exit 0 only when it arrived."""
    deadline = time.monotonic() + timeout
    with connection.open() as api:
        found = api.post(f"/webhooks/{name}/test", {})
        while found["state"] == "waiting" and found["tries"] == 0 and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            found = api.get(f"/deliveries/{found['id']}")
        # The try is written down before it is made: wait for what it said.
        while found["state"] == "waiting" and not found["detail"] and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            found = api.get(f"/deliveries/{found['id']}")
    said = found["detail"] or "it waits behind what did not arrive: muster webhook deliveries"
    write_outcome(connection.output, found, f"{name}: {found['state']}: {said}")
    return Exit.OK if found["state"] == "delivered" else Exit.ERROR


@webhook.command
def secret() -> None:
    """Print a new secret, for a secret_file and for its receiver; it is kept nowhere."""
    write_text(new_secret())


def _list(path: str, columns: Columns, query: dict[str, Any], empty: str, connection: Connection) -> None:
    with connection.open() as api:
        found = api.get(path, query)["items"]
    _write(found, columns, empty, connection)


def _write(found: list[Any], columns: Columns, empty: str, connection: Connection) -> None:
    if connection.output == "json":
        write_json(found)
    else:
        write_table(found, columns, empty=empty)

"""``muster device``: letting machines in, by token or by consent."""

from typing import Annotated, Any

from cyclopts import Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.devices import HERE, Reason
from muster_controller.cli.exits import UsageError
from muster_controller.cli.labels import Labels, parse_labels
from muster_controller.cli.output import note, text, write_json, write_outcome, write_table, write_text

TOKENS = {
    "token": "id",
    "for": "subject",
    "used": "used",
    "of": "count",
    "again": "again",
    "labels": "labels",
    "until": "expires_at",
}
REQUESTS = {
    "code": "code",
    "asks to be": "device",
    "state": "state",
    "address": "address",
    "since": "asked_at",
    "until": "expires_at",
}


def token(
    device: str | None = None,
    /,
    *,
    again: Annotated[
        bool,
        Parameter(
            negative="",
            help="DEVICE is enrolled and lost its identity: its present certificate is refused from now on.",
        ),
    ] = False,
    count: Annotated[int | None, Parameter(help="Let so many devices in, instead of one.")] = None,
    prefix: Annotated[str | None, Parameter(help="With --count: how their ids begin.")] = None,
    label: Labels = (),
    hours: Annotated[float, Parameter(help="How long the token is good for.")] = 24.0,
    connection: Connection = HERE,
) -> None:
    """Make a token: for one machine that enrols as DEVICE, or for several with --count and --prefix."""
    path, body = _order(device, again=again, count=count, prefix=prefix)
    body |= {"labels": parse_labels(label), "lifetime_seconds": hours * 3600}
    with connection.open() as api:
        made = api.post(path, body)
    if connection.output == "json":
        write_json(made)
        return
    uses = "one use" if count is None else f"{count} devices"
    note(
        f"for {uses} until {text(made['expires_at'])}, on the device: "
        f"muster-agent enrol {made['url']} {made['token']} --folder FOLDER"
    )
    write_text(made["token"])


def _order(
    device: str | None, *, again: bool, count: int | None, prefix: str | None
) -> tuple[str, dict[str, Any]]:
    match device, count, prefix:
        case str(), None, None:
            return "/devices/tokens", {"device": device, "again": again}
        case None, int(), str() if not again:
            return "/admission/tokens", {"prefix": prefix, "count": count}
        case _:
            raise UsageError("expected DEVICE [--again], or --count N --prefix PREFIX")


def list_tokens(*, connection: Connection = HERE) -> None:
    """List the tokens that may still be used."""
    with connection.open() as api:
        tokens = api.get("/admission/tokens")
    if connection.output == "json":
        write_json(tokens)
    else:
        write_table(tokens, TOKENS, empty="no token is out")


def revoke_token(token: str, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Let nobody in any more by TOKEN, named as 'muster device tokens' shows it."""
    with connection.open() as api:
        revoked = api.post(f"/admission/tokens/{token}/revoke", {"reason": reason})
    write_outcome(connection.output, revoked, f"the token for {revoked['subject']} is revoked")


def pending(*, connection: Connection = HERE) -> None:
    """List the machines that ask to be let in without a token."""
    with connection.open() as api:
        waiting = api.get("/admission/requests")
    if connection.output == "json":
        write_json(waiting)
        return
    if waiting["is_open"]:
        note(
            f"on the machine: muster-agent enrol {waiting['url']} --request ID --folder FOLDER "
            f"--ca-sha256 {waiting['ca_sha256']}"
        )
    else:
        note("machines may not ask; set enrol_on_request = true in controller.toml to let them")
    write_table(waiting["requests"], REQUESTS, empty="no machine asks")


def accept(code: str, /, *, label: Labels = (), reason: Reason = "", connection: Connection = HERE) -> None:
    """Let the machine in that shows CODE."""
    with connection.open() as api:
        body = {"labels": parse_labels(label), "reason": reason}
        found = api.post(f"/admission/requests/{code}/accept", body)
    write_outcome(connection.output, found, f"{found['device']} is let in")


def refuse(code: str, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Turn the machine away that shows CODE."""
    with connection.open() as api:
        found = api.post(f"/admission/requests/{code}/refuse", {"reason": reason})
    write_outcome(connection.output, found, f"{found['device']} is refused")

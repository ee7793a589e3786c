"""``muster people``: who may use this controller, and in which roles."""

from typing import Annotated

from cyclopts import App, Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.exits import UsageError
from muster_controller.cli.output import (
    note,
    write_fields,
    write_json,
    write_outcome,
    write_table,
    write_text,
)
from muster_controller.domain.people import Role

app = App(name="people", help="Who may use this controller: a token and roles for each.")
HERE = Connection()
Roles = Annotated[
    tuple[Role, ...],
    Parameter(name="--role", negative="", help="auditor, operator, approver or admin; several add up."),
]
Reason = Annotated[str, Parameter(help="Why, for the audit trail.")]
COLUMNS = {
    "person": "name",
    "roles": "roles",
    "may": "rights",
    "token since": "token_since",
    "let in by": "created_by",
    "revoked": "revoked_at",
}


@app.command
def add(name: str, /, *, role: Roles = (), reason: Reason = "", connection: Connection = HERE) -> None:
    """Let somebody in; their token is printed this once."""
    _require(role)
    with connection.open() as api:
        made = api.post("/people", {"name": name, "roles": list(role), "reason": reason})
    _hand_over(made, connection)


@app.command(name="list")
def list_people(*, connection: Connection = HERE) -> None:
    """List everybody, those revoked too."""
    with connection.open() as api:
        people = api.get("/people")
    if connection.output == "json":
        write_json(people)
    else:
        write_table(people, COLUMNS, empty="nobody")


@app.command
def me(*, connection: Connection = HERE) -> None:
    """Show who you are to the controller, and what you may do."""
    with connection.open() as api:
        person = api.get("/people/me")
    if connection.output == "json":
        write_json(person)
    else:
        write_fields(person, {"person": "name", "roles": "roles", "may": "rights"})


@app.command
def renew(name: str, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Make a new token for somebody; the one before, and every session opened with it, ends."""
    with connection.open() as api:
        made = api.post(f"/people/{name}/token", {"reason": reason})
    _hand_over(made, connection)


@app.command
def change(name: str, /, *, role: Roles = (), reason: Reason = "", connection: Connection = HERE) -> None:
    """Give somebody other roles, instead of those they have."""
    _require(role)
    with connection.open() as api:
        changed = api.put(f"/people/{name}/roles", {"roles": list(role), "reason": reason})
    write_outcome(connection.output, changed, f"{name} is {', '.join(changed['roles'])}")


@app.command
def revoke(name: str, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Refuse somebody's token from now on; the name stays theirs in the audit trail."""
    with connection.open() as api:
        gone = api.post(f"/people/{name}/revoke", {"reason": reason})
    write_outcome(connection.output, gone, f"the token of {name} is revoked")


def _require(roles: tuple[Role, ...]) -> None:
    if not roles:
        raise UsageError("name the roles: --role auditor|operator|approver|admin, once or more")


def _hand_over(made: dict[str, str], connection: Connection) -> None:
    if connection.output == "json":
        write_json(made)
        return
    note(f"the token of {made['name']}, shown this once; in a file that MUSTER_TOKEN_FILE names:")
    write_text(made["token"])

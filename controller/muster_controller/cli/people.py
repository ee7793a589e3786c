"""``muster people``: who may use this controller, and in which roles."""

from typing import Annotated, Any

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
Models = Annotated[
    tuple[str, ...],
    Parameter(name="--model", negative="", help="That the roles are for, once or more; all when left out."),
]
Reason = Annotated[str, Parameter(help="Why, for the audit trail.")]
COLUMNS = {
    "person": "name",
    "roles": "roles",
    "models": "models",
    "may": "rights",
    "token since": "token_since",
    "let in by": "created_by",
    "revoked": "revoked_at",
}


@app.command
def add(
    name: str,
    /,
    *,
    role: Roles = (),
    model: Models = (),
    reason: Reason = "",
    connection: Connection = HERE,
) -> None:
    """Let somebody in; their token is printed this once."""
    body = _body(role, model, reason)
    with connection.open() as api:
        made = api.post("/people", {"name": name, **body})
    _hand_over(made, connection)


@app.command(name="list")
def list_people(*, connection: Connection = HERE) -> None:
    """List everybody, those revoked too."""
    with connection.open() as api:
        people = api.get("/people")
    if connection.output == "json":
        write_json(people)
    else:
        write_table([_shown(person) for person in people], COLUMNS, empty="nobody")


@app.command
def me(*, connection: Connection = HERE) -> None:
    """Show who you are to the controller, and what you may do."""
    with connection.open() as api:
        person = api.get("/people/me")
    if connection.output == "json":
        write_json(person)
    else:
        fields = {"person": "name", "roles": "roles", "models": "models", "may": "rights"}
        write_fields(_shown(person), fields)


@app.command
def renew(name: str, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Make a new token for somebody; the one before, and every session opened with it, ends."""
    with connection.open() as api:
        made = api.post(f"/people/{name}/token", {"reason": reason})
    _hand_over(made, connection)


@app.command
def change(
    name: str,
    /,
    *,
    role: Roles = (),
    model: Models = (),
    reason: Reason = "",
    connection: Connection = HERE,
) -> None:
    """Give somebody other roles and models, instead of those they have; without a model over all."""
    body = _body(role, model, reason)
    with connection.open() as api:
        changed = api.put(f"/people/{name}/roles", body)
    models = f" of {', '.join(changed['models'])}" if changed["models"] else ""
    write_outcome(connection.output, changed, f"{name} is {', '.join(changed['roles'])}{models}")


@app.command
def revoke(name: str, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Refuse somebody's token from now on; the name stays theirs in the audit trail."""
    with connection.open() as api:
        gone = api.post(f"/people/{name}/revoke", {"reason": reason})
    write_outcome(connection.output, gone, f"the token of {name} is revoked")


def _body(roles: tuple[Role, ...], models: tuple[str, ...], reason: str) -> dict[str, object]:
    if not roles:
        raise UsageError("name the roles: --role auditor|operator|approver|admin, once or more")
    return {"roles": list(roles), "models": list(models) or None, "reason": reason}


def _shown(person: dict[str, Any]) -> dict[str, Any]:
    return {**person, "models": person["models"] or "all"}


def _hand_over(made: dict[str, str], connection: Connection) -> None:
    if connection.output == "json":
        write_json(made)
        return
    note(f"the token of {made['name']}, shown this once; in a file that MUSTER_TOKEN_FILE names:")
    write_text(made["token"])

"""``muster rollout approvals``, ``approve`` and ``withhold``: what people say to a rollout."""

from typing import Annotated

from cyclopts import Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.output import note, write_fields, write_json, write_outcome, write_section

HERE = Connection()
Why = Annotated[str, Parameter(help="Why; it must be given, for the audit trail.")]
GIVEN = {
    "person": "person",
    "as": "role",
    "why": "reason",
    "at": "at",
    "until": "expires_at",
    "void because": "void",
}


def approvals(number: int, /, *, connection: Connection = HERE) -> None:
    """Show what a rollout needs of people, who has agreed, and what is missing."""
    with connection.open() as api:
        found = api.get(f"/rollouts/{number}/approvals")
    if connection.output == "json":
        write_json(found)
        return
    if not found["needed"]:
        note("the plan asks nobody to approve")
        return
    titles = {"to": "about", "needed": "needed", "roles": "roles", "could approve": "holders"}
    write_fields(found, {**titles, "author": "author", "missing": "missing", "digest": "digest"})
    write_section("Approvals", found["given"], GIVEN)


def approve(
    number: int,
    /,
    *,
    reason: Why,
    digest: Annotated[
        str | None, Parameter(help="Of what you looked at, from 'muster rollout approvals'.")
    ] = None,
    connection: Connection = HERE,
) -> None:
    """Agree with a rollout as it stands; refused when it is no longer what --digest names."""
    with connection.open() as api:
        detail = api.post(f"/rollouts/{number}/approve", {"reason": reason, "digest": digest})
        found = api.get(f"/rollouts/{number}/approvals")
    said = f"still missing: {found['missing']}" if found["missing"] else "nobody else is needed"
    write_outcome(connection.output, detail, f"rollout {number} is {detail['rollout']['phase']}; {said}")


def withhold(number: int, /, *, reason: Why, connection: Connection = HERE) -> None:
    """Refuse to approve a rollout that waits for it: it ends before it began."""
    with connection.open() as api:
        detail = api.post(f"/rollouts/{number}/withhold", {"reason": reason})
    write_outcome(connection.output, detail, f"rollout {number} is {detail['rollout']['phase']}")

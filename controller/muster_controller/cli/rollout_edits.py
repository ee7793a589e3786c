"""``muster rollout edit``: another plan for a rollout that has not begun."""

from typing import Annotated

from cyclopts import Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.output import text, write_json, write_text
from muster_controller.cli.rollout_terms import read_file

HERE = Connection()


def edit(
    number: int,
    file: Annotated[str, Parameter(name="FILE", help="The plan, all of it; - for standard input.")],
    /,
    *,
    reason: Annotated[str, Parameter(help="Why; it must be given, for the audit trail.")],
    of: Annotated[str | None, Parameter(help="MODEL@VERSION, instead of the one in the file.")] = None,
    digest: Annotated[
        str | None, Parameter(help="Of what you edited, from 'muster rollout show -o json'.")
    ] = None,
    connection: Connection = HERE,
) -> None:
    """Give a rollout that has not begun another plan; whatever was approved of the one before is void.

    'muster rollout show NUMBER --as-file' prints the plan as it stands. Without a seed the draw stays.
    """
    body = {**read_file(file, version=of), "reason": reason, "digest": digest}
    with connection.open() as api:
        detail = api.post(f"/rollouts/{number}/edit", body)
    if connection.output == "json":
        write_json(detail)
        return
    rollout = detail["rollout"]
    waiting = f", waits for {text(rollout['waiting'])}" if rollout["waiting"] else ""
    write_text(f"rollout {number} has another plan; it is {rollout['phase']}{waiting}")
    edited = next(act for act in detail["audit"] if act["action"] == "rollout.edit")
    for change in edited["detail"]["changes"]:
        write_text(f"  {change}")

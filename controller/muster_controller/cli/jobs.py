"""``muster job``: retraining jobs."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.output import (
    write_fields,
    write_json,
    write_outcome,
    write_section,
    write_table,
    write_text,
)

app = App(name="job", help="Retraining jobs that alarms have started.")
HERE = Connection()
Reason = Annotated[str, Parameter(help="Why, for the audit trail.")]
JOBS = {
    "job": "id",
    "trigger": "trigger",
    "state": "state",
    "model": "model",
    "cause": "cause",
    "alarm": "alarm",
    "parent": "parent.name",
    "runs": "runs",
    "created": "created_at",
    "ended": "ended_at",
    "detail": "detail",
}
TRIGGERS = {
    "trigger": "name",
    "kinds": "kinds",
    "models": "models",
    "runs": "runs",
    "a week": "per_week",
    "held back": "held_back",
}


@app.command(name="list")
def list_jobs(
    *,
    model: str | None = None,
    state: Annotated[str | None, Parameter(help="queued, running, done, failed or unknown.")] = None,
    limit: Annotated[int, Parameter(help="The newest so many.")] = 50,
    connection: Connection = HERE,
) -> None:
    """List jobs, newest first, and what starts them."""
    with connection.open() as api:
        found = list(api.items("/jobs", {"model": model, "state": state}, limit=limit))
        triggers = [] if connection.output == "json" else api.get("/jobs/triggers")["items"]
    if connection.output == "json":
        write_json(found)
        return
    write_table(found, JOBS, empty="no job")
    write_section("Triggers", triggers, TRIGGERS)


@app.command
def show(number: int, /, *, connection: Connection = HERE) -> None:
    """Show one job: its evidence, and the end of what its command said."""
    with connection.open() as api:
        found = api.get(f"/jobs/{number}")
    if connection.output == "json":
        write_json(found)
        return
    write_fields(
        found,
        {
            **JOBS,
            "started": "started_at",
            "ends by": "deadline_at",
            "exit status": "exit_status",
            "features": "evidence.features",
            "devices": "evidence.devices",
            "data sets": "evidence.datasets",
        },
    )
    if found["output"]:
        write_text(f"\nOutput\n{found['output'].rstrip()}")


@app.command
def finish(
    number: int,
    /,
    *,
    outcome: Annotated[Literal["done", "failed"], Parameter(help="How it ended.")],
    reason: Reason = "",
    connection: Connection = HERE,
) -> None:
    """Say how a job ended that a receiver runs, or one that nobody saw end."""
    with connection.open() as api:
        found = api.post(f"/jobs/{number}/finish", {"outcome": outcome, "reason": reason})
    write_outcome(connection.output, found, f"job {number} is {found['state']}")


@app.command
def retry(number: int, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Run a job again that has ended, with the same evidence."""
    with connection.open() as api:
        found = api.post(f"/jobs/{number}/retry", {"reason": reason})
    write_outcome(connection.output, found, f"job {found['id']} is {found['state']}")

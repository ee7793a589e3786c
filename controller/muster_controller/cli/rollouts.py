"""``muster rollout``: planning, starting, steering and watching rollouts."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from muster_controller.cli import rollout_tables as tables
from muster_controller.cli.connection import Connection
from muster_controller.cli.exits import Exit, UsageError
from muster_controller.cli.output import (
    counted,
    note,
    text,
    write_json,
    write_line,
    write_outcome,
    write_text,
)
from muster_controller.cli.rollout_terms import TERMS, Subject, Terms
from muster_models.errors import Reason as Code
from muster_models.errors import TransferError

app = App(name="rollout", help="Moving devices to a version, in stages that are judged.")
HERE = Connection()
POLL_SECONDS: Final = 1.0
DONE: Final = "completed"
FAILED: Final = frozenset({"rolled-back", "rollback-incomplete", "aborted"})
WAITS_FOR_A_PERSON: Final = frozenset({"paused", "pending-approval"})

Phase = Literal[
    "draft", "pending-approval", "scheduled", "running", "paused", "rolling-back", "rolled-back",
    "rollback-incomplete", "completed", "aborted",
]  # fmt: skip
Reason = Annotated[str, Parameter(help="Why, for the audit trail.")]
Told = Annotated[str, Parameter(help="Why; it must be given, for the audit trail.")]


@app.command
def plan(
    subject: Subject,
    /,
    *,
    terms: Terms = TERMS,
    as_file: Annotated[
        bool, Parameter(negative="", help="Print the plan as a file, and nothing else.")
    ] = False,
    connection: Connection = HERE,
) -> None:
    """Show what a rollout would do: who, how much, by when, and what its gates could see. Nothing starts."""
    body = terms.body(subject)
    with connection.open() as api:
        view = api.post("/rollouts/plan", body)
    if "seed" not in body and not as_file:
        seed = view["plan"]["seed"]
        note(f"this draw is an example: without a seed the start draws anew; seed {seed} has it")
    if as_file:
        write_text(view["file"].rstrip("\n"))
    elif connection.output == "json":
        write_json(view)
    else:
        tables.show_plan(view)


@app.command
def start(
    subject: Subject, /, *, terms: Terms = TERMS, reason: Reason = "", connection: Connection = HERE
) -> None:
    """Start a rollout, or ask for the approval that its plan wants."""
    with connection.open() as api:
        detail = api.post("/rollouts", {**terms.body(subject), "reason": reason})
    rollout = detail["rollout"]
    told = {
        "pending-approval": f"waits for approval: {text(rollout['waiting'])}",
        "scheduled": f"is scheduled: {text(rollout['waiting'])}",
    }.get(rollout["phase"], "has started")
    said = f"rollout {rollout['id']} of {rollout['version']['name']} {told}"
    write_outcome(connection.output, detail, said)


@app.command(name="list")
def list_rollouts(
    *,
    model: str | None = None,
    phase: Phase | None = None,
    live: Annotated[bool | None, Parameter(negative="", help="Only those that are not over.")] = None,
    limit: int = 50,
    connection: Connection = HERE,
) -> None:
    """List rollouts, newest first."""
    with connection.open() as api:
        found = list(api.items("/rollouts", {"model": model, "phase": phase, "live": live}, limit=limit))
    if connection.output == "json":
        write_json(found)
    else:
        tables.list_rollouts(found)


@app.command
def show(
    number: int,
    /,
    *,
    as_file: Annotated[
        bool, Parameter(negative="", help="Print its plan as a file, and nothing else.")
    ] = False,
    connection: Connection = HERE,
) -> None:
    """Show one rollout: stages, devices, gates and what they saw."""
    with connection.open() as api:
        detail = api.get(f"/rollouts/{number}")
        if as_file:
            write_text(detail["file"].rstrip("\n"))
            return
        devices = list(api.items(f"/rollouts/{number}/devices", {}))
    if connection.output == "json":
        write_json({**detail, "devices": devices})
    else:
        tables.show_rollout(detail, devices)


@app.command
def watch(
    number: int,
    /,
    *,
    timeout: Annotated[float | None, Parameter(help="Seconds to wait at most.")] = None,
    until_hold: Annotated[
        bool, Parameter(negative="", help="End also when it waits for a person, with exit code 8.")
    ] = False,
    connection: Connection = HERE,
) -> int:
    """Follow a rollout and its gates until it is over; the exit code says how it ended.

    On a terminal stages and gates are shown in place; elsewhere each change is a line.
    0 completed, 6 rolled back or aborted, 7 not over in time, 8 waits for a person (with --until-hold).
    """
    if timeout is not None and not timeout >= 0:  # of NaN nothing is true, and a watch would have no end
        raise UsageError(f"--timeout: expected seconds, at least 0, got {timeout:g}")
    deadline = None if timeout is None else time.monotonic() + timeout
    with connection.open() as api, _showing(connection.output) as show:
        while True:
            detail = api.get(f"/rollouts/{number}")
            show(detail)
            ended = _ending(detail["rollout"], until_hold=until_hold)
            if ended is not None:
                return ended
            if deadline is not None and time.monotonic() >= deadline:
                raise TransferError(f"rollout {number} is not over after {timeout:g} s", Code.TIMED_OUT)
            time.sleep(POLL_SECONDS)


@app.command
def explain(
    number: int,
    /,
    *,
    gate: Annotated[str | None, Parameter(help="Show this one alone; all are computed.")] = None,
    connection: Connection = HERE,
) -> Exit:
    """Show the evidence round by round, and every verdict, computed again from what is stored.

    0 when all of it is what the rollout judged by, 9 when something is not.
    """
    with connection.open() as api:
        found = api.get(f"/rollouts/{number}/explain", {"gate": gate})
    if connection.output == "json":
        write_json(found)
    else:
        tables.show_explained(found)
    return Exit.OK if found["same"] else Exit.DIFFERS


@app.command
def pause(number: int, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Stop admission and promotion; harm still rolls back."""
    _steer(number, "pause", {"reason": reason}, connection)


@app.command
def resume(number: int, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Go on after a pause or a hold, and acknowledge the failures seen so far."""
    _steer(number, "resume", {"reason": reason}, connection)


@app.command
def promote(number: int, /, *, reason: Told, connection: Connection = HERE) -> None:
    """End the stage as if it had been judged healthy, against the evidence."""
    _steer(number, "promote", {"reason": reason}, connection)


@app.command
def abort(
    number: int,
    /,
    *,
    mode: Annotated[
        Literal["keep", "revert"] | None, Parameter(help="What becomes of updated devices; as the plan says.")
    ] = None,
    reason: Reason = "",
    connection: Connection = HERE,
) -> None:
    """End a rollout: devices go back, or keep what they have."""
    _steer(number, "abort", {"mode": mode, "reason": reason}, connection)


@app.command
def retry(number: int, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Give the version again to every device on which it failed."""
    _steer(number, "retry", {"reason": reason}, connection)


@app.command
def rollback(
    number: int,
    /,
    *,
    device: Annotated[
        tuple[str, ...], Parameter(help="This one alone; may be given again.", negative="")
    ] = (),
    stage: Annotated[int | None, Parameter(help="All devices of this stage, counted from 1.")] = None,
    override: Annotated[
        bool, Parameter(negative="", help="Also when the rollback window of the plan is over.")
    ] = False,
    reason: Reason = "",
    connection: Connection = HERE,
) -> None:
    """Send the whole cohort, a stage or some devices back to the previous version."""
    if device and stage is not None:
        raise UsageError("--device or --stage, not both; without either the whole cohort goes back")
    if stage is not None and stage < 1:
        raise UsageError(f"--stage: expected the number of a stage, counted from 1, got {stage}")
    if not all(device):
        raise UsageError("--device: expected the id of a device, got nothing")
    body = {"devices": list(device), "stage": stage, "override": override, "reason": reason}
    who = counted(len(device), "device") if device else "the cohort" if stage is None else f"stage {stage}"
    with connection.open() as api:
        detail = api.post(f"/rollouts/{number}/rollback", body)
    said = f"{who} of rollout {number} goes back; the rollout is {detail['rollout']['phase']}"
    write_outcome(connection.output, detail, said)


def _steer(number: int, command: str, body: dict[str, Any], connection: Connection) -> None:
    with connection.open() as api:
        detail = api.post(f"/rollouts/{number}/{command}", body)
    write_outcome(connection.output, detail, f"rollout {number} is {detail['rollout']['phase']}")


def _ending(rollout: dict[str, Any], *, until_hold: bool) -> Exit | None:
    """Return how a watch ends; None while it goes on."""
    if rollout["phase"] == DONE:
        return Exit.OK
    if rollout["phase"] in FAILED:
        return Exit.ROLLOUT_FAILED
    holds = rollout["phase"] == "running" and rollout["step"] == "hold"
    return Exit.HOLDS if until_hold and (holds or rollout["phase"] in WAITS_FOR_A_PERSON) else None


@contextlib.contextmanager
def _showing(output: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Return what shows a rollout again and again: in place on a terminal, else what is new, line by line."""
    from muster_controller.cli import rollout_live  # noqa: PLC0415 - most commands draw nothing

    if output != "json" and rollout_live.is_live():
        with rollout_live.on_screen() as show:
            yield show
    else:
        yield _Lines(output).tell


class _Lines:
    """Prints what is new: the line of the state, then the gates of a new look."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._shown: tuple[str, object] = ("", None)

    def tell(self, detail: dict[str, Any]) -> None:
        """Print what is new since the last time."""
        rollout, evidence = detail["rollout"], detail["evidence"]
        state = f"{rollout['phase']}, stage {rollout['stage'] + 1} of {rollout['stages']}, {rollout['step']}"
        line = f"{state}: {rollout['verdict']}; {text(rollout['waiting'] or rollout['reason'])}"
        look = None if evidence is None else [evidence["stage"], evidence["rounds"], _verdicts(evidence)]
        before, self._shown = self._shown, (line, look)
        if (line, look) == before:
            return
        if self._output == "json":
            write_line({**rollout, "evidence": evidence})
            return
        if line != before[0]:
            write_text(line)
        if evidence is not None and look != before[1]:
            tables.show_gates(evidence)


def _verdicts(evidence: dict[str, Any]) -> list[str]:
    return [gate["verdict"] for gate in evidence["gates"]]

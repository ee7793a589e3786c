"""``muster rollout``: planning, starting, steering and watching rollouts."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from cyclopts import App, Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.exits import Exit, UsageError
from muster_controller.cli.output import (
    note,
    text,
    write_fields,
    write_json,
    write_line,
    write_outcome,
    write_section,
    write_table,
    write_text,
)
from muster_controller.domain.rollouts.terms import parse_share, parse_stages
from muster_models.errors import Reason as Code
from muster_models.errors import RequestError, TransferError

Parsed = TypeVar("Parsed")

app = App(name="rollout", help="Moving devices to a version, in stages that are judged.")
HERE = Connection()
POLL_SECONDS: Final = 1.0
DEFAULT_STAGES: Final = "5%,25%,100%"  # the plan's own
DONE: Final = "completed"
FAILED: Final = frozenset({"rolled-back", "rollback-incomplete", "aborted"})

Reason = Annotated[str, Parameter(help="Why, for the audit trail.")]
Name = Annotated[str, Parameter(name="VERSION", help="MODEL@VERSION or a digest.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Terms:
    """To whom and under which conditions a version is rolled out; what is left out has the plan's default."""

    where: Annotated[str, Parameter(help="A selector over labels, such as 'site in (berlin, oslo)'.")] = "all"
    previous: Annotated[str | None, Parameter(help="MODEL@VERSION that a rollback returns to.")] = None
    stages: Annotated[str | None, Parameter(help="Shares or numbers of devices, such as 1,25%,100%.")] = None
    control: Annotated[str | None, Parameter(help="Share that stays on the previous version: 25%.")] = None
    soak: Annotated[float | None, Parameter(help="Seconds that each stage runs at least.")] = None
    minimum_rounds: Annotated[
        int | None, Parameter(help="Rounds of windows that both arms must show in each stage.")
    ] = None
    before_rounds: Annotated[
        int | None, Parameter(help="Rounds of windows to be seen of both arms before the first stage.")
    ] = None
    budget: Annotated[float | None, Parameter(help="Probability of rolling back what is no worse.")] = None
    probation: Annotated[float | None, Parameter(help="Seconds in which a device goes back by itself.")] = (
        None
    )
    shadow: Annotated[float | None, Parameter(help="Seconds in which it answers unseen first.")] = None
    shadow_share: Annotated[str | None, Parameter(help="Share of calls that it answers so: 25%.")] = None
    shadow_cpu: Annotated[float | None, Parameter(help="Per cent of a core that this may take.")] = None
    deadline: Annotated[float | None, Parameter(help="Seconds until an undecided stage holds.")] = None
    seed: Annotated[str | None, Parameter(help="The same seed draws the same devices.")] = None

    def body(self) -> dict[str, Any]:
        """Return what the API understands.

        Raises:
            UsageError: A stage or a share is not of the expected form.
        """
        return drop_none(
            selector=self.where,
            previous=self.previous,
            stages=self._stages(),
            control=None if self.control is None else typed(parse_share, self.control),
            before_rounds=self.before_rounds,
            error_budget=self.budget,
            probation_seconds=self.probation,
            shadow=self._shadow(),
            stage_deadline_seconds=self.deadline,
            seed=self.seed,
        )

    def _shadow(self) -> dict[str, Any] | None:
        share = None if self.shadow_share is None else typed(parse_share, self.shadow_share)
        conditions = drop_none(share=share, cpu_percent=self.shadow_cpu)
        if self.shadow is None:
            if conditions:
                raise UsageError("--shadow says for how many seconds; without it there is no shadow")
            return None
        return {"seconds": self.shadow, **conditions}

    def _stages(self) -> list[dict[str, Any]] | None:
        conditions = drop_none(soak_seconds=self.soak, minimum_rounds=self.minimum_rounds)
        if self.stages is None and not conditions:
            return None
        return [{**stage, **conditions} for stage in typed(parse_stages, self.stages or DEFAULT_STAGES)]


TERMS = Terms()
ROLLOUTS = {
    "rollout": "id",
    "version": "version.name",
    "selector": "selector",
    "phase": "phase",
    "step": "step",
    "stage": "progress",
    "verdict": "verdict",
    "waits for": "waiting",
    "updated": "updated_at",
}
STAGES = {
    "stage": "number",
    "percent": "percent",
    "count": "count",
    "devices": "devices",
    "total": "total",
    "soak s": "soak_seconds",
    "rounds": "minimum_rounds",
    "names": "names",
}
GATES = {
    "gate": "name",
    "verdict": "verdict",
    "effect": "effect",
    "margin": "margin",
    "unit": "unit",
    "e-value": "evidence",
    "bound": "bound",
    "detail": "detail",
}
SHADOW = {
    "beside": "version.name",
    "devices": "devices",
    "rows": "rows",
    "agreement": "agreement",
    "mean difference": "difference",
    "calls": "calls.calls",
    "failed": "calls.errors",
    "not asked": "dropped",
    "median ms": "calls.median_ms",
    "95 % ms": "calls.slow_ms",
    "current median ms": "beside.median_ms",
    "current 95 % ms": "beside.slow_ms",
}
DEVICES = {
    "device": "device",
    "arm": "arm",
    "outcome": "outcome",
    "runs": "current.name",
    "phase": "phase",
    "reason": "reason",
    "detail": "detail",
}


@app.command
def plan(version: Name, /, *, terms: Terms = TERMS, connection: Connection = HERE) -> None:
    """Show what a rollout would do; nothing is started."""
    with connection.open() as api:
        view = api.post("/rollouts/plan", {"version": version, **terms.body()})
    if connection.output == "json":
        write_json(view)
        return
    write_fields(
        view,
        {
            "version": "version.name",
            "previous": "previous.name",
            "selector": "plan.selector",
            "cohort": "cohort",
            "reachable": "reachable",
            "control": "control",
            "seed": "plan.seed",
        },
    )
    write_section("Stages", view["stages"], STAGES)
    for obstacle in view["obstacles"]:
        note(f"cannot start: {obstacle}")


@app.command
def start(
    version: Name, /, *, terms: Terms = TERMS, reason: Reason = "", connection: Connection = HERE
) -> None:
    """Start a rollout."""
    with connection.open() as api:
        detail = api.post("/rollouts", {"version": version, "reason": reason, **terms.body()})
    write_outcome(
        connection.output,
        detail,
        f"rollout {detail['rollout']['id']} of {detail['rollout']['version']['name']} has started",
    )


@app.command(name="list")
def list_rollouts(
    *,
    model: str | None = None,
    phase: str | None = None,
    live: Annotated[bool | None, Parameter(negative="", help="Only those that are not over.")] = None,
    limit: int = 50,
    connection: Connection = HERE,
) -> None:
    """List rollouts, newest first."""
    with connection.open() as api:
        found = list(api.items("/rollouts", {"model": model, "phase": phase, "live": live}, limit=limit))
    if connection.output == "json":
        write_json(found)
        return
    for rollout in found:
        rollout["progress"] = f"{rollout['stage'] + 1}/{rollout['stages']}"
    write_table(found, ROLLOUTS, empty="no rollout")


@app.command
def show(number: int, /, *, connection: Connection = HERE) -> None:
    """Show one rollout: stages, devices, gates and what they saw."""
    with connection.open() as api:
        detail = api.get(f"/rollouts/{number}")
        devices = list(api.items(f"/rollouts/{number}/devices", {}))
    if connection.output == "json":
        write_json({**detail, "devices": devices})
        return
    write_fields(
        detail["rollout"],
        {
            "rollout": "id",
            "version": "version.name",
            "previous": "previous.name",
            "selector": "selector",
            "phase": "phase",
            "step": "step",
            "verdict": "verdict",
            "waits for": "waiting",
            "reason": "reason",
            "devices": "denominators",
            "started": "created_at",
            "by": "created_by",
        },
    )
    write_section("Stages", detail["stages"], STAGES)
    evidence = detail["evidence"] or {"gates": [], "failures": {}}
    write_section("Gates", evidence["gates"], GATES)
    failures = [{"reason": reason, "count": count} for reason, count in evidence["failures"].items()]
    write_section("Failed devices", failures, {"reason": "reason", "devices": "count"})
    if detail["shadow"]:
        write_section("In shadow", detail["shadow"], SHADOW)
    write_section("Devices", devices, DEVICES)


@app.command
def watch(
    number: int,
    /,
    *,
    timeout: Annotated[float | None, Parameter(help="Seconds to wait at most.")] = None,
    connection: Connection = HERE,
) -> int:
    """Follow a rollout until it is over; exit 0 only when it completed, 6 when it did not, 7 on timeout."""
    deadline = None if timeout is None else time.monotonic() + timeout
    with connection.open() as api:
        shown = ""
        while True:
            rollout = api.get(f"/rollouts/{number}")["rollout"]
            shown = _tell(rollout, shown, connection)
            if rollout["phase"] == DONE:
                return Exit.OK
            if rollout["phase"] in FAILED:
                return Exit.ROLLOUT_FAILED
            if deadline is not None and time.monotonic() >= deadline:
                raise TransferError(f"rollout {number} is not over after {timeout:g} s", Code.TIMED_OUT)
            time.sleep(POLL_SECONDS)


@app.command
def pause(number: int, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Stop admission and promotion; harm still rolls back."""
    _steer(number, "pause", {"reason": reason}, connection)


@app.command
def resume(number: int, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """Go on after a pause or a hold, and acknowledge the failures seen so far."""
    _steer(number, "resume", {"reason": reason}, connection)


@app.command
def promote(number: int, /, *, reason: Reason = "", connection: Connection = HERE) -> None:
    """End the stage as if it had been judged healthy."""
    _steer(number, "promote", {"reason": reason}, connection)


@app.command
def abort(
    number: int,
    /,
    *,
    mode: Annotated[Literal["keep", "revert"], Parameter(help="What becomes of updated devices.")] = "revert",
    reason: Reason = "",
    connection: Connection = HERE,
) -> None:
    """End a rollout: devices go back, or keep what they have."""
    _steer(number, "abort", {"mode": mode, "reason": reason}, connection)


def typed(parse: Callable[[str], Parsed], word: str) -> Parsed:
    """Return what a word of the command line says.

    Raises:
        UsageError: It is not of the expected form, so that no server needs to be asked.
    """
    try:
        return parse(word)
    except RequestError as error:
        raise UsageError(str(error)) from error


def drop_none(**fields: Any) -> dict[str, Any]:
    """Return the fields that say something."""
    return {name: value for name, value in fields.items() if value is not None}


def _steer(number: int, command: str, body: dict[str, Any], connection: Connection) -> None:
    with connection.open() as api:
        detail = api.post(f"/rollouts/{number}/{command}", body)
    write_outcome(connection.output, detail, f"rollout {number} is {detail['rollout']['phase']}")


def _tell(rollout: dict[str, Any], shown: str, connection: Connection) -> str:
    state = f"{rollout['phase']}, stage {rollout['stage'] + 1} of {rollout['stages']}, {rollout['step']}"
    line = f"{state}: {rollout['verdict']}; {text(rollout['waiting'] or rollout['reason'])}"
    if line != shown:
        if connection.output == "json":
            write_line(rollout)
        else:
            write_text(line)
    return line

"""``muster reporting`` and ``muster drift plan``: how devices report, what it costs, and what it buys."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.exits import UsageError
from muster_controller.cli.output import note, write_fields, write_json, write_section

app = App(name="reporting", help="How every device reports.")
HERE = Connection()
Reason = Annotated[str, Parameter(help="Why, for the audit trail.")]
REPORTING = {
    "window seconds": "window_seconds",
    "window rows": "window_rows",
    "sample": "sample",
    "heartbeat seconds": "heartbeat_seconds",
    "save seconds": "save_seconds",
    "epsilon": "epsilon",
    "ordered": "changed_at",
}
CATCHES = {"shift (sd)": "shift", "on": "on", "windows": "windows", "hours": "hours"}
SMALLEST = {"on": "level", "in days": "days", "smallest shift (sd)": "shift"}


@app.command(name="show")
def show(*, connection: Connection = HERE) -> None:
    """Show how every device reports."""
    with connection.open() as api:
        _show(api.get("/reporting"), connection)


@app.command(name="set")
def change(
    *,
    window_seconds: Annotated[float | None, Parameter(help="Length of a window.")] = None,
    window_rows: Annotated[int | None, Parameter(help="Rows that end a window early; 0 for never.")] = None,
    sample: Annotated[float | None, Parameter(help="Share of rows that are sketched.")] = None,
    heartbeat_seconds: Annotated[float | None, Parameter(help="Time between reports.")] = None,
    save_seconds: Annotated[
        float | None, Parameter(help="Between copies of the open window on disk.")
    ] = None,
    epsilon: Annotated[float | None, Parameter(help="Of differential privacy; 0 for no noise.")] = None,
    reason: Reason,
    connection: Connection = HERE,
) -> None:
    """Change how every device of the fleet reports, from its next desired state on."""
    given = {
        "window_seconds": window_seconds,
        "window_rows": window_rows,
        "sample": sample,
        "heartbeat_seconds": heartbeat_seconds,
        "save_seconds": save_seconds,
        "epsilon": epsilon,
    }
    fields = {name: value for name, value in given.items() if value is not None}
    if not fields:
        raise UsageError(f"name what is to change: {', '.join('--' + n.replace('_', '-') for n in given)}")
    with connection.open() as api:
        _show(api.put("/reporting", {**fields, "reason": reason}), connection)


@app.command(name="reset")
def reset(*, reason: Reason, connection: Connection = HERE) -> None:
    """Let controller.toml decide again how devices report."""
    with connection.open() as api:
        _show(api.post("/reporting/reset", {"reason": reason}), connection)


def plan(
    *,
    bytes_per_day: Annotated[float, Parameter(help="That the windows of one device may take.")],
    model: Annotated[
        str | None, Parameter(help="Take columns, devices and rows from a model and its last day.")
    ] = None,
    features: Annotated[int, Parameter(help="Where no model is named.")] = 20,
    devices: Annotated[int | None, Parameter(help="That run it.")] = None,
    rows_per_day: Annotated[float | None, Parameter(help="That one device answers.")] = None,
    design_effect: Annotated[
        float, Parameter(help="How many rows say as much as one that depends on no other.")
    ] = 1.0,
    shift: Annotated[float, Parameter(help="That should be noticed soon, in standard deviations.")] = 0.25,
    epsilon: Annotated[
        float | None, Parameter(help="Of differential privacy for each column and window; 0 for no noise.")
    ] = None,
    apply: Annotated[
        bool, Parameter(negative="", help="Let the whole fleet report so; needs --reason.")
    ] = False,
    reason: Reason = "",
    connection: Connection = HERE,
) -> None:
    """Show how devices should report within a budget of bytes, and which shifts that catches how soon.

    Reporting is one setting of the whole fleet: --apply changes it for every model.
    """
    if apply and not reason.strip():
        raise UsageError("--apply changes how the whole fleet reports: say why with --reason")
    query = {
        "bytes_per_day": bytes_per_day,
        "model": model,
        "features": features,
        "devices": devices,
        "rows_per_day": rows_per_day,
        "design_effect": design_effect,
        "shift": shift,
        "epsilon": epsilon,
    }
    with connection.open() as api:
        view = api.get("/drift/plan", query)
        if apply:
            chosen = {name: view[name] for name in ("window_seconds", "sample", "epsilon")}
            view["applied"] = api.put("/reporting", {**chosen, "reason": reason})
    if connection.output == "json":
        write_json(view)
        return
    _show_plan(view)
    if apply:
        note("every device of the fleet reports so from its next desired state on, for every model")


def _show(view: dict[str, Any], connection: Connection) -> None:
    if connection.output == "json":
        write_json(view)
    else:
        ordered = view["changed_at"] or "no: as controller.toml says"
        write_fields({**view, "changed_at": ordered}, REPORTING)


def _show_plan(view: dict[str, Any]) -> None:
    told = {
        "windows": f"{_duration(view['window_seconds'])} long, {view['sample']:.0%} of the rows: "
        f"{view['rows']} rows each",
        "bins": f"{view['bins']} of {view['columns']} columns, as their baseline has them",
        "bytes": f"{view['bytes_per_day']:.0f} a day, {view['bytes_per_window']:.0f} a window, "
        f"{view['bytes_per_feature']:.1f} a column",
        "heartbeats": f"{view['heartbeat_bytes_per_day']:.0f} bytes a day besides, which the budget does "
        "not cover",
        "false alarms": f"the first of the model after {view['run_length']:.0f} windows on average or "
        f"later: {view['false_alarm_days']:,.4g} days",
        "begins after": f"{view['calibration_days']:.3g} days, in which each device sets its level",
    }
    if view["epsilon"]:
        loss = view["loss"]
        told["privacy"] = (
            f"ε = {view['epsilon']:g} for each column and window; in a day of {loss['windows']} windows "
            f"{loss['basic']:.3g} by adding up, {loss['advanced']:.3g} by advanced composition "
            f"(δ = {loss['delta']:g}): the smaller holds"
        )
    write_fields(told, {title: title for title in told})
    catches = [{**one, "on": _on(one), "windows": one["windows"] or "not caught"} for one in view["catches"]]
    write_section("A shift of one feature that stays", catches, CATCHES)
    write_section("The smallest shift that is caught", view["smallest"], SMALLEST)


def _on(catch: dict[str, Any]) -> str:
    match catch["level"]:
        case "device":
            return "one device"
        case "group":
            return f"a group of {catch['devices']}"
        case _:
            return f"all {catch['devices']} devices"


def _duration(seconds: float) -> str:
    for name, unit in (("h", 3600), ("min", 60)):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"

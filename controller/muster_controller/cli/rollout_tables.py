"""How ``muster rollout`` shows plans, rollouts and gates to people."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from muster_controller.cli.output import (
    Columns,
    counted,
    note,
    text,
    write_fields,
    write_section,
    write_table,
    write_text,
)
from muster_controller.domain.rollouts.planning.terms import write_duration

ROLLOUTS: Final[Columns] = {
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
STAGES: Final[Columns] = {
    "stage": "number",
    "percent": "percent",
    "count": "count",
    "devices": "devices",
    "total": "total",
    "soak s": "soak_seconds",
    "rounds": "minimum_rounds",
    "names": "names",
}
GATES: Final[Columns] = {
    "gate": "name",
    "verdict": "verdict",
    "value": "value",
    "control": "control",
    "difference": "effect",
    "interval": "interval",
    "margin": "margin",
    "unit": "unit",
    "harm": "harm",
    "budget": "share",
    "samples": "samples",
    "detail": "detail",
}
SHADOW: Final[Columns] = {
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
DEVICES: Final[Columns] = {
    "device": "device",
    "arm": "arm",
    "outcome": "outcome",
    "runs": "current.name",
    "phase": "phase",
    "reason": "reason",
    "detail": "detail",
}
EDITS: Final[Columns] = {"at": "at", "by": "actor", "why": "reason", "changed": "detail.changes"}
INELIGIBLE: Final[Columns] = {"device": "device", "reason": "reason", "detail": "detail"}
POWERS: Final[Columns] = {
    "gate": "gate",
    "stage": "stage",
    "compared": "compared",
    "rounds": "rounds",
    "margin": "margin",
    "catches from": "smallest",
    "unit": "unit",
    "healthy after": "healthy",
}
TIMES: Final[Columns] = {
    "stage": "number",
    "windows open": "windows",
    "ramp and bytes": "pace",
    "trial": "trial",
    "soak and rounds": "soak",
    "rounds": "rounds",
    "in all": "seconds",
}
EXPLAINED: Final[Columns] = {
    "at": "at",
    "stage": "stage",
    "gate": "gate",
    "gauge": "gauge",
    "direction": "direction",
    "round": "rounds",
    "version": "level",
    "control": "control",
    "difference": "effect",
    "margin": "margin",
    "harm": "evidence",
    "unhealthy at": "bound",
    "health": "assurance",
    "healthy at": "needed",
}
VERDICTS: Final[Columns] = {
    "record": "id",
    "at": "at",
    "stage": "stage",
    "step": "step",
    "verdict": "verdict",
    "again": "again",
    "gates that agree": "agreeing",
}
GATES_AGAIN: Final[Columns] = {
    "record": "id",
    "gate": "name",
    "verdict": "verdict",
    "again": "again",
    "agrees": "agrees",
}
_PLAN: Final[Columns] = {
    "version": "version.name",
    "previous": "previous.name",
    "selector": "plan.selector",
    "cohort": "cohort",
    "reachable": "reachable",
    "control": "control",
    "seed": "plan.seed",
    "the draw": "reproduce",
    "downloads": "bytes",
    "starts": "starts_at",
    "earliest end": "end",
}


def show_plan(view: Mapping[str, Any]) -> None:
    """Print what a plan would do; what stands in its way goes to stderr."""
    shown = dict(view)
    each, total = view["bytes_each"], view["bytes_total"]
    shown["bytes"] = (
        f"{size(each)} for a device that has nothing of it, {size(total)} for all; deltas may make it less"
    )
    if view["before_seconds"]:
        shown["starts_at"] = f"{text(view['starts_at'])}, after {lasting(view['before_seconds'])} of windows"
    shown["end"] = (
        text(view["finish_at"]) if view["finish_at"] else "none by itself: it would hold, see Power"
    )
    write_fields(shown, _PLAN)
    write_section("Stages", view["stages"], STAGES)
    write_section("Time that each stage takes at least", [_times(one) for one in view["times"]], TIMES)
    title = f"Power: what each gate catches with probability {view['power']:.0%}"
    write_section(title, [_power(one) for one in view["powers"]], POWERS)
    if not view["powers"]:
        note("power: not known before windows of the previous version are here, or without a control")
    if view["previous"] and view["plan"]["control"] and not view["control"]:
        note("no control: one device alone has nothing to be compared with, the limits judge it")
    more = view["ineligible_total"] - len(view["ineligible"])
    write_section("Not reached, or not now", view["ineligible"], INELIGIBLE)
    if more:
        note(f"and {counted(more, 'device')} more")
    for obstacle in view["obstacles"]:
        note(f"cannot start: {obstacle}")


def show_rollout(detail: Mapping[str, Any], devices: Sequence[Mapping[str, Any]]) -> None:
    """Print one rollout: stages, gates, failures, devices."""
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
    write_section("Gates", [describe_gate(gate) for gate in evidence["gates"]], GATES)
    checks = [describe_gate(gate) for gate in evidence.get("experiment", ())]
    write_section(
        "Checks on the experiment", checks, {"check": "name", "verdict": "verdict", "detail": "detail"}
    )
    failures = [{"reason": reason, "count": count} for reason, count in evidence["failures"].items()]
    write_section("Failed devices", failures, {"reason": "reason", "devices": "count"})
    if detail["shadow"]:
        write_section("In shadow", detail["shadow"], SHADOW)
    edits = [act for act in detail["audit"] if act["action"] == "rollout.edit"]
    write_section("Edits of the plan", edits, EDITS)
    write_section("Devices", devices, DEVICES)


def show_gates(evidence: Mapping[str, Any]) -> None:
    """Print the gates of one look, and what is missing."""
    write_text(f"  round {evidence['rounds']} of stage {evidence['stage'] + 1}: {evidence['verdict']}")
    for gate in evidence["gates"]:
        shown = describe_gate(gate)
        figures = (
            f"{text(shown['value'])} beside {text(shown['control'])}"
            if gate.get("control") is not None
            else ""
        )
        cells = (shown["name"], shown["verdict"], figures, shown["interval"], shown["harm"], shown["detail"])
        write_text("    " + "  ".join(cell for cell in map(str, cells) if cell))
    if evidence["missing"]:
        write_text(f"    still needed: {'; '.join(evidence['missing'])}")


def show_explained(found: Mapping[str, Any]) -> None:
    """Print the evidence round by round, every verdict, and whether it is what the rollout judged by."""
    write_table(found["rounds"], EXPLAINED, empty="no round has been compared yet")
    write_section("Verdicts", [_verdict_again(one) for one in found["verdicts"]], VERDICTS)
    newest = found["verdicts"][-1:]
    gates = [{"id": one["id"], **gate, "agrees": _agrees(gate)} for one in newest for gate in one["gates"]]
    write_section("Gates of the newest verdict", gates, GATES_AGAIN)
    same = "the same as the rollout judged by" if found["same"] else "NOT what the rollout judged by"
    verdicts = counted(len(found["verdicts"]), "verdict")
    note(f"{verdicts} computed again from {counted(found['windows'], 'window')}: {same}")
    if found["unchecked"]:
        note(f"too many windows to compute again: {', '.join(found['unchecked'])}")
    for one in found["differences"]:
        note(f"  {one}")


def _verdict_again(one: Mapping[str, Any]) -> dict[str, Any]:
    computed = [gate for gate in one["gates"] if gate["again"] is not None or gate["differences"]]
    agreeing = sum(not gate["differences"] for gate in computed)
    return {**one, "again": one["again"] or "nothing", "agreeing": f"{agreeing} of {len(one['gates'])}"}


def _agrees(gate: Mapping[str, Any]) -> str:
    if gate["differences"]:
        return "NO"
    return "yes" if gate["again"] is not None else "not computed"


def lasting(seconds: float | None) -> str:
    """Say how long something lasts, to three digits; a dash for what is not known."""
    if seconds is None:
        return "-"
    return write_duration(float(f"{seconds:.3g}"))


def size(length: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if length < 1000:  # noqa: PLR2004 - decimal prefixes
            return f"{length:.3g} {unit}"
        length /= 1000
    return f"{length:.3g} GB"


def describe_gate(gate: Mapping[str, Any]) -> dict[str, Any]:
    """Return a gate with its interval, its harm and its share in words."""
    low, high, spent = gate.get("low"), gate.get("high"), gate.get("spent")
    return {
        **gate,
        "interval": "" if low is None or high is None else f"[{low:+.3g}, {high:+.3g}]",
        "harm": "" if gate.get("bound") is None else f"{spent or 0.0:.0%} of the way",
        "share": f"{gate['share']:.0%}" if gate.get("share") else "",
    }


def _power(one: Mapping[str, Any]) -> dict[str, Any]:
    after = one["healthy_after"]
    return {
        **one,
        "compared": f"{one['devices']} with {one['control']}",
        "smallest": "nothing" if one["smallest"] is None else one["smallest"],
        "healthy": "maybe never" if after is None else counted(after, "round"),
    }


def _times(one: Mapping[str, Any]) -> dict[str, Any]:
    spans = ("windows", "pace", "trial", "soak", "seconds")
    return {**one, **{name: lasting(one[name]) for name in spans}, "rounds": one["rounds"] or "maybe never"}


def list_rollouts(found: Sequence[dict[str, Any]]) -> None:
    """Print rollouts, one a line."""
    for rollout in found:
        rollout["progress"] = f"{rollout['stage'] + 1}/{rollout['stages']}"
    write_table(found, ROLLOUTS, empty="no rollout")

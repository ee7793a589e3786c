"""``muster model``, ``version``, ``drift``, ``stop`` and ``start``."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cyclopts import App, Parameter

from muster_controller.cli.baseline import ORIGINS
from muster_controller.cli.connection import Connection
from muster_controller.cli.output import (
    counted,
    write_fields,
    write_json,
    write_outcome,
    write_section,
    write_table,
)

model = App(name="model", help="Named lines of versions.")
version = App(name="version", help="Releases of models.")
drift = App(name="drift", help="What models see, against their baselines.")
HERE = Connection()
Reason = Annotated[str, Parameter(help="Why, for the audit trail.")]

MODELS = {
    "model": "model",
    "versions": "versions",
    "newest": "newest.name",
    "assigned": "assigned",
    "stopped": "stop_ordered",
    "alarms": "firing",
}
VERSIONS = {
    "version": "name",
    "digest": "short",
    "release": "release",
    "runtime": "runtime",
    "bytes": "bytes",
    "metrics": "metrics",
    "devices": "running",
    "published": "published_at",
    "withdrawn": "withdrawn_at",
}
THRESHOLDS = {
    "metric": "metric",
    "minimum": "minimum",
    "maximum": "maximum",
    "measured": "value",
    "met": "met",
    "waiver": "waiver",
}
FEATURES = {
    "feature": "name",
    "psi": "psi",
    "ks": "ks",
    "js": "js",
    "wasserstein": "wasserstein",
    "mean": "mean",
    "baseline": "baseline_mean",
    "sd": "sd",
    "missing": "missing",
    "alarm": "alarm",
}


@model.command(name="list")
def list_models(*, connection: Connection = HERE) -> None:
    """List models."""
    with connection.open() as api:
        models = list(api.items("/models", {}))
    if connection.output == "json":
        write_json(models)
    else:
        write_table(models, MODELS, empty="nothing was published")


@version.command(name="list")
def list_versions(
    name: Annotated[str | None, Parameter(name="MODEL")] = None, /, *, connection: Connection = HERE
) -> None:
    """List versions, latest published first."""
    with connection.open() as api:
        versions = list(api.items("/versions", {"model": name}))
    if connection.output == "json":
        write_json(versions)
        return
    for one in versions:
        one["short"] = one["digest"][:12]
    write_table(versions, VERSIONS, empty="nothing was published")


@version.command(name="show")
def show_version(
    name: Annotated[str, Parameter(name="VERSION", help="MODEL@VERSION or a digest.")],
    /,
    *,
    connection: Connection = HERE,
) -> None:
    """Show one version: what it measured, what it was made of, where it runs."""
    with connection.open() as api:
        detail = api.get(f"/versions/{name}")
    if connection.output == "json":
        write_json(detail)
        return
    write_fields(
        detail,
        {
            "version": "version.name",
            "digest": "version.digest",
            "description": "version.description",
            "release": "version.release",
            "runtime": "version.runtime",
            "parent": "parent.name",
            "published": "version.published_at",
            "withdrawn": "version.withdrawn_at",
            "metrics": "version.metrics",
            "devices": "version.running",
        },
    )
    write_section("Thresholds", detail["version"]["thresholds"], THRESHOLDS)
    write_section(
        "Files",
        detail["manifest"]["files"],
        {"name": "name", "role": "role", "bytes": "length", "sha-256": "sha256"},
    )
    write_section(
        "Data", detail["datasets"], {"name": "name", "role": "role", "rows": "rows", "source": "source"}
    )
    write_section("Ran on", detail["runs"], {"device": "device", "since": "since", "until": "until"})


@drift.command(name="show")
def show_drift(
    name: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    subject: Annotated[str, Parameter(help="all, a group as LABEL=VALUE, or a device.")] = "all",
    seconds: Annotated[float | None, Parameter(help="How far back.")] = None,
    connection: Connection = HERE,
) -> None:
    """Show how far each feature is from its baseline, over recent windows."""
    with connection.open() as api:
        view = api.get(f"/models/{name}/drift", {"subject": subject, "seconds": seconds})
    if connection.output == "json":
        write_json(view)
        return
    write_fields(
        {**view, "origin": ORIGINS[view["origin"]]},
        {
            "subject": "subject",
            "baseline of": "origin",
            "from": "start",
            "to": "end",
            "devices": "devices",
            "windows": "windows",
            "rows": "rows",
            "errors": "errors",
            "not judged": "left_out",
        },
    )
    write_section("Features", view["features"], FEATURES)
    write_section(
        "Groups and devices",
        view["subjects"],
        {"subject": "subject", "rows": "rows", "moved most": "worst", "alarm": "firing"},
    )


def stop(
    name: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    reason: Reason = "",
    connection: Connection = HERE,
) -> None:
    """Make every device answer with the fallback that its version declares; without one, calls fail."""
    with connection.open() as api:
        answer = api.post(f"/models/{name}/stop", {"reason": reason})
    write_outcome(
        connection.output, answer, f"{name} is stopped: {tell_fallbacks(answer['model']['running'])}"
    )


def tell_fallbacks(running: Sequence[Mapping[str, Any]]) -> str:
    """Say what devices answer after a stop order, by the version that they run."""
    if not running:
        return "no device runs a version of it now; on one that installs it, what the version declares holds"
    return "; ".join(_tell_fallback(one) for one in running)


def _tell_fallback(one: Mapping[str, Any]) -> str:
    who = f"{counted(one['devices'], 'device')} with {one['version']['name']}"
    if one["fallback"] is None:
        return f"{who}: it declares no fallback, so calls fail with 'ordered'"
    return f"{who}: its fallback answers, {one['fallback']:g}"


def start(
    name: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    reason: Reason = "",
    connection: Connection = HERE,
) -> None:
    """Lift the order that stopped a model."""
    with connection.open() as api:
        answer = api.post(f"/models/{name}/start", {"reason": reason})
    write_outcome(connection.output, answer, f"{name} answers again")

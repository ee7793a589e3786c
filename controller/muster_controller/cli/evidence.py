"""``muster drift explain`` and ``export``: an alarm computed again, and what to compute it from."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from muster_controller.cli.connection import Connection
from muster_controller.cli.output import note, write_fields, write_json, write_line, write_section, write_text

HERE = Connection()
ABOUT = {"kind": "kind", "level": "level", "subject": "subject"}
SINCE = {"began": "began", "devices": "devices"}
ALARM = {
    **ABOUT,
    "feature": "feature",
    "what moved": "leg",
    "in its own unit": "own",
    **SINCE,
    "windows judged again": "windows",
}
LABELS = {
    **ABOUT,
    "version": "version.name",
    "metric": "metric",
    "signed": "signed",
    "still within it": "allowed",
    **SINCE,
    "entries judged again": "entries",
    "corrections": "corrections",
}
REASON = {**ABOUT, "since": "since", "fired": "fired_at"}
LABEL_STEPS = {
    "pushed": "at",
    "by": "actor",
    "window ends": "end",
    "labels": "labels",
    "wrong": "bad",
    "detector": "value",
    "bound": "bound",
    "highest": "highest",
    "of": "who",
    "of late": "recent",
    "state": "state",
}
CROSSINGS = {"feature": "name", "windows above": "above", "share": "share", "without drift": "without_drift"}
STEPS = {
    "round ends": "end",
    "detector": "value",
    "bound": "bound",
    "feature": "column",
    "effect": "effect",
    "of late": "recent",
    "devices": "devices",
    "state": "state",
}


def explain(
    alarm: int,
    /,
    *,
    rounds: Annotated[int, Parameter(help="How many rounds are shown.")] = 30,
    connection: Connection = HERE,
) -> None:
    """Compute an alarm again from the stored windows or labels, and print the evidence round by round."""
    with connection.open() as api:
        found = api.get(f"/alarms/{alarm}/explain", {"rounds": rounds})
    if connection.output == "json":
        write_json(found)
        return
    write_text(found["says"])
    match found["how"]:
        case "windows":
            _write_windows(found)
        case "labels":
            _write_labels(found)
        case _:
            write_fields(found, REASON)
            note(found["why"])


def _write_windows(found: dict[str, Any]) -> None:
    write_fields(found, ALARM)
    effect = f"effect ({found['unit']})"
    columns = {effect if title == "effect" else title: path for title, path in STEPS.items()}
    _write_evidence(found, columns)


def _write_labels(found: dict[str, Any]) -> None:
    write_fields(found, LABELS)
    bad = "wrong" if found["metric"] == "accuracy" else "sum of errors"
    columns = {bad if title == "wrong" else title: path for title, path in LABEL_STEPS.items()}
    _write_evidence(found, columns)


def _write_evidence(found: dict[str, Any], columns: dict[str, str]) -> None:
    write_section("evidence (natural logarithms)", found["steps"], columns)
    for difference in found["differences"]:
        note(f"what is stored differs: {difference}")
    if not found["differences"]:
        note(f"what is stored is what the {found['how']} say")
    if not found["complete"]:
        note(f"older {found['how']} were left out")


def export(model: str, /, *, connection: Connection = HERE) -> None:
    """Print the stored windows of a model and their baselines, one JSON object a line."""
    after = 0
    with connection.open() as api:
        while True:
            page: dict[str, Any] = api.get(f"/models/{model}/drift/export", {"after": after})
            for digest, baseline in page["baselines"].items():
                write_line({"baseline": digest, **baseline})
            for window in page["windows"]:
                write_line(window)
            if page["upto"] is None:
                return
            after = page["upto"]


def threshold(
    name: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    statistic: Annotated[
        Literal["psi", "ks", "js", "wasserstein", "linf"], Parameter(help="What is held against it.")
    ],
    above: Annotated[float, Parameter(help="The threshold, such as 0.2.")],
    subject: Annotated[str, Parameter(help="all, a group as LABEL=VALUE, or a device.")] = "all",
    seconds: Annotated[float | None, Parameter(help="How far back.")] = None,
    connection: Connection = HERE,
) -> None:
    """Hold a classic statistic of recent windows against a threshold, beside its false alarms."""
    query = {"statistic": statistic, "above": above, "subject": subject, "seconds": seconds}
    with connection.open() as api:
        view = api.get(f"/models/{name}/drift/threshold", query)
    if connection.output == "json":
        write_json(view)
        return
    write_fields(view, {"statistic": "statistic", "above": "threshold", "windows": "windows", "rows": "rows"})
    write_section("Features", view["features"], CROSSINGS)

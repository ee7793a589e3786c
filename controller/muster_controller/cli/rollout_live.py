"""A rollout as a terminal shows it while it is watched: the bar of its stages, and its gates."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from muster_controller.cli.output import text
from muster_controller.cli.rollout_tables import describe_gate

BAR: Final = 12  # characters of a stage, and of the way to a bound
COLUMNS: Final = ("gate", "verdict", "version", "control", "interval", "harm, of its budget", "detail")
STYLES: Final = {
    "healthy": "green", "completed": "green", "done": "green",
    "unhealthy": "bold red", "aborted": "red", "rolling-back": "red", "rolled-back": "red",
    "rollback-incomplete": "bold red",
    "inconclusive": "yellow", "paused": "yellow", "hold": "yellow", "pending-approval": "yellow",
    "running": "cyan", "now": "cyan",
}  # fmt: skip


class Showing(Protocol):
    """Shows a rollout as it is now."""

    def __call__(self, detail: Mapping[str, Any]) -> None:
        """Show it instead of what was shown before."""


def is_live() -> bool:
    """Tell whether what is printed goes to a terminal, where it can be printed over."""
    return sys.stdout.isatty()


@contextmanager
def on_screen(console: Console | None = None) -> Iterator[Showing]:
    """Show one rollout in place; what was shown last stays."""
    with Live(console=console or Console(), auto_refresh=False) as live:
        yield lambda detail: live.update(render(detail), refresh=True)


def render(detail: Mapping[str, Any]) -> RenderableType:
    """Return a rollout as it is shown: its state, stages, denominators, gates, and what is missing."""
    rollout, evidence = detail["rollout"], detail["evidence"]
    parts: list[RenderableType] = [_head(rollout), _stages(detail), _denominators(rollout)]
    if evidence is not None:
        parts.append(_gates(evidence))
        parts += [Text(f"still needed: {one}", style="yellow") for one in evidence["missing"]]
    return Group(*parts)


def _head(rollout: Mapping[str, Any]) -> Text:
    line = Text(f"rollout {rollout['id']}  {rollout['version']['name']}  ")
    for word in (rollout["phase"], rollout["step"], rollout["verdict"]):
        line.append(f"{word}  ", style=STYLES.get(word, ""))
    return line.append(text(rollout["waiting"] or rollout["reason"]))


def _stages(detail: Mapping[str, Any]) -> Text:
    """Return a bar for each stage: how many of its devices have an outcome."""
    rollout, line = detail["rollout"], Text()
    is_over = rollout["phase"] == "completed" or rollout["step"] == "finish"
    executed = rollout["denominators"]["executed"]
    for stage in detail["stages"]:
        index = stage["number"] - 1
        before = stage["total"] - stage["devices"]
        is_done = is_over or index < rollout["stage"]
        part = 1.0 if is_done else (executed - before) / max(stage["devices"], 1)
        style = STYLES["done"] if is_done else STYLES["now"] if index == rollout["stage"] else "dim"
        line.append(f"{stage['number']} ").append(bar(part), style=style)
        line.append(f" {stage['total']}  ")
    return line.append(f"control {len(detail['control'])}")


def _denominators(rollout: Mapping[str, Any]) -> Text:
    return Text("  ".join(f"{name} {count}" for name, count in rollout["denominators"].items()), style="dim")


def _gates(evidence: Mapping[str, Any]) -> Table:
    title = f"round {evidence['rounds']} of stage {evidence['stage'] + 1}: {evidence['verdict']}"
    table = Table(*COLUMNS, title=title, title_justify="left", box=None, pad_edge=False)
    for gate in evidence["gates"]:
        style = STYLES.get(gate["verdict"], "")
        table.add_row(*_cells(gate, style))
    return table


def _cells(gate: Mapping[str, Any], style: str) -> Iterable[RenderableType]:
    shown = describe_gate(gate)
    spent = "" if gate.get("bound") is None else f"{bar(gate.get('spent') or 0.0)} {shown['harm'].split()[0]}"
    plain = (
        text(shown["value"]),
        text(shown.get("control")),
        shown["interval"],
        spent,
        text(shown["detail"]),
    )
    return (Text(shown["name"]), Text(shown["verdict"], style=style), *map(Text, plain))


def bar(part: float) -> str:
    """Return a share between 0 and 1 as a bar; never full before it is, and never empty after its start."""
    full = round(min(max(part, 0.0), 1.0) * BAR)
    if 0 < part < 1:
        full = min(max(full, 1), BAR - 1)
    return "█" * full + "░" * (BAR - full)

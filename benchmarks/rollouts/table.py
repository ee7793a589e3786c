"""Rows of figures for people: on a terminal, and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = (
    "method", "stopped (95 %)", "promoted", "windows to stop", "windows to promote", "exposed, most",
    "share exposed", "windows to restored",
)  # fmt: skip


def percent(value: Sequence[float]) -> str:
    """Return a share with its interval, in per cent.

    >>> percent([0.01, 0.0033, 0.0232])
    '1 (0.3 to 2.3)'
    """
    share, low, high = (
        f"{100 * number:.2g}" if number < 0.0995 else f"{100 * number:.0f}" for number in value
    )
    return f"{share} ({low} to {high})"


def median(value: Sequence[float | None] | None, *, scale: float = 1.0) -> str:
    """Return a median with its interval; ``not`` where half of the rollouts or more never got there.

    >>> median([6.0, 6.0, 7.0])
    '6 (6 to 7)'
    >>> median([5.0, 5.0, 5.0])
    '5'
    """
    if value is None:
        return "-"
    told = ["not" if number is None else f"{scale * number:.3g}" for number in value]
    if told[0] == "not":
        return "not"
    return told[0] if told[1] == told[2] == told[0] else f"{told[0]} ({told[1]} to {told[2]})"


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one row as the cells under ``HEAD``."""
    return (
        row["method"],
        percent(row["stopped_share"]),
        f"{100 * row['promoted_share'][0]:.3g} %",
        median(row["windows_to_stop"]),
        median(row["windows_to_promote"]),
        f"{median(row['exposed'])}, {row['exposed_most']}",
        f"{median(row['exposed_share'], scale=100)} %",
        "never" if row["stopped"] and not row["restored"] else median(row["windows_to_restored"]),
    )


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table for a terminal, one block per case."""
    blocks = []
    for case in dict.fromkeys(row["case"] for row in rows):
        body = [HEAD, *(cells(row) for row in rows if row["case"] == case)]
        widths = [max(len(line[column]) for line in body) for column in range(len(HEAD))]
        laid = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in body)
        runs = next(row["runs"] for row in rows if row["case"] == case)
        blocks.append("\n".join((f"{case}: {runs} rollouts", *laid)))
    return "\n\n".join(blocks)


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table of a Markdown page."""
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))

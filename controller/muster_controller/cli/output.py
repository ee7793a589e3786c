"""What commands print: data on stdout, as a table for people or JSON for programs; notes on stderr."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Columns = Mapping[str, str]  # title -> path into the item, dots between steps
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def write_json(value: object) -> None:
    """Print JSON."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def write_line(value: object) -> None:
    """Print JSON on one line, as streams do, and flush it."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def write_text(text: str) -> None:
    """Print one line for people."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_outcome(output: str, answer: object, said: str) -> None:
    """Print what a command did: the server's answer where ``output`` is json, else one line for people."""
    if output == "json":
        write_json(answer)
    else:
        write_text(said)


def note(text: str) -> None:
    """Tell the person something that is not data."""
    sys.stderr.write(text + "\n")


def counted(count: int, noun: str) -> str:
    """Return a number of things as people say it: ``1 device``, ``2 devices``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def write_table(items: Iterable[Mapping[str, Any]], columns: Columns, *, empty: str) -> None:
    """Print one row per item; ``empty`` is told when there is none."""
    rows = [[text(pick(item, path)) for path in columns.values()] for item in items]
    if not rows:
        note(empty)
        return
    lines = [[title.upper() for title in columns], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def write_fields(item: Mapping[str, Any], fields: Columns) -> None:
    """Print one item, one line per field."""
    width = max(map(len, fields))
    for title, path in fields.items():
        sys.stdout.write(f"{title.ljust(width)}  {text(pick(item, path))}\n")


def write_section(title: str, items: Sequence[Mapping[str, Any]], columns: Columns) -> None:
    """Print a table with a title, or nothing when it would be empty."""
    if items:
        sys.stdout.write(f"\n{title}\n")
        write_table(items, columns, empty="")


def pick(item: object, path: str) -> Any:
    """Return what a dotted path leads to; None when a step is missing."""
    for step in path.split("."):
        if not isinstance(item, Mapping):
            return None
        item = item.get(step)
    return item


def text(value: object) -> str:
    """Return a JSON value for people."""
    match value:
        case _ if value in (None, "", [], {}):
            shown = "-"
        case bool():
            shown = "yes" if value else "no"
        case float():
            shown = f"{value:.4g}"
        case str() if _INSTANT.fullmatch(value):
            shown = f"{value[:19].replace('T', ' ')} UTC"
        case Mapping():
            shown = " ".join(f"{key}={text(entry)}" for key, entry in value.items())
        case list():
            shown = ", ".join(text(entry) for entry in value)
        case _:
            shown = str(value)
    return shown

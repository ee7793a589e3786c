"""``muster labels``: the truth that comes after predictions. Labels of devices are options of ``device``."""

import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from muster_controller.cli.connection import Api, Connection
from muster_controller.cli.exits import Exit, UsageError
from muster_controller.cli.output import note, write_fields, write_json, write_section, write_text

app = App(name="labels", help="What was true of predictions, when it is known.")
HERE = Connection()
AT_ONCE = 2_000  # lines of one request
TELL_SECONDS = 10.0
_COUNTS = ("device", "model", "version", "start", "end", "n", "sum_error", "sum_abs_error", "sum_sq_error")
_TEXTS = ("device", "model", "version")
_MAX_TOLD = 20
VERSIONS = {
    "version": "version.name",
    "metric": "metric",
    "signed": "signed",
    "labels": "measure.n",
    "value": "measure.value",
    "low": "measure.low",
    "high": "measure.high",
    "estimate without labels": "estimate.value",
    "of rows": "estimate.rows",
}
SUBJECTS = {
    "version": "version",
    "subject": "subject",
    "labels": "measure.n",
    "value": "measure.value",
    "low": "measure.low",
    "high": "measure.high",
    "alarm": "firing",
}


@app.command
def push(
    file: Annotated[Path, Parameter(name="FILE", help=".csv with columns id and label, or .jsonl.")],
    /,
    *,
    connection: Connection = HERE,
) -> int:
    """Push labels of predictions by their ids, or counts of windows; what is known changes nothing."""
    lines = _read(file)
    total = {"taken": 0, "repeated": 0, "corrected": 0, "refused": 0}
    refusals: list[dict[str, Any]] = []
    meter = _Meter()
    with connection.open() as api:
        for chunk in _chunks(lines):
            answer = _push(api, chunk)
            total = {name: count + answer[name] for name, count in total.items()}
            refusals += answer["refusals"]
            meter.tell(sum(total.values()), total["refused"])
    meter.close()
    if connection.output == "json":
        write_json({**total, "refusals": refusals})
    else:
        for one in refusals[:_MAX_TOLD]:
            note(f"{file}:{one['line']}: {one['message']}")
        if total["refused"] > _MAX_TOLD:
            note(f"{total['refused'] - _MAX_TOLD} more lines were refused")
        write_text(", ".join(f"{count} {name}" for name, count in total.items()))
    return Exit.ERROR if total["refused"] else Exit.OK


@app.command
def show(
    name: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    subject: Annotated[str, Parameter(help="all, a group as LABEL=VALUE, or a device.")] = "all",
    seconds: Annotated[float | None, Parameter(help="How far back.")] = None,
    connection: Connection = HERE,
) -> None:
    """Show accuracy or mean error by labels, with intervals, and the estimate without labels."""
    with connection.open() as api:
        view = api.get(f"/models/{name}/labels", {"subject": subject, "seconds": seconds})
    if connection.output == "json":
        write_json(view)
        return
    write_fields(view, {"subject": "subject", "from": "start", "to": "end"})
    if not view["versions"]:
        note("nothing was predicted or labelled in this period")
    write_section("Versions", view["versions"], VERSIONS)
    for one in view["versions"]:
        note(f"{one['version']['name']}: {one['selection']['caveat']}; intervals: {one['method']}")
        if one["estimate"] is not None:
            note(f"  the estimate assumes: {'; '.join(one['estimate']['assumptions'])}")
    rows = [{**row, "version": one["version"]["name"]} for one in view["versions"] for row in one["subjects"]]
    write_section("Groups and devices", rows, SUBJECTS)


def _push(api: Api, chunk: list[tuple[int, str]]) -> dict[str, Any]:
    """Push some lines; what is refused is named by its line in the file."""
    answer: dict[str, Any] = api.post_lines("/labels", "\n".join(line for _, line in chunk).encode())
    for one in answer["refusals"]:
        one["line"] = chunk[one["line"] - 1][0]
    return answer


def _chunks(lines: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    chunk: list[tuple[int, str]] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _read(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file as JSON, each with its number.

    Raises:
        UsageError: The file cannot be read, or has another form.
    """
    match file.suffix.lower():
        case ".csv":
            read = _csv
        case ".jsonl" | ".ndjson":
            read = _jsonl
        case other:
            raise UsageError(f"{file}: expected .csv or .jsonl, got {other or 'no suffix'}")
    try:
        yield from read(file)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file}: {error}") from error


def _jsonl(file: Path) -> Iterator[tuple[int, str]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line.strip()


def _csv(file: Path) -> Iterator[tuple[int, str]]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text)
        columns = tuple(rows.fieldnames or ())
        if set(columns) not in ({"id", "label"}, set(_COUNTS)):
            wanted = f"id,label or {','.join(_COUNTS)}"
            raise UsageError(f"{file}: expected the columns {wanted}, got {','.join(columns) or 'none'}")
        for row in rows:
            if None in row or None in row.values():
                raise UsageError(f"{file}:{rows.line_num}: expected {len(columns)} cells")
            is_id = "id" in columns
            yield (
                rows.line_num,
                json.dumps({name: row[name] if is_id else _cell(name, row[name]) for name in row}),
            )


def _cell(name: str, text: str) -> str | float:
    if name in _TEXTS:
        return text
    try:
        return int(text) if name == "n" else float(text)
    except ValueError:
        return text  # an instant in RFC 3339, or what the controller will refuse by its line


class _Meter:
    """Shows on stderr how far a push is: one line written over on a terminal, one now and then elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._next = time.monotonic() + TELL_SECONDS

    def tell(self, done: int, refused: int) -> None:
        """Take how many lines are done, and how many of them were refused."""
        said = f"{done} lines, {refused} refused"
        if self._is_terminal:
            sys.stderr.write(f"\r{said}\x1b[K")
            sys.stderr.flush()
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + TELL_SECONDS
            note(said)

    def close(self) -> None:
        """End the line."""
        if self._is_terminal:
            note("")

"""Results as rows: per method and case over all seeds, with intervals; as a table, or as a document."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from drift import sources
from drift.cases import CASES
from drift.judge import poisson, wilson
from drift.runs import Result
from muster_controller.domain.drift.detector import DriftConfig

TEMPLATE = Path(__file__).with_name("table.md")
PER = 1000.0
HEAD = (
    "case",
    "data",
    "method",
    "false per 1,000",
    "95 % interval",
    "flagged",
    "stated",
    "found",
    "delay",
    "extra",
    "bytes",
    "CPU us",
)


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return one row per case, set of data and method, in the order in which they were run; no times."""
    keys = dict.fromkeys((r.case, r.data, r.method) for r in results)
    return [
        {"case": case, "data": data, "method": method}
        | summary([r for r in results if (r.case, r.data, r.method) == (case, data, method)])
        for case, data, method in keys
    ]


def pooled(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return one row per case and method over all sets of data."""
    keys = dict.fromkeys((r.case, r.method) for r in results)
    made = []
    for case, method in keys:
        some = [r for r in results if (r.case, r.method) == (case, method)]
        data = sorted({r.data for r in some})
        made.append(
            {"case": case, "data": f"{len(data)} sets" if len(data) > 1 else data[0], "method": method}
            | summary(some)
        )
    return made


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """Return what some runs of one method say together.

    ``false_low`` and ``false_high`` are the exact Poisson interval, ``found_low`` and ``found_high`` are
    Wilson's. A subject that was not found has an infinite delay in the median (null).
    """
    windows = sum(r.score.feature_windows for r in results)
    false, incidents = sum(r.score.false for r in results), sum(r.incidents for r in results)
    subjects = sum(r.score.subjects for r in results)
    delays = [delay for r in results for delay in r.score.delays]
    flagged = [r.score.flagged for r in results if r.score.flagged is not None]
    allowed = [r.expected for r in results if r.expected is not None]
    low, high = poisson(false)
    share_low, share_high = wilson(len(delays), subjects)
    return {
        "runs": len(results), "feature_windows": windows, "incidents": incidents, "false": false,
        "false_per_1000": PER * false / windows,
        "false_low": PER * low / windows, "false_high": PER * high / windows,
        "flagged_per_1000": PER * sum(flagged) / windows if flagged else None,
        "stated_per_1000": PER * sum(allowed) / windows if allowed else None,
        "subjects": subjects, "found": len(delays), "found_low": share_low, "found_high": share_high,
        "delay": median_delay(delays, subjects), "parts": sum(r.score.parts for r in results),
        "bytes": round(statistics.fmean(r.bytes_sent for r in results), 2),
    }  # fmt: skip


def median_delay(delays: Iterable[int], subjects: int) -> float | None:
    """Return the median over subjects; None when half of them or more were not found.

    >>> median_delay([2, 4], 3), median_delay([2], 3)
    (4.0, None)
    """
    found = sorted(delays)
    padded = [*map(float, found), *[float("inf")] * (subjects - len(found))]
    middle = statistics.median(padded) if padded else float("inf")
    return middle if middle < float("inf") else None


def cost(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return CPU microseconds per feature-window by method: what differs from run to run."""
    made = []
    for method in dict.fromkeys(r.method for r in results):
        some = [r.cpu for r in results if r.method == method]
        device, fleet = (statistics.median(part) * 1e6 for part in zip(*some, strict=True))
        made.append({"method": method, "device_us": round(device, 2), "controller_us": round(fleet, 2)})
    return made


def document(results: Sequence[Result], asked: dict[str, Any]) -> dict[str, Any]:
    """Return everything: settings, the detector's configuration, rows, single runs, and the cost apart."""
    return {
        "asked": asked,
        "cases": {case.name: case.says for case in CASES},
        "detector": asdict(DriftConfig()),
        "rows": rows(results),
        "pooled": pooled(results),
        "runs": [result.plain() for result in results],
        "cost": cost(results),
    }


def lines(results: Sequence[Result]) -> str:
    """Return the table for people: one line per case and method."""
    times = {each["method"]: each["device_us"] + each["controller_us"] for each in cost(results)}
    body = [_line(row, times[row["method"]]) for row in pooled(results)]
    widths = [max(len(line[column]) for line in (HEAD, *body)) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (HEAD, *body)
    )


def markdown(results: Sequence[Result], command: str) -> str:
    """Return the table as a page: ``table.md`` with its fields filled in."""
    times = {each["method"]: each["device_us"] + each["controller_us"] for each in cost(results)}
    body = [_line(row, times[row["method"]]) for row in pooled(results)]
    ruled = [HEAD, ("---",) * len(HEAD), *body]
    return TEMPLATE.read_text(encoding="utf-8").format(
        command=command,
        machine=machine(),
        sets=", ".join(sources.NAMES),
        run_length=f"{DriftConfig().run_length:,.0f}",
        table="\n".join("| " + " | ".join(line) + " |" for line in ruled),
    )


def machine() -> str:
    """Return what a page was made on."""
    told = describe()
    return f"{told['processor']}, {told['python']}, numpy {np.__version__}"


def _line(row: dict[str, Any], microseconds: float) -> tuple[str, ...]:
    natural = row["case"].startswith("natural")
    return (
        row["case"],
        row["data"],
        row["method"],
        f"({PER * row['incidents'] / row['feature_windows']:.3g})"
        if natural
        else f"{row['false_per_1000']:.3g}",
        "natural drift" if natural else f"{row['false_low']:.2g} to {row['false_high']:.2g}",
        "" if row["flagged_per_1000"] is None else f"{row['flagged_per_1000']:.3g}",
        "" if row["stated_per_1000"] is None else f"{row['stated_per_1000']:.2g}",
        f"{row['found']} of {row['subjects']}" if row["subjects"] else "",
        "" if not row["subjects"] else "-" if row["delay"] is None else f"{row['delay']:g}",
        str(row["parts"] or ""),
        f"{row['bytes']:,.0f}",
        f"{microseconds:,.0f}",
    )

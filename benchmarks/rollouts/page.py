"""The page of operating characteristics, and the figures it is made of, side by side as Markdown and JSON.

Held-out seeds: nothing of the tests was chosen on them. Seeds 1 to 500 are there to develop on.
"""

import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from machine import describe

from rollouts.cases import (
    BAD,
    CASES,
    GOOD,
    LEVELS,
    LIMITS,
    MARGINS,
    NOISE,
    OF_SIZES,
    ROWS,
    SIZES,
    Case,
    powered,
    sized,
)
from rollouts.muster import BEFORE, METHOD
from rollouts.peers import PEERS
from rollouts.results import Result, summary
from rollouts.runs import METHODS, Job, run
from rollouts.table import HEAD, cells, markdown, median, percent

DEVELOPMENT = range(1, 501)
HELD_OUT = range(1001, 1371)
TEMPLATE = Path(__file__).with_name("page.md")
COMMAND = "scripts/bench rollouts --page docs/operating-characteristics.md"
NOTHING: Mapping[str, Any] = MappingProxyType({})
BUDGET = 0.01  # of false stops, as the plans have it
LEAST_CAUGHT = 0.95
# Fewer fleets where one takes long.
BAD_SEEDS = 80  # a share near 1 takes fewer to be known than one near 0
SEEDS_OF_SIZE = {20: 30, 100: 30, 1000: 40, 10_000: 20}  # a seed of the last two takes 8 and 18 s of CPU
MARGIN_SEEDS = 20
LIMIT_SEEDS = 40
STANDARD = "+0.25 sd, margin 0.1"
CRASH = "does not load anywhere"
EDGE = "moved by just the margin, 0.1 sd"  # neither to be stopped nor to be promoted


@dataclass(frozen=True)
class Part:
    """A part of the page: its cases and on which seeds, under which methods."""

    name: str
    jobs: tuple[Job, ...]


def parts(held_out: Sequence[int] = HELD_OUT) -> tuple[Part, ...]:
    """Return all that the page measures.

    Args:
        held_out: Seeds; a part that takes longer takes the first of them only.
    """
    ours = (METHOD,)
    every = tuple(held_out)
    return (
        Part("main", tuple(Job(case, every if case.good else every[:BAD_SEEDS]) for case in CASES)),
        Part(
            "sizes",
            tuple(
                Job(sized(case, size, noise), every[: SEEDS_OF_SIZE[size]])
                for case in OF_SIZES
                for size in SIZES
                for noise in LEVELS
            ),
        ),
        Part(
            "margins",
            tuple(
                Job(powered(margin, rows), every[:MARGIN_SEEDS], ours) for margin in MARGINS for rows in ROWS
            ),
        ),
        Part("limits", tuple(Job(case, every[:LIMIT_SEEDS], ours) for case in LIMITS)),
    )


def write(
    path: Path, held_out: Sequence[int], *, processes: int, kept: Path | None = None, more: bool = False
) -> None:
    """Measure everything and write the page, and its figures beside it as JSON.

    Args:
        held_out: Seeds.
        kept: Figures that were measured before; then nothing is measured.
        more: But for what was measured on other numbers of seeds than are wanted now.
    """
    known = json.loads(kept.read_text(encoding="utf-8")) if kept else {}
    wanted = parts(held_out) if more or not kept else ()
    document = known | measured(wanted, held_out, processes=processes, known=known) if wanted else known
    path.with_suffix(".json").write_text(dump(document), encoding="utf-8")
    path.write_text(render(document), encoding="utf-8")


def measured(
    chosen: Sequence[Part], seeds: Sequence[int], *, processes: int, known: Mapping[str, Any] = NOTHING
) -> dict[str, Any]:
    """Run all parts and return the figures; rows of ``known`` on as many seeds are taken as they are.

    Raises:
        SystemExit: What is known is of other seeds.
    """
    told = {"machine": _machine(), "first_seed": seeds[0], "last_seed": seeds[-1]}
    if any(known.get(name, told[name]) != told[name] for name in ("first_seed", "last_seed")):
        first, last = known["first_seed"], known["last_seed"]
        raise SystemExit(f"scripts/bench rollouts: the document is of the seeds {first}..{last}: name them")
    return told | {part.name: list(_rows(part, processes, known.get(part.name, ()))) for part in chosen}


def _rows(part: Part, processes: int, known: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    rows = {(row["case"], row["method"]): row for row in known}
    missing = tuple(job for job in part.jobs if _runs(rows, job) != {len(job.seeds)})
    held: dict[tuple[str, str], list[Result]] = {}
    for result in run(missing, processes=processes):
        held.setdefault((result.case, result.method), []).append(result)
    rows |= {name: _rounded(summary(results)) for name, results in held.items()}
    return (rows[job.case.name, method] for job in part.jobs for method in job.methods)


def _runs(rows: Mapping[tuple[str, str], Mapping[str, Any]], job: Job) -> set[int]:
    """Return on how many seeds a job's rows rest; 0 for a row that is not there."""
    return {rows.get((job.case.name, method), {"runs": 0})["runs"] for method in job.methods}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(held) for name, held in value.items()}
    return [_rounded(held) for held in value] if isinstance(value, list) else value


def dump(document: Mapping[str, Any]) -> str:
    """Return figures as JSON, one row a line."""
    named = (
        f"{json.dumps(name)}: {json.dumps(value)}"
        if not isinstance(value, list)
        else f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(row) for row in value) + "\n]"
        for name, value in document.items()
    )
    return "{\n" + ",\n".join(named) + "\n}\n"


def described(case: Case) -> dict[str, Any]:
    """Return what a case is, for a document."""
    return {
        "name": case.name, "good": case.good, "plant": asdict(case.plant), "setting": asdict(case.setting),
        "plan": case.document, "windows": case.windows,
    }  # fmt: skip


def render(document: Mapping[str, Any]) -> str:
    """Return the page: ``page.md`` with its fields filled in."""
    main, sizes = document["main"], document["sizes"]
    return TEMPLATE.read_text(encoding="utf-8").format(
        command=COMMAND,
        machine=document["machine"],
        development=f"{DEVELOPMENT[0]} to {DEVELOPMENT[-1]}",
        held_out=f"{document['first_seed']} to {document['last_seed']}",
        before=BEFORE,
        figures=_figures(main),
        noise=_noise(),
        methods=markdown(
            ("method", "what it does", "restated from"), [(p.name, p.rule, p.source) for p in PEERS]
        ),
        good="\n\n".join(_block(main, case) for case in GOOD),
        bad="\n\n".join(_block(main, case) for case in BAD),
        false_sizes="\n\n".join(_sizes(sizes, case.name) for case in OF_SIZES if case.good),
        caught_sizes="\n\n".join(_sizes(sizes, case.name) for case in OF_SIZES if not case.good),
        margins=_margins(document["margins"]),
        limits=_limits(document),
    )


def _machine() -> str:
    told = describe()
    return f"{told['processor']}, {told['python']}, numpy {np.__version__}, {platform.system()}"


def _of(rows: Iterable[Mapping[str, Any]], case: str, method: str = METHOD) -> Mapping[str, Any]:
    return next(row for row in rows if row["case"] == case and row["method"] == method)


def _figures(main: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of the goals that these simulations can give, met or not."""
    good = [_of(main, case.name) for case in GOOD]
    shift, crash = _of(main, STANDARD), _of(main, CRASH)
    share, low, _ = shift["stopped_share"]
    caught = "yes" if low >= LEAST_CAUGHT else _met(share >= LEAST_CAUGHT, "so far")
    delay = shift["windows_to_stop"]
    body = [
        (
            f"false stops: {row['case']}",
            "at most 1 %",
            f"{percent(row['stopped_share'])} %",
            _kept(row["stopped_share"]),
        )
        for row in good
    ]
    body += [
        (
            f"caught: {STANDARD}, 5 canaries, 45 controls, 300 rows",
            "at least 95 %",
            f"{percent(shift['stopped_share'])} %",
            caught,
        ),
        (
            "windows until then, median",
            "at most 8",
            median(delay),
            _within(delay, 8),
        ),
        (
            f"stopped within the first stage: {CRASH}",
            "100 %, at most 5 devices",
            f"{percent(crash['stopped_share'])} %, at most {crash['exposed_most']}",
            _met(crash["stopped_share"][0] == 1 and crash["exposed_most"] <= 5),
        ),
    ]
    return markdown(("what", "goal", "measured (95 % interval)", "met"), body)


def _met(goal: object, how: str = "yes") -> str:
    return how if goal else "**no**"


def _within(delay: Sequence[float | None] | None, most: float) -> str:
    """Return whether a median is at most so much: for sure, or as far as one can see."""
    ends = [None] if delay is None else [delay[0], delay[2]]
    kept = [end is not None and end <= most for end in ends]
    return "yes" if all(kept) else _met(kept[0], "so far")


def _kept(share: Sequence[float]) -> str:
    """Return whether a share of false stops is within the budget: for sure, or as far as one can see."""
    measured, _, high = share
    return "yes" if high <= BUDGET else _met(measured <= BUDGET, "so far")


def _noise() -> str:
    names = (
        "rows", "uneven", "offsets", "correlation", "wander", "memory", "bursts", "season", "unlike",
        "silent", "failing",
    )  # fmt: skip
    body = [(level, *(f"{getattr(setting, name):g}" for name in names)) for level, setting in NOISE.items()]
    return markdown(("noise", *names), body)


def _block(rows: Sequence[Mapping[str, Any]], case: Case) -> str:
    told = [_of(rows, case.name, method) for method in METHODS]
    table = markdown(HEAD, [cells(row) for row in told])
    return f"### {_title(case.name)}\n{told[0]['runs']} rollouts under each method.\n\n{table}"


def _title(name: str) -> str:
    return name[0].upper() + name[1:]


def _sizes(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Return one case over sizes and noise: what share of rollouts each method stopped."""
    body = [_size_line(rows, f"{name} | {size} | {noise}", size, noise) for size in SIZES for noise in LEVELS]
    head = ("devices", "noise", "rollouts", *METHODS, "Muster: windows to stop", "share exposed", "promoted")
    return f"### {_title(name)}\n{markdown(head, body)}"


def _size_line(rows: Sequence[Mapping[str, Any]], case: str, size: int, noise: str) -> tuple[str, ...]:
    ours = _of(rows, case)
    others = (f"{100 * _of(rows, case, peer.name)['stopped_share'][0]:.3g}" for peer in PEERS)
    return (
        f"{size:,}", noise, str(ours["runs"]), percent(ours["stopped_share"]), *others,
        median(ours["windows_to_stop"]), f"{median(ours['exposed_share'], scale=100)} %",
        f"{100 * ours['promoted_share'][0]:.3g} %",
    )  # fmt: skip


def _margins(rows: Sequence[Mapping[str, Any]]) -> str:
    body = []
    for row in rows:
        _, margin, count = row["case"].split(" | ")
        told = percent(row["stopped_share"]), median(row["windows_to_stop"])
        body.append((margin, count, str(row["runs"]), *told))
    return markdown(("margin, sd", "rows per window", "rollouts", "caught, %", "windows to stop"), body)


def _limits(document: Mapping[str, Any]) -> str:
    """Return a line for everything that misses its promise; these are limits, and not bugs of the page."""
    told = [_of(document["limits"], case.name) for case in LIMITS]
    told += [_of(document["main"], case.name) for case in GOOD]
    told += [row for row in document["sizes"] if row["method"] == METHOD and _is_good(row["case"])]
    loud = [
        f"- **False stops above the budget of 1 %**: {row['case']}: {percent(row['stopped_share'])} %."
        for row in told
        if row["stopped_share"][0] > BUDGET
    ]
    slow = [
        f"- **Good versions that were not promoted** in time: {row['case']}: "
        f"{row['runs'] - row['promoted'] - row['stopped']} of {row['runs']} were still held at the end."
        for row in told
        if row["runs"] - row["promoted"] - row["stopped"] > 0.05 * row["runs"] and row["case"] != EDGE
    ]
    bad = [row for row in (*document["main"], *document["sizes"]) if row["method"] == METHOD]
    blind = [
        f"- **Missed**: {row['case']}: {row['stopped']} of {row['runs']} caught, {row['promoted']} promoted."
        for row in bad
        if not _is_good(row["case"]) and row["stopped_share"][0] < LEAST_CAUGHT
    ]
    return "\n".join(loud + slow + blind) or "- In every row above the budget is kept and 95 % are caught."


def _is_good(case: str) -> bool:
    name = case.partition(" | ")[0]
    return any(name == known.name for known in (*GOOD, *LIMITS, *OF_SIZES) if known.good)

"""``scripts/bench rollouts``: false stops, power, delay and exposure of rollouts, Muster's and others'.

Every seed is another fleet, and every method sees the same one. The same seeds and settings print the same
document.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rollouts import page
from rollouts.cases import CASES, FEW, NOISE, SINCE, Case
from rollouts.fleet import Plant, Setting
from rollouts.muster import BEFORE
from rollouts.results import Result, plain, summary
from rollouts.runs import METHODS, Job, run
from rollouts.table import lines

SETTINGS = {"devices": int, "rows": int, "offsets": float}
PLANTED = {"effect": "shift", "points": "failing", "crash": "crash", "shift": "common"}
ASKED = "as asked"
DEVELOPMENT = f"{page.DEVELOPMENT[0]}..{page.DEVELOPMENT[-1]}"


def seeds_of(text: str) -> tuple[int, ...]:
    """Parse ``1..20`` or ``1,2,5``.

    Raises:
        ValueError: It is neither.
    """
    first, dots, last = text.partition("..")
    return tuple(range(int(first), int(last) + 1)) if dots else tuple(int(part) for part in text.split(","))


def listed(text: str, known: Sequence[str], what: str) -> list[str]:
    """Parse a list of names, or ``all``.

    Raises:
        SystemExit: A name is unknown; the message says which there are.
    """
    if text == "all":
        return list(known)
    names = [part.strip() for part in text.split(";")]
    for name in names:
        if name not in known:
            raise SystemExit(
                f"scripts/bench rollouts: unknown {what} {name!r}, expected all or: {'; '.join(known)}"
            )
    return names


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench rollouts", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=seeds_of, help=f"1..500 or 1,2,5 (default {DEVELOPMENT})")
    names = "; ".join(case.name for case in CASES)
    parser.add_argument("--case", help=f"all, or some with ; between: {names} (default all)")
    parser.add_argument(
        "--method", default="all", help=f"all, or some with ; between: {'; '.join(METHODS)} (default all)"
    )
    parser.add_argument("--noise", choices=tuple(NOISE), help="in place of each case's own")
    parser.add_argument("--devices", type=int, help="of the fleet")
    parser.add_argument("--rows", type=int, help="calls of a device in a window")
    parser.add_argument("--offsets", type=float, help="sd of what is peculiar to a device, in sd")
    parser.add_argument("--effect", type=float, help="shift of the new version's predictions, in sd")
    parser.add_argument("--points", type=float, help="failed calls of the new version in addition, a share")
    parser.add_argument("--crash", type=float, help="share of devices on which the new version does not load")
    parser.add_argument("--shift", type=float, help="shift of all devices, old version and new, in sd")
    parser.add_argument("--margin", type=float, help="of the prediction, in sd, in the plan")
    parser.add_argument("--windows", type=int, help="that are watched from the start of the rollout on")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    parser.add_argument(
        "--page", type=Path, help="write the operating characteristics there, and nothing else"
    )
    parser.add_argument("--document", type=Path, help="make --page from this document, and measure nothing")
    parser.add_argument(
        "--more", action="store_true", help="measure what --document has on another number of seeds"
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    return parser


def cases_of(asked: argparse.Namespace) -> list[Case]:
    """Return the cases asked for, with their settings; one of its own when only an effect was named."""
    planted = {PLANTED[name]: value for name in PLANTED if (value := getattr(asked, name)) is not None}
    if asked.case is None and planted:
        good = not any(planted.get(name) for name in ("shift", "failing", "crash"))
        plant = Plant(**planted, since=SINCE)
        return [_settled(Case(ASKED, plant, good=good), asked)]
    by_name = {case.name: case for case in CASES}
    names = listed(asked.case or "all", tuple(by_name), "case")
    return [
        _settled(replace(case, plant=replace(case.plant, **planted)), asked)
        for case in (by_name[name] for name in names)
    ]


def _settled(case: Case, asked: argparse.Namespace) -> Case:
    setting: Setting = NOISE[asked.noise] if asked.noise else case.setting
    changed = {name: value for name in SETTINGS if (value := getattr(asked, name)) is not None}
    plan: dict[str, Any] = dict(case.plan)
    if asked.margin is not None:
        plan["margins"] = {**FEW["margins"], "value": asked.margin}  # type: ignore[dict-item]
    return replace(
        case, setting=replace(setting, **changed), plan=plan, windows=asked.windows or case.windows
    )


def document(results: Sequence[Result], cases: Sequence[Case], asked: argparse.Namespace) -> dict[str, Any]:
    """Return everything that a run says, and what it was asked."""
    methods = list(dict.fromkeys(result.method for result in results))
    rows = [
        summary([result for result in results if (result.method, result.case) == (method, case.name)])
        for case in cases
        for method in methods
    ]
    told = {
        name: value
        for name, value in vars(asked).items()
        if name not in ("page", "document", "more", "output", "jobs")
    }
    return {
        "asked": told,
        "before": BEFORE,
        "cases": [page.described(case) for case in cases],
        "rows": rows,
        "runs": [plain(result) for result in results],
    }


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Run everything that was asked for, and return the document."""
    asked.seeds = asked.seeds or tuple(page.DEVELOPMENT)
    cases = cases_of(asked)
    methods = tuple(listed(asked.method, METHODS, "method"))
    jobs = [Job(case, asked.seeds, methods) for case in cases]
    return document(list(run(jobs, processes=asked.jobs)), cases, asked)


def main() -> None:
    """Measure, and print one table or one document."""
    asked = make_parser().parse_args()
    if asked.page:
        page.write(
            asked.page,
            asked.seeds or page.HELD_OUT,
            processes=asked.jobs,
            kept=asked.document,
            more=asked.more,
        )
        return
    made = measure(asked)
    print(json.dumps(made, indent=1) if asked.output == "json" else lines(made["rows"]))


if __name__ == "__main__":
    main()

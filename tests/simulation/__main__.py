"""``scripts/simulate``: runs seeds, and says of each what happened and which invariant broke."""

import argparse
import functools
import json
import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from simulation import report
from simulation.run import Outcome, simulate


def main() -> int:
    """Run the seeds that were asked for."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Let a simulated fleet live through faults. Every seed is reproducible; exit status 1 "
        "when an invariant broke.",
    )
    parser.add_argument("--seeds", type=seeds, default=seeds("1..20"), help="such as 7 or 1..200 (1..20)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--trace", action="store_true", help="print the history of every seed before its row")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # faults are what we came for
    is_table = arguments.output == "table"
    if is_table:
        _say(report.heading())
    outcomes = []
    for outcome in _run(arguments.seeds, arguments.jobs, keeps_log=arguments.trace):
        outcomes.append(outcome)
        if arguments.trace and is_table:
            _say("\n".join(outcome.log))
        if is_table:
            _say(report.line(report.row(outcome)))
    if is_table:
        _say(report.summary(report.add_up(outcomes)))
    else:
        _say(json.dumps(report.document(outcomes), indent=2))
    return int(any(outcome.broken for outcome in outcomes))


def seeds(text: str) -> range:
    """Parse ``7`` or ``1..200``."""
    first, _, last = text.partition("..")
    found = range(int(first), int(last or first) + 1)
    if not found:
        raise ValueError(text)
    return found


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _run(wanted: range, jobs: int, *, keeps_log: bool) -> Iterator[Outcome]:
    if jobs == 1 or len(wanted) == 1:
        yield from (simulate(seed, keeps_log=keeps_log) for seed in wanted)
        return
    with ProcessPoolExecutor(jobs, initializer=logging.disable) as pool:
        yield from pool.map(functools.partial(simulate, keeps_log=keeps_log), wanted)


if __name__ == "__main__":
    sys.exit(main())

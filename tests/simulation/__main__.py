"""``scripts/simulate``: runs seeds, and says of each what happened and which invariant broke."""

import argparse
import functools
import json
import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from simulation import report
from simulation.run import Outcome, live, simulate
from simulation.shrinking import shrink
from simulation.speed import measure
from simulation.story import decode, draw, encode
from simulation.words import tell


def main() -> int:
    """Run the seeds that were asked for."""
    arguments = _parser().parse_args()
    logging.disable(logging.CRITICAL)  # faults are what we came for
    if arguments.speed:
        _say(measure(arguments.devices).tell())
        return 0
    if arguments.shrink is not None:
        return _shrink(arguments.shrink)
    if arguments.story is not None:
        outcomes = iter([live(decode(arguments.story.read_bytes()), keeps_log=arguments.trace)])
    else:
        outcomes = _run(arguments.seeds, arguments.jobs, keeps_log=arguments.trace)
    return _report(outcomes, is_table=arguments.output == "table", is_traced=arguments.trace)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Let a simulated fleet live through faults. Every seed is reproducible; exit status 1 "
        "when an invariant broke.",
    )
    parser.add_argument("--seeds", type=seeds, default=seeds("1..20"), help="such as 7 or 1..200 (1..20)")
    parser.add_argument("--story", type=Path, help="a story that was written down, instead of seeds")
    parser.add_argument(
        "--shrink", type=int, metavar="SEED", help="make the story of a seed that breaks short"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--trace", action="store_true", help="print the history of every seed before its row")
    parser.add_argument(
        "--speed", action="store_true", help="print how much faster than real time a fleet lives"
    )
    parser.add_argument("--devices", type=int, default=100, help="of --speed (100)")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    return parser


def seeds(text: str) -> range:
    """Parse ``7`` or ``1..200``."""
    first, _, last = text.partition("..")
    found = range(int(first), int(last or first) + 1)
    if not found:
        raise ValueError(text)
    return found


def _report(outcomes: Iterator[Outcome], *, is_table: bool, is_traced: bool) -> int:
    lived = []
    if is_table:
        _say(report.heading())
    for outcome in outcomes:
        lived.append(outcome)
        if is_table:
            _say("\n".join([*(outcome.log if is_traced else ()), report.line(report.row(outcome))]))
    if is_table:
        _say(report.summary(report.add_up(lived)))
        _say("\n".join(report.ends(lived)))
    else:
        _say(json.dumps(report.document(lived), indent=2))
    return int(any(outcome.broken for outcome in lived))


def _shrink(seed: int) -> int:
    """Tell the short story of a seed that breaks."""
    outcome = live(draw(seed), keeps_log=True)
    if not outcome.broken:
        _say(f"no invariant breaks in seed {seed}")
        return 0
    _say(f"seed {seed} breaks: {outcome.broken[0]}\n{len(outcome.story.faults)} faults; making it shorter:")
    short = shrink(outcome, tell=lambda step: _say(f"  {step}"))
    path = Path(f"story-{seed}.json")
    path.write_bytes(encode(short.story))
    _say("\nThe story:")
    _say("\n".join(f"- {line}" for line in tell(short.story)))
    _say(f"- {short.seconds:.0f} s after the start it breaks: {short.broken[0]}")
    _say("\n".join(["", "Its last moments:", *short.log[-12:]]))
    _say(f"\nAgain: scripts/simulate --story {path} --trace")
    return 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _run(wanted: range, jobs: int, *, keeps_log: bool) -> Iterator[Outcome]:
    if jobs == 1 or len(wanted) == 1:
        yield from (simulate(seed, keeps_log=keeps_log) for seed in wanted)
        return
    with ProcessPoolExecutor(jobs, initializer=logging.disable) as pool:
        yield from pool.map(functools.partial(simulate, keeps_log=keeps_log), wanted, chunksize=4)


if __name__ == "__main__":
    sys.exit(main())

"""``scripts/bench drift``: false incidents, detection, bytes and CPU on public data, beside the peers.

Every seed takes another data set in turn, unless sets are named: then every seed runs on each of them. The
same seeds and settings print the same document but for its part ``cost``, which holds times.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drift import page, sources
from drift.beside import PEERS, Sample, environment, peer_result, sample
from drift.cases import CASES, Case
from drift.judge import Truth
from drift.muster import Windows
from drift.natural import PER_WINDOW
from drift.runs import Result, muster_result, planted, replayed, streamed
from drift.streams import FORMS
from drift.table import document, lines, markdown

SETTINGS = ("offsets", "autocorrelation", "season", "devices", "rows", "columns", "windows")
NATURAL = tuple(PER_WINDOW)
CASE_NAMES = tuple(case.name for case in CASES)


def seeds_of(text: str) -> list[int]:
    """Parse ``1..20`` or ``1,2,5``.

    Raises:
        ValueError: It is neither.
    """
    first, dots, last = text.partition("..")
    return list(range(int(first), int(last) + 1)) if dots else [int(part) for part in text.split(",")]


def listed(text: str, known: tuple[str, ...], what: str) -> list[str]:
    """Parse a list of names; ``all`` and ``none`` are known too.

    Raises:
        SystemExit: A name is unknown; the message says which there are.
    """
    if text in ("all", "none"):
        return list(known) if text == "all" else []
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in known:
            raise SystemExit(
                f"scripts/bench drift: unknown {what} {name!r}, expected all, none or: {', '.join(known)}"
            )
    return names


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench drift", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=seeds_of, default=seeds_of("1..20"), help="1..20 or 1,2,5 (default 1..20)"
    )
    parser.add_argument(
        "--dataset", default="dealt", help=f"dealt, all, none, or a list of: {', '.join(sources.NAMES)}"
    )
    parser.add_argument(
        "--case", default="all", help=f"all, none, or a list of: {', '.join(CASE_NAMES).replace('%', '%%')}"
    )
    parser.add_argument(
        "--streams", default="all", help=f"all, none, or a list of River's forms: {', '.join(FORMS)}"
    )
    parser.add_argument("--natural", default="all", help=f"all, none, or a list of: {', '.join(NATURAL)}")
    parser.add_argument("--peers", default="all", help=f"all, none, or a list of: {', '.join(PEERS)}")
    parser.add_argument(
        "--peer-seeds", type=int, default=1, help="peers see the first so many seeds (default 1)"
    )
    for name in SETTINGS:
        kind = float if name in SETTINGS[:3] else int
        parser.add_argument(f"--{name}", type=kind, help="of every case, in place of its own")
    parser.add_argument(
        "--page", type=Path, help="write the operating characteristics there, and nothing else"
    )
    parser.add_argument(
        "--wire", type=int, default=4, help="encode and decode every so many rounds (default 4)"
    )
    parser.add_argument("--table", type=Path, help="write the table there too, as a Markdown page")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    return parser


def fleets(asked: argparse.Namespace) -> Iterator[tuple[str, str, int, Any]]:
    """Yield case, data and seed, and a function that makes the fleet and the truth anew."""
    settings: Mapping[str, float] = {k: v for k in SETTINGS if (v := getattr(asked, k)) is not None}
    chosen = {name: sources.load(name) for name in _sets(asked.dataset)}
    names = listed(asked.case, CASE_NAMES, "case")
    for turn, name in enumerate(names):
        case = next(case for case in CASES if case.name == name)
        for at, seed in enumerate(asked.seeds):
            for data in _dealt(list(chosen), at + turn, asked.dataset):
                yield name, data, seed, _maker(case, chosen[data], settings, seed)
    for form in FORMS:
        if form in listed(asked.streams, FORMS, "form"):
            for seed in asked.seeds:
                yield f"River {form}", "stream", seed, lambda form=form, seed=seed: streamed(form, seed=seed)
    for name in listed(asked.natural, NATURAL, "natural set"):
        yield f"natural: {name}", name, 0, lambda name=name: replayed(sources.load(name))


def _sets(text: str) -> list[str]:
    return list(sources.NAMES) if text == "dealt" else listed(text, sources.NAMES, "data set")


def _dealt(names: list[str], at: int, text: str) -> list[str]:
    return [names[at % len(names)]] if text == "dealt" else names


def _maker(case: Case, source: sources.Source, settings: Mapping[str, float], seed: int) -> Any:
    return lambda: planted(case, source, settings, seed=seed)


def measure(asked: argparse.Namespace) -> list[Result]:
    """Run everything that was asked for; what goes on is told on stderr."""
    peers = listed(asked.peers, tuple(PEERS), "peer")
    pythons = {name: environment(PEERS[name].kind) for name in peers}
    beside = set(asked.seeds[: asked.peer_seeds]) | {0}
    results: list[Result] = []
    for case, data, seed, make in fleets(asked):
        sys.stderr.write(f"{case}: {data}, seed {seed}\n")
        fleet, truth = make()
        results.append(muster_result(fleet, truth, case=case, data=data, seed=seed, wire=asked.wire))
        if peers and seed in beside:
            results += _beside(pythons, make(), case, data, seed)
    return results


def _beside(
    pythons: Mapping[str, str], made: tuple[Windows, Truth], case: str, data: str, seed: int
) -> list[Result]:
    fleet, truth = made
    given: Sample = sample(fleet, truth)
    return [
        peer_result(name, python, given, truth, case=case, data=data, seed=seed)
        for name, python in pythons.items()
    ]


def main() -> None:
    """Measure, and print one table or one document."""
    asked = make_parser().parse_args()
    if asked.page:
        page.write(asked.page)
        return
    results = measure(asked)
    if asked.table:
        command = f"scripts/bench drift {' '.join(sys.argv[1:])}"
        asked.table.write_text(markdown(results, command), encoding="utf-8")
    if asked.output == "json":
        told = {k: v for k, v in vars(asked).items() if k not in ("page", "table", "output")}
        print(json.dumps(document(results, told), indent=1))
    else:
        print(lines(results))


if __name__ == "__main__":
    main()
